package main

import (
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed work/*.sh
var scripts embed.FS

// work is a piece of work done by real programs: a shell script with the verbs setup and run.
type work struct {
	name, title, what string
	size              func(config) int // how much of it: $SIZE of the script
	look              string           // what somebody else looks at when it is done; %d is the size
}

var works = []work{
	{"edit", "an editor's saves", "%d saves of each of 6 files in 3 directories, by vi and by `sed -i`, without fsync",
		func(c config) int { return c.Saves }, "src/a/one.go"},
	{"fsync", "an editor's saves, with fsync", "%d saves of each of 6 files in 3 directories, by vi as it is: it fsyncs what it has written",
		func(c config) int { return (c.Saves + 1) / 2 }, "src/a/one.go"},
	{"build", "a build", "`go build` of go-md2man and the package it needs, its temporary files on the mount, too",
		func(config) int { return 1 }, "module/prog"},
	{"git", "git commit", "`git init`, `git add` of Go's `src/encoding`, and %d commits more, without fsync (git's default for commits)",
		func(c config) int { return c.Commits }, "repo/.git/refs/heads/main"},
	{"tar", "tar x", "`tar x` of a part of Go's sources (%d files and directories)",
		func(c config) int { return c.files }, ""},
	{"mail", "a mail spool", "%d deliveries by write, link and remove, a third moved on, a sixth deleted, and a mailbox appended to, without fsync",
		func(c config) int { return c.Mails }, "mail/new/%d"},
}

// describe says what a work does, and how much.
func (w work) describe(c config) string {
	if !strings.Contains(w.what, "%d") {
		return w.what
	}
	return fmt.Sprintf(w.what, w.size(c))
}

// target is the file that somebody else looks at.
func (w work) target(c config) string {
	switch {
	case w.name == "tar":
		return "tree/" + c.lastFile
	case w.name == "mail":
		n := w.size(c)
		for n%3 == 0 { // those are moved on
			n--
		}
		return fmt.Sprintf(w.look, n)
	}
	return w.look
}

// do runs the script of a work in dir.
func (w work) do(ctx context.Context, c config, verb, dir string) error {
	name := w.name
	if name == "fsync" {
		name = "edit"
	}
	text, err := scripts.ReadFile("work/" + name + ".sh")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", string(text), w.name, verb) // the script knows its name as $0
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "IN="+c.input, "SIZE="+strconv.Itoa(w.size(c)), fmt.Sprintf("NONCE=%d", time.Now().UnixNano()), "TMPDIR="+c.tmp)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", w.name, verb, err, out)
	}
	return nil
}

// prepare makes what the works read, in dir.
func (c *config) prepare(ctx context.Context, dir string) error {
	c.input, c.tmp = filepath.Join(dir, "input"), filepath.Join(dir, "tmp")
	for _, d := range []string{c.input, c.tmp} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	root, err := output(ctx, "", "go", "env", "GOROOT")
	if err != nil {
		return err
	}
	src := filepath.Join(root, "src")
	module, err := output(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}", "github.com/cpuguy83/go-md2man/v2")
	if err != nil {
		return err
	}
	list, err := output(ctx, src, "find", c.Tree)
	if err != nil {
		return err
	}
	c.files = strings.Count(list, "\n") + 1
	in := func(name string) string { return filepath.Join(c.input, name) }
	for _, args := range [][]string{
		{"cp", filepath.Join(src, "net/http/transfer.go"), in("text")},
		{"cp", "-r", filepath.Join(src, "encoding"), in("small")},
		{"tar", "cf", in("tree.tar"), "-C", src, c.Tree},
		{"cp", "-r", module, in("module")},
		{"chmod", "-R", "u+w", in("module")},
	} {
		if _, err := output(ctx, "", args...); err != nil {
			return err
		}
	}
	names, err := output(ctx, "", "tar", "tf", in("tree.tar"))
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(names, "\n") {
		if !strings.HasSuffix(name, "/") {
			c.lastFile = name
		}
	}
	_, err = output(ctx, in("module"), "env", "GOWORK=off", "GOFLAGS=-mod=mod", "go", "mod", "vendor")
	return err
}

// output runs a program in dir and gives what it prints.
func output(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%v: %w: %s", args, err, &stderr)
	}
	return strings.TrimSpace(string(out)), nil
}
