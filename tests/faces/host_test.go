package faces

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"echo9/p9srv"
	"echo9/p9srv/dirfs"
)

// host is a server in this process, which can be asked how it stands.
type host struct {
	dir, addr string
	authority *p9srv.Authority
	server    *p9srv.Server
	log       logText
}

// logText collects lines.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) logf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(&l.b, time.Now().Format("15:04:05.000 ")+format+"\n", args...)
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// lease is so long that nobody loses it because the machine is slow.
const lease = time.Minute

// newHost serves a new directory on a unix socket until the test ends, and on what else listens.
func newHost(t *testing.T, others ...net.Listener) *host {
	t.Helper()
	h := &host{dir: t.TempDir()}
	fs, err := dirfs.Open(h.dir, dirfs.Options{State: t.TempDir(), Logf: h.log.logf, Groups: p9srv.GroupsOf})
	if err != nil {
		t.Fatal(err)
	}
	users, err := p9srv.ParseUsers("client")
	if err != nil {
		t.Fatal(err)
	}
	h.authority = p9srv.NewAuthority(p9srv.AuthorityConfig{Backend: fs, Users: users, Lease: lease, Logf: h.log.logf})
	h.server = p9srv.New(p9srv.Config{Backend: fs, Authority: h.authority, Users: users, Logf: h.log.logf})
	sock := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	h.addr = "unix!" + sock
	var wg sync.WaitGroup
	for _, l := range append(others, l) {
		wg.Go(func() { _ = h.server.Serve(context.Background(), l) })
	}
	t.Cleanup(func() {
		h.server.Close()
		wg.Wait()
		h.authority.Close()
		if err := fs.Close(); err != nil {
			t.Errorf("closing the export: %v", err)
		}
		if t.Failed() {
			t.Logf("the server said:\n%s", h.log.String())
		}
	})
	return h
}

// evicted checks that no session lost anything.
func (h *host) noneEvicted(t *testing.T) {
	t.Helper()
	if st := h.authority.Status(); st.LeasesOver != 0 || st.TokensTaken != 0 {
		t.Errorf("%d leases ran out, %d tokens were taken", st.LeasesOver, st.TokensTaken)
	}
	for _, bad := range []string{"lost object", "its lease is over"} {
		if strings.Contains(h.log.String(), bad) {
			t.Errorf("the server's log says %q", bad)
		}
	}
}
