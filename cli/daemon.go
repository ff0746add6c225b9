package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// detachedEnv tells a process that it is the background half: descriptor 3 is
// where it says that it is ready.
const detachedEnv = "ECHO9_DETACHED"

func daemonFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "go on in the background when all is ready"},
		&cli.StringFlag{Name: "log", Usage: "in the background, append messages to this `FILE`"},
	}
}

// detached starts the background half when --detach asks for it, and waits until
// that is ready or has failed. done is false for whoever is to do the work.
func detached(c *cli.Context) (done bool, err error) {
	if !c.Bool("detach") || os.Getenv(detachedEnv) != "" {
		return false, nil
	}
	exe, err := os.Executable()
	if err != nil {
		return true, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return true, err
	}
	defer r.Close()
	cmd := exec.Command(exe, os.Args[1:]...)
	cmd.Env = append(os.Environ(), detachedEnv+"=1")
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return true, fmt.Errorf("going to the background: %w", err)
	}
	// An interrupt before it is ready ends both.
	got := make(chan []byte, 1)
	go func() {
		text, _ := io.ReadAll(r)
		got <- text
	}()
	select {
	case text := <-got:
		if len(text) == 0 {
			err := cmd.Wait() // it has said why
			code := exitFailed
			if ee, ok := err.(*exec.ExitError); ok && ee.ExitCode() > 0 {
				code = ee.ExitCode()
			}
			return true, &codedError{code, errReported}
		}
		fmt.Fprintf(c.App.Writer, "%sin the background as process %d\n", text, cmd.Process.Pid)
		return true, cmd.Process.Release()
	case <-c.Context.Done():
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		return true, c.Context.Err()
	}
}

// ready says that all is ready: to the user or, in the background, to the
// process that waits for it; then nothing of the terminal is held any more.
func ready(c *cli.Context, text string) {
	if os.Getenv(detachedEnv) == "" {
		fmt.Fprint(c.App.Writer, text)
		return
	}
	w := os.NewFile(3, "ready")
	fmt.Fprint(w, text)
	log := c.String("log")
	if log == "" {
		log = os.DevNull
	}
	if f, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err == nil {
		_ = unix.Dup2(int(f.Fd()), 2)
		f.Close()
	} else {
		fmt.Fprintf(os.Stderr, "echo9: --log: %v\n", err)
	}
	_ = os.Chdir("/")
	w.Close()
}
