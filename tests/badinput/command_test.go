package badinput

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"echo9/tests/internal/echo9bin"
	"echo9/tests/internal/need"
	"echo9/tests/internal/rig"
	"echo9/tests/internal/served"
)

// peer listens on loopback and treats who comes with f.
func peer(t *testing.T, f func(net.Conn)) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f(c)
		}
	}()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// freePort is a port of loopback where nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	addr, err := rig.FreePort()
	must(t, err)
	_, port, err := net.SplitHostPort(addr)
	must(t, err)
	return port
}

// Every wrong command ends with its exit code and says what was tried, what is wrong, and what to do next.
func TestWrongCommands(t *testing.T) {
	s := served.Start(t, "")
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	none := filepath.Join(t.TempDir(), "none")
	port := freePort(t)
	web := peer(t, func(c net.Conn) {
		defer c.Close()
		c.Read(make([]byte, 1))
		c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	})
	mute := peer(t, func(c net.Conn) {
		defer c.Close()
		c.Read(make([]byte, 1000))
		c.Read(make([]byte, 1))
	})
	rude := peer(t, func(c net.Conn) { c.Close() })
	const nobodyThere, noSocket, not9P = "nobody serves there: start the server", "there is no such socket: start the server", "does not speak 9P2000.L"
	type wrong struct {
		args []string
		code int
		says []string // what was tried, what is wrong, what to do
	}
	var list []wrong
	add := func(code int, line string, says ...string) {
		list = append(list, wrong{strings.Fields(line), code, says})
	}
	// A server that is not there, in each notation.
	for addr, why := range map[string]string{
		"tcp!127.0.0.1!" + port: nobodyThere, "tcp://127.0.0.1:" + port: nobodyThere, "127.0.0.1:" + port: nobodyThere,
		"unix!" + none: noSocket, "unix://" + none: noSocket, none: noSocket, "unix!" + file: nobodyThere, "fd!77": "start echo9 with it",
	} {
		add(3, "-a "+addr+" ls", addr, why)
	}
	for _, line := range []string{"mount ADDR " + dir, "cache --listen unix!" + none + " ADDR", "-a ADDR script " + file, "-a ADDR get -r / " + none, "-a ADDR df"} {
		add(3, strings.ReplaceAll(line, "ADDR", "unix!"+none), "cannot reach", noSocket)
	}
	// Something else listens there.
	for _, line := range []string{"-a ADDR ls", "mount ADDR " + dir, "cache --listen unix!" + none + " ADDR"} {
		add(3, strings.ReplaceAll(line, "ADDR", "tcp!127.0.0.1!"+web), "cannot reach", not9P)
		add(3, strings.ReplaceAll(line, "ADDR", "tcp!127.0.0.1!"+mute)+" --connect-timeout 2s", "no answer within 2s", "--connect-timeout waits longer")
	}
	add(3, "-a tcp!127.0.0.1!"+rude+" ls", not9P)
	// Addresses that are none.
	for addr, why := range map[string]string{
		"tcp!127.0.0.1!frob": "is no port", "tcp://127.0.0.1:65536": "is no port", "127.0.0.1:-1": "is no port",
		"unix!": "it lacks the socket's path", "unix://run/s": "write unix:///run/s", "gopher!host!1": "use tcp!host!port", "fd!x": "is no descriptor",
	} {
		for _, line := range []string{"-a ADDR ls", "mount ADDR " + dir, "cache ADDR --listen unix!" + none, "serve --listen ADDR " + dir, "up --listen ADDR " + dir + " " + none} {
			add(2, strings.ReplaceAll(line, "ADDR", addr), "address", why)
		}
	}
	// Places where nobody can listen.
	for addr, why := range map[string]string{
		"tcp!127.0.0.1!" + web: "choose another", s.Addr: "stop it, or choose another path", "unix!" + file: "choose another path",
		"unix!" + none + "/s": "make it first", "tcp!192.0.2.1!0": "one of this machine's addresses",
	} {
		add(1, "serve --listen "+addr+" "+dir, "listening at", why)
	}
	// Exports and mount points.
	add(1, "serve "+none, none, "no such file", "make the directory first")
	add(1, "serve "+file, file, "not a directory", "only a directory can be served")
	add(1, "serve "+s.Dir, "is being served by another server", strconv.Itoa(s.Cmd.Process.Pid), "stop that one, or be its client")
	add(1, "up "+none+" "+dir, none, "no such file", "make the directory first")
	add(1, "up "+file+" "+dir, file, "not a directory", "only a directory can be served")
	add(1, "up "+dir+" "+none, none, "no such", "make the mount point first")
	add(1, "up "+s.Dir+" "+dir, "is being served by another server", "stop that one")
	if unix.Access("/dev/fuse", unix.R_OK|unix.W_OK) == nil {
		add(1, "mount "+s.Addr+" "+none, none, "no such", "make the mount point first")
		add(1, "mount "+s.Addr+" "+file, file, "not a directory", "only be mounted on a directory")
		add(1, "mount "+s.Addr+" "+filepath.Dir(file), "hide what is in it", "choose an empty directory")
	} else {
		need.Missing(t, "no /dev/fuse")
	}
	for _, c := range list {
		out, code := echo9(t, c.args...)
		line := "echo9 " + strings.Join(c.args, " ")
		if code != c.code || !strings.HasPrefix(out, "echo9: ") {
			t.Errorf("%s: exit code %d, %d is due: %s", line, code, c.code, out)
		}
		for _, s := range c.says {
			if !strings.Contains(out, s) {
				t.Errorf("%s: does not say %q: %s", line, s, out)
			}
		}
	}
	serves(t, s)
	if left, err := os.ReadDir(filepath.Dir(none)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	t.Logf("%d wrong commands", len(list))
}

// What a user without rights is told.
func TestNoPermission(t *testing.T) {
	need.Root(t)
	need.Tools(t, "setpriv")
	s := served.Start(t, "")
	bin := filepath.Join(publicDir(t), "echo9")
	b, err := os.ReadFile(echo9bin.Echo9(t))
	must(t, err)
	must(t, os.WriteFile(bin, b, 0o755))
	closed := filepath.Join(publicDir(t), "closed")
	must(t, os.Mkdir(closed, 0o700))
	readable := publicDir(t)
	must(t, os.Chmod(filepath.Dir(strings.TrimPrefix(s.Addr, "unix!")), 0o755))
	for _, c := range []struct {
		line string
		code int
		says []string
	}{
		{"-a " + s.Addr + " ls", 3, []string{"permission denied"}},
		{"serve --listen tcp!127.0.0.1!0 " + closed, 1, []string{closed, "permission denied", "serve as a user who may"}},
		{"serve --listen tcp!127.0.0.1!0 " + readable, 1, []string{"permission denied", "serve read-only, or name another place"}},
		{"serve --ro --listen unix!" + closed + "/s " + readable, 1, []string{"listening at", "permission denied"}},
		{"serve --as client --ro --listen unix!" + readable + "/s " + readable, 1, []string{"listening at", "permission denied"}},
	} {
		args := append([]string{"--reuid", "65534", "--regid", "65534", "--clear-groups", bin}, strings.Fields(c.line)...)
		out, code := command(t, "setpriv", args...)
		if code != c.code {
			t.Errorf("%s: exit code %d, %d is due: %s", c.line, code, c.code, out)
		}
		for _, s := range c.says {
			if !strings.Contains(out, s) {
				t.Errorf("%s: does not say %q: %s", c.line, s, out)
			}
		}
	}
	serves(t, s)
}

// publicDir is a directory that everybody can read.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "badinput-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	return dir
}

