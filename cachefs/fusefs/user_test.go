package fusefs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const nobodyUID = 65534

// userSteps run in a process of an ordinary user.
var userSteps = map[string]func(args []string) error{
	"read":   func(a []string) error { _, err := os.ReadFile(a[0]); fmt.Println(errnoName(err)); return nil },
	"create": func(a []string) error { fmt.Println(errnoName(os.WriteFile(a[0], nil, 0o644))); return nil },
	"append": func(a []string) error {
		f, err := os.OpenFile(a[0], os.O_WRONLY|os.O_APPEND, 0)
		if err == nil {
			_, err = f.WriteString("x")
			err = errors.Join(err, f.Close())
		}
		fmt.Println(errnoName(err))
		return nil
	},
	"truncate": func(a []string) error { fmt.Println(errnoName(os.Truncate(a[0], 0))); return nil },
}

func errnoName(err error) string {
	var e syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &e):
		return e.Error()
	}
	return err.Error()
}

// asUser runs a step as uid, with supplementary groups.
func asUser(t testing.TB, uid uint32, groups []uint32, args ...string) string {
	t.Helper()
	cmd := helperCmd(t, "user", args...)
	cmd.Path = sharedExe(t)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, Groups: groups}}
	cmd.Stderr = nil
	return strings.TrimSpace(output(t, cmd))
}

// sharedExe is a copy of the test program that everybody may run.
func sharedExe(t testing.TB) string {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	dir, err := os.MkdirTemp("", "fusefs-exe-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	b, err := os.ReadFile(exe)
	must(t, err)
	p := filepath.Join(dir, "helper")
	must(t, os.WriteFile(p, b, 0o755))
	return p
}

// Other users: whom the mount is open to, and that permission bits and groups count.
func TestOtherUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("an ordinary user cannot become another: TestOrdinaryUser is for him")
		return
	}
	b, _ := exportDir(t)
	top := t.TempDir()
	for p := top; p != "/" && p != "/tmp"; p = filepath.Dir(p) {
		must(t, os.Chmod(p, 0o755))
	}
	mnt := top + "/m"
	must(t, os.Mkdir(mnt, 0o755))
	m, err := Mount(t.Context(), b, mnt, Options{AllowOther: true, Logf: t.Logf})
	must(t, err)
	must(t, os.Chmod(mnt, 0o755))
	write(t, mnt+"/mine", "secret")
	must(t, os.Chmod(mnt+"/mine", 0o600))
	write(t, mnt+"/grouped", "x")
	must(t, os.Chown(mnt+"/grouped", 0, 4711))
	must(t, os.Chmod(mnt+"/grouped", 0o640))
	must(t, os.Mkdir(mnt+"/open", 0o755))
	must(t, os.Chmod(mnt+"/open", 0o777|os.ModeSticky))
	write(t, mnt+"/suid", "x")
	must(t, os.Chmod(mnt+"/suid", 0o777|os.ModeSetuid|os.ModeSetgid))
	for _, tt := range []struct {
		groups []uint32
		step   []string
		want   string
	}{
		{nil, []string{"read", mnt + "/mine"}, "permission denied"},
		{nil, []string{"create", mnt + "/new"}, "permission denied"},
		{nil, []string{"read", mnt + "/grouped"}, "permission denied"},
		{[]uint32{4711}, []string{"read", mnt + "/grouped"}, "ok"},
		{nil, []string{"create", mnt + "/open/his"}, "ok"},
		{nil, []string{"append", mnt + "/suid"}, "ok"},
	} {
		if got := asUser(t, nobodyUID, tt.groups, tt.step...); got != tt.want {
			t.Errorf("%v with groups %v: %s, want %s", tt.step, tt.groups, got, tt.want)
		}
	}
	st, err := os.Stat(mnt + "/open/his")
	must(t, err)
	if uid := st.Sys().(*syscall.Stat_t).Uid; uid != nobodyUID {
		t.Errorf("his file belongs to %d", uid)
	}
	if st, err = os.Stat(mnt + "/suid"); err != nil || st.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 {
		t.Errorf("after a write by somebody else: %v, %v", st.Mode(), err)
	}
	must(t, os.Chmod(mnt+"/suid", 0o777|os.ModeSetuid))
	if got := asUser(t, nobodyUID, nil, "truncate", mnt+"/suid"); got != "ok" {
		t.Error(got)
	}
	if st, err = os.Stat(mnt + "/suid"); err != nil || st.Mode()&os.ModeSetuid != 0 {
		t.Errorf("after truncate by somebody else: %v, %v", st.Mode(), err)
	}
	must(t, m.Unmount(t.Context()))

	m, err = Mount(t.Context(), b, mnt, Options{Logf: t.Logf})
	must(t, err)
	if got := asUser(t, nobodyUID, nil, "read", mnt+"/open/his"); got != "permission denied" {
		t.Errorf("without allow_other: %s", got)
	}
	must(t, m.Unmount(t.Context()))
}

// An ordinary user mounts through fusermount3.
func TestOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("the whole test run is by an ordinary user")
		return
	}
	st, err := os.Stat("/dev/fuse")
	must(t, err)
	if st.Mode().Perm() != 0o666 {
		must(t, os.Chmod("/dev/fuse", 0o666)) // as udev does it
		t.Cleanup(func() { _ = os.Chmod("/dev/fuse", st.Mode()) })
	}
	top, err := os.MkdirTemp("", "fusefs-user-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	must(t, os.Chmod(top, 0o755))
	for _, d := range []string{"/export", "/mnt"} {
		must(t, os.Mkdir(top+d, 0o755))
		must(t, os.Chown(top+d, nobodyUID, nobodyUID))
	}
	cred := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobodyUID, Gid: nobodyUID}}
	cmd := helperCmd(t, "serve", top+"/export", top+"/mnt", "unmount at end of input")
	cmd.Path, cmd.Dir, cmd.SysProcAttr = sharedExe(t), "/", cred
	r := startCmd(t, cmd)
	if s := r.says(t); s != "mounted" {
		t.Fatal(s)
	}
	typ, source, ok := mountedAt(top + "/mnt")
	if !ok || typ != fsType || source != "test" {
		t.Errorf("%q, %q, %v", typ, source, ok)
	}
	if got := asUser(t, nobodyUID, nil, "create", top+"/mnt/f"); got != "ok" {
		t.Error(got)
	}
	if !exists(t, top+"/export/f") {
		t.Error("the file is not there")
	}
	r.stop()
	if _, _, ok := mountedAt(top + "/mnt"); ok {
		t.Error("still mounted")
	}
}
