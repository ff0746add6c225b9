package main

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"echo9/cachefs"
	"echo9/internal/netaddr"
	"echo9/p9srv"
	"echo9/p9srv/dirfs"
)

// cachingServer serves a fresh directory to caching clients, on a unix socket.
func cachingServer(t *testing.T) (dir, addr string) {
	t.Helper()
	dir = t.TempDir()
	fs, err := dirfs.Open(dir, dirfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	authority := p9srv.NewAuthority(p9srv.AuthorityConfig{Backend: fs})
	srv := p9srv.New(p9srv.Config{Backend: fs, Authority: authority})
	a, err := netaddr.Parse("unix!" + filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := a.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		<-done
		authority.Close()
		if err := fs.Close(); err != nil {
			t.Error(err)
		}
	})
	return dir, a.String()
}

// The status of a server names its sessions, in words and in JSON; a server without one says so.
func TestStatusOfAServer(t *testing.T) {
	_, addr := cachingServer(t)
	fs, err := cachefs.Open(t.Context(), addr, cachefs.Options{Name: "somebody"})
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close(context.Background())
	if code, out, errs := echo9("", "status", addr); code != 0 || !strings.Contains(out, "no. 1    somebody, unix uid") {
		t.Errorf("exit code %d:\n%s%s", code, out, errs)
	}
	code, out, errs := echo9("", "status", "--json", addr)
	var st p9srv.Status
	if err := json.Unmarshal([]byte(out), &st); code != 0 || err != nil || strings.Count(out, "\n") != 1 {
		t.Fatalf("exit code %d: %v:\n%s%s", code, err, out, errs)
	}
	if len(st.Sessions) != 1 || st.Sessions[0].Name != "somebody" {
		t.Errorf("sessions: %+v", st.Sessions)
	}
	_, plain := testServer(t)
	if code, out, errs := echo9("", "status", plain); code != 1 || !strings.Contains(errs, "does not tell its status") || out != "" {
		t.Errorf("of a plain server: exit code %d:\n%s%s", code, out, errs)
	}
	if code, _, errs := echo9("", "status", "tcp!127.0.0.1!1"); code != 3 || !strings.Contains(errs, "cannot reach") {
		t.Errorf("of nobody: exit code %d:\n%s", code, errs)
	}
}

// --watch shows picture after picture until it is interrupted, and goes on when the server is gone meanwhile.
func TestStatusWatch(t *testing.T) {
	_, addr := cachingServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &lines{want: 3, enough: cancel}
	var errs bytes.Buffer
	app := newApp(strings.NewReader(""), out, &errs)
	begin := time.Now()
	if err := app.RunContext(ctx, []string{"echo9", "status", "--json", "--watch", "--every", "10ms", addr}); err != nil {
		t.Fatalf("%v\n%s", err, &errs)
	}
	if d := time.Since(begin); d < 20*time.Millisecond {
		t.Errorf("three pictures within %v: it does not wait between them", d)
	}
	if out.n < 3 {
		t.Errorf("%d lines:\n%s", out.n, out.String())
	}
	dec := json.NewDecoder(&out.Buffer)
	var before, after p9srv.Status
	if err := dec.Decode(&before); err != nil {
		t.Fatal(err)
	}
	if err := dec.Decode(&after); err != nil {
		t.Fatal(err)
	}
	if after.Up <= before.Up {
		t.Errorf("the second picture is as old as the first: %v, %v", before.Up, after.Up)
	}
	if code, _, errs := echo9("", "status", "--watch", "--every", "1ns", addr); code != 2 || !strings.Contains(errs, "--every") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}

// lines counts the lines that are written, and says when there are enough.
type lines struct {
	bytes.Buffer
	n, want int
	enough  func()
}

func (l *lines) Write(p []byte) (int, error) {
	if l.n += bytes.Count(p, []byte("\n")); l.n >= l.want {
		l.enough()
	}
	return l.Buffer.Write(p)
}

// Addresses are told from mount points by how they look, and by what is there.
func TestIsServer(t *testing.T) {
	dir, addr := cachingServer(t)
	a, err := netaddr.Parse(addr)
	if err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string]bool{
		"tcp!host!564": true, "host:564": true, "unix!/no/such": true, "tcp://host:1": true, a.Path: true,
		dir: false, "/no/such": false, "mnt": false,
	} {
		if isServer(what) != want {
			t.Errorf("%s is a server: %v", what, !want)
		}
	}
}