// A mount point that is in use is refused; one whose daemon was killed is cleared away, at once too.
func TestMountPointInUse(t *testing.T) {
	need.Root(t)
	need.Path(t, "/dev/fuse", "mounts need FUSE")
	s, mnt, other := served.Start(t, ""), t.TempDir(), t.TempDir()
	write(t, filepath.Join(s.Dir, "f"), "text")
	mount := func() *exec.Cmd {
		cmd := exec.Command(echo9bin.Echo9(t), "mount", s.Addr, mnt)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		t.Cleanup(func() {
			cmd.Process.Signal(syscall.SIGTERM)
			cmd.Wait()
			unix.Unmount(mnt, unix.MNT_DETACH)
		})
		said, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || !strings.Contains(said, "is mounted on") {
			t.Fatalf("mount says %q, %v", said, err)
		}
		if b, err := os.ReadFile(filepath.Join(mnt, "f")); err != nil || string(b) != "text" {
			t.Fatalf("on the mount: %q, %v", b, err)
		}
		return cmd
	}
	first := mount()
	for _, args := range [][]string{{"mount", s.Addr, mnt}, {"up", other, mnt}} {
		out, code := echo9(t, args...)
		if code != 1 || !strings.Contains(out, "in use") || !strings.Contains(out, "echo9 umount") {
			t.Errorf("echo9 %q: exit code %d: %s", args, code, out)
		}
	}
	if _, err := os.Stat(filepath.Join(mnt, "f")); err != nil {
		t.Errorf("the mount that was there: %v", err)
	}
	must(t, first.Process.Kill())
	first.Wait()
	if out, code := echo9(t, "sync", mnt); code != 1 || !strings.Contains(out, "echo9 umount") {
		t.Errorf("sync of a dead mount: exit code %d: %s", code, out)
	}
	start := time.Now()
	mount()
	t.Logf("mounted over a dead mount after %v", time.Since(start).Round(time.Millisecond))
}
