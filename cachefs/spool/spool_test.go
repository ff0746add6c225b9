package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestPaths: names with any bytes come out of JSON as they went in.
func TestPaths(t *testing.T) {
	for _, name := range []string{"", "/a/b", "/ä%41", "\xff\xfe/\n\x01", "100%", "\"<&>\\"} {
		b, err := json.Marshal(Path(name))
		ok(t, err)
		var p Path
		ok(t, json.Unmarshal(b, &p))
		if string(p) != name {
			t.Errorf("%q came out as %q (%s)", name, p, b)
		}
	}
	for _, bad := range []string{"%", "%4", "%zz"} {
		if new(Path).UnmarshalText([]byte(bad)) == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// TestCompose: random operations make of a file what a plain byte slice says, on a file that they create and on one that was there.
func TestCompose(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 9))
		created := seed%2 == 0
		var before []byte
		if !created {
			before = bytes.Repeat([]byte{'.'}, r.IntN(60))
		}
		file := bytes.Clone(before)
		e := &Entry{}
		var data []byte
		if created {
			e.Ops = append(e.Ops, Op{What: "create", Object: 7})
		}
		for i := range r.IntN(12) {
			off, n := r.IntN(50), 1+r.IntN(20)
			switch r.IntN(4) {
			case 0, 1:
				b := bytes.Repeat([]byte{byte('a' + i)}, n)
				file = grow(file, off+n)
				copy(file[off:], b)
				e.Ops = append(e.Ops, Op{What: "write", Object: 7, Offset: uint64(off), Length: uint64(n), At: int64(len(data)), Bytes: int64(n)})
				data = append(data, b...)
			case 2:
				file = grow(file, off)[:off]
				e.Ops = append(e.Ops, Op{What: "truncate", Object: 7, Size: uint64(off)})
			case 3:
				n = min(off+n, max(len(file), off)) - off // as cachefs cuts it
				file = grow(file, off+n)
				clear(file[off : off+n])
				e.Ops = append(e.Ops, Op{What: "punch", Object: 7, Offset: uint64(off), Length: uint64(n)})
			}
		}
		e.Ops = append(e.Ops, Op{What: "write", Object: 8, Offset: 0, Length: 1, Bytes: 1})
		e.Objects = []Object{{ID: 7, Type: "file", Size: uint64(len(file)), Created: created}}
		c := Compose(e, 7)
		got := make([]byte, c.Size)
		if !c.Whole {
			copy(got, before)
		}
		end := int64(0)
		for _, p := range c.Parts {
			if p.Off < end || p.end() > c.Size || p.Len <= 0 {
				t.Fatalf("seed %d: parts %v of %d bytes", seed, c.Parts, c.Size)
			}
			end = p.end()
			if p.At == zeros {
				clear(got[p.Off:end])
			} else {
				copy(got[p.Off:end], data[p.At:])
			}
		}
		if !bytes.Equal(got, file) {
			t.Fatalf("seed %d: %v\nmake %q\nnot  %q\nof   %q", seed, e.Ops, got, file, before)
		}
	}
}

func grow(b []byte, n int) []byte {
	for len(b) < n {
		b = append(b, 0)
	}
	return b
}

// newFile is a loss of a file with its creation.
func newFile(path, text string) *Entry {
	return &Entry{UID: uint32(os.Geteuid()), When: time.Now(), Cause: Refused, Reason: "no", Server: "s",
		Ops: []Op{{Seq: 1, What: "create", Object: 7, Paths: []Path{Path(path)}},
			{Seq: 2, What: "write", Object: 7, Paths: []Path{Path(path)}, Length: uint64(len(text)), Data: []byte(text)}},
		Objects: []Object{{ID: 7, Path: Path(path), Type: "file", Created: true, Mode: 0o640, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), Size: uint64(len(text)), Mtime: 5e9}}}
}

// change is a loss of a part of a file that is there as fi says.
func change(path string, fi os.FileInfo, off int, text string) *Entry {
	st := fi.Sys().(*syscall.Stat_t)
	return &Entry{UID: uint32(os.Geteuid()), When: time.Now(), Cause: Taken, Reason: "it was taken",
		Ops: []Op{{Seq: 1, What: "write", Object: 9, Offset: uint64(off), Length: uint64(len(text)), Data: []byte(text)}},
		Objects: []Object{{ID: 9, Path: Path(path), Type: "file", Size: max(uint64(fi.Size()), uint64(off+len(text))),
			Base: &Base{Ctime: st.Ctim.Nano(), Mtime: st.Mtim.Nano(), Size: uint64(fi.Size())}}}}
}

func put(t *testing.T, s *Store, e *Entry) *Kept {
	t.Helper()
	_, err := s.Put(e)
	ok(t, err)
	k, err := s.Get(e.ID)
	ok(t, err)
	return k
}

func content(t *testing.T, name, want string) {
	t.Helper()
	b, err := os.ReadFile(name)
	ok(t, err)
	if string(b) != want {
		t.Fatalf("%s has %q, not %q", name, b, want)
	}
}

func restore(t *testing.T, k *Kept, dir string, o RestoreOptions, want How) Result {
	t.Helper()
	res, err := k.Restore(dir, o)
	ok(t, err)
	if len(res) != 1 || res[0].How != want {
		t.Fatalf("restored %v, not %q", res, want)
	}
	return res[0]
}

// TestStore: what was put is there as it was, for its user alone, and is gone when dropped.
func TestStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "lost")
	s := Open(dir, 1<<20)
	list, err := s.List()
	ok(t, err)
	if len(list) != 0 {
		t.Fatal("something is in a spool that is not there")
	}
	k := put(t, s, newFile("/d/f", "hello"))
	if k.Ops[1].Bytes != 5 || k.Objects[0].Path != "/d/f" || k.Why() != "refused: no" {
		t.Fatalf("the entry is %+v", k.Entry)
	}
	for _, name := range []string{filepath.Dir(k.dir), k.dir} {
		fi, err := os.Stat(name)
		ok(t, err)
		if fi.Mode().Perm() != 0o700 {
			t.Fatalf("%s has mode %v", name, fi.Mode())
		}
	}
	if left, _ := os.ReadDir(filepath.Join(dir, staging)); len(left) != 0 {
		t.Fatalf("%v were left half made", left)
	}
	ok(t, k.Drop())
	if _, err := s.Get(k.ID); !errors.Is(err, ErrNone) {
		t.Fatalf("dropped: %v", err)
	}
	for _, id := range []string{"", "..", "../../x", "aaaaaa"} {
		if _, err := s.Get(id); !errors.Is(err, ErrNone) {
			t.Fatalf("%q: %v", id, err)
		}
	}
}

// TestStoreOfOthers: root's daemon keeps what users lost where only they come, and does nothing in what is not a directory of theirs.
func TestStoreOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: gives files to other users")
	}
	s := Open(filepath.Join(t.TempDir(), "lost"), 1<<20)
	e := newFile("/f", "secret")
	e.UID = 1234
	k := put(t, s, e)
	for _, name := range []string{filepath.Dir(k.dir), k.dir, filepath.Join(k.dir, entryFile), filepath.Join(k.dir, bytesFile)} {
		fi, err := os.Lstat(name)
		ok(t, err)
		if st := fi.Sys().(*syscall.Stat_t); st.Uid != 1234 || fi.Mode().Perm()&0o077 != 0 {
			t.Fatalf("%s is of user %d, mode %v", name, st.Uid, fi.Mode())
		}
	}
	target := t.TempDir()
	ok(t, os.Symlink(target, filepath.Join(s.dir, "1235")))
	e = newFile("/f", "secret")
	e.UID = 1235
	if _, err := s.Put(e); err == nil {
		t.Fatal("followed a link")
	}
	if list, _ := os.ReadDir(target); len(list) != 0 {
		t.Fatalf("wrote %v behind a link", list)
	}
}

// TestStoreBound: the oldest entries go when there is no room, and Put says which; what cannot fit is refused.
func TestStoreBound(t *testing.T) {
	s := Open(filepath.Join(t.TempDir(), "lost"), 200<<10)
	var ids, gone []string
	for i := range 8 {
		e := newFile("/f", strings.Repeat("x", 50<<10))
		dropped, err := s.Put(e)
		ok(t, err)
		ids, gone = append(ids, e.ID), append(gone, dropped...)
		if n := size(filepath.Join(s.dir, strconv.Itoa(os.Geteuid()))); n > s.limit+64<<10 {
			t.Fatalf("%d bytes after %d entries", n, i+1)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if len(gone) < 3 || fmt.Sprint(gone) != fmt.Sprint(ids[:len(gone)]) {
		t.Fatalf("%v went of %v", gone, ids)
	}
	if _, err := s.Put(newFile("/f", strings.Repeat("x", 300<<10))); !errors.Is(err, syscall.EFBIG) {
		t.Fatalf("too large: %v", err)
	}
	if list, err := s.List(); err != nil || len(list) != len(ids)-len(gone) {
		t.Fatalf("%d are left, %v", len(list), err)
	}
}

// TestStoreHalfMade: an entry that was not finished is in no list, and goes in time.
func TestStoreHalfMade(t *testing.T) {
	s := Open(filepath.Join(t.TempDir(), "lost"), 1<<20)
	put(t, s, newFile("/f", "x"))
	half := filepath.Join(s.dir, staging, "zzzzzz-1")
	ok(t, os.Mkdir(half, 0o700))
	ok(t, os.WriteFile(filepath.Join(half, bytesFile), []byte("ha"), 0o600))
	if list, err := s.List(); err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	put(t, s, newFile("/f", "y"))
	if !exists(half) {
		t.Fatal("what somebody may still write is gone")
	}
	ok(t, os.Chtimes(half, time.Time{}, time.Now().Add(-2*abandoned)))
	put(t, s, newFile("/f", "z"))
	if exists(half) {
		t.Fatal("what nobody finishes is still there")
	}
}

// TestRestoreNew: a file whose creation was lost comes back whole, into a directory that is made for it; where something else is by now
// it goes beside.
func TestRestoreNew(t *testing.T) {
	dir := t.TempDir()
	s := Open(filepath.Join(t.TempDir(), "lost"), 1<<20)
	k := put(t, s, newFile("/d/f", "hello"))
	restore(t, k, dir, RestoreOptions{}, Restored)
	content(t, filepath.Join(dir, "d/f"), "hello")
	fi, err := os.Stat(filepath.Join(dir, "d/f"))
	ok(t, err)
	if fi.Mode().Perm() != 0o640 || fi.ModTime().UnixNano() != 5e9 {
		t.Fatalf("mode %v, time %v", fi.Mode(), fi.ModTime())
	}
	restore(t, k, dir, RestoreOptions{}, Same)
	ok(t, os.WriteFile(filepath.Join(dir, "d/f"), []byte("newer"), 0o644))
	res := restore(t, k, dir, RestoreOptions{}, Beside)
	content(t, filepath.Join(dir, "d/f"), "newer")
	content(t, filepath.Join(dir, string(res.As)), "hello")
	if want := Path("/d/f.echo9-lost-" + k.ID); res.As != want {
		t.Fatalf("it is %s, not %s", res.As, want)
	}
	restore(t, k, dir, RestoreOptions{}, Same)
	restore(t, k, dir, RestoreOptions{Force: true}, Restored)
	content(t, filepath.Join(dir, "d/f"), "hello")
}

// TestRestoreChange: a part of a file goes back into it as long as it is as it was, else beside it.
func TestRestoreChange(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	ok(t, os.WriteFile(name, []byte("0123456789"), 0o644))
	fi, err := os.Stat(name)
	ok(t, err)
	s := Open(filepath.Join(t.TempDir(), "lost"), 1<<20)
	k := put(t, s, change("/f", fi, 3, "abc"))
	ok(t, os.WriteFile(name, []byte("somebody else's"), 0o644))
	ok(t, os.Chtimes(name, time.Time{}, time.Unix(77, 0)))
	res := restore(t, k, dir, RestoreOptions{}, Parts)
	content(t, name, "somebody else's")
	content(t, filepath.Join(dir, string(res.As)), "\x00\x00\x00abc\x00\x00\x00\x00")
	ok(t, os.WriteFile(name, []byte("0123456789"), 0o644))
	ok(t, os.Chtimes(name, time.Time{}, fi.ModTime())) // as it was
	restore(t, k, dir, RestoreOptions{}, Restored)
	content(t, name, "012abc6789")
	// Elsewhere a file of that name is never what was changed.
	other := t.TempDir()
	ok(t, os.WriteFile(filepath.Join(other, "f"), []byte("0123456789"), 0o644))
	ok(t, os.Chtimes(filepath.Join(other, "f"), time.Time{}, fi.ModTime()))
	restore(t, k, other, RestoreOptions{Elsewhere: true}, Parts)
	content(t, filepath.Join(other, "f"), "0123456789")
}

// TestRestoreStays: links in the tree and paths of a hostile server lead nowhere outside the directory.
func TestRestoreStays(t *testing.T) {
	outside := t.TempDir()
	s := Open(filepath.Join(t.TempDir(), "lost"), 1<<20)
	for _, path := range []string{"/../" + filepath.Base(outside) + "/f", "/link/f", "/../../../../" + outside + "/f"} {
		dir := t.TempDir()
		ok(t, os.Symlink(outside, filepath.Join(dir, "link")))
		k := put(t, s, newFile(path, "x"))
		if res, err := k.Restore(dir, RestoreOptions{Force: true}); err == nil {
			t.Errorf("%s: %v", path, res)
		}
	}
	if list, _ := os.ReadDir(outside); len(list) != 0 {
		t.Fatalf("%v came out", list)
	}
}

// TestRestoreTree: directories and symlinks come back, too; what is done to names only is listed, not done.
func TestRestoreTree(t *testing.T) {
	dir := t.TempDir()
	e := newFile("/a/b/f", "x")
	e.Ops = append(e.Ops, Op{Seq: 3, What: "mkdir", Object: 20}, Op{Seq: 4, What: "symlink", Object: 21}, Op{Seq: 5, What: "unlink", Object: 22, Paths: []Path{"/gone"}})
	e.Objects = append(e.Objects, Object{ID: 20, Path: "/a/b", Type: "directory", Created: true, Mode: 0o710},
		Object{ID: 21, Path: "/a/l", Type: "symlink", Created: true, Target: "b/f"}, Object{ID: 22, Path: "/gone", Type: "file", Gone: true})
	k := put(t, Open(filepath.Join(t.TempDir(), "lost"), 1<<20), e)
	for range 2 {
		res, err := k.Restore(dir, RestoreOptions{})
		ok(t, err)
		if len(res) != 3 {
			t.Fatalf("%v", res)
		}
		content(t, filepath.Join(dir, "a/l"), "x")
		if fi, err := os.Stat(filepath.Join(dir, "a/b")); err != nil || fi.Mode().Perm() != 0o710 {
			t.Fatalf("%v, %v", fi, err)
		}
	}
	if left := k.Left(); len(left) != 1 || left[0].String() != "unlink /gone" {
		t.Fatalf("left: %v", left)
	}
}

// TestCat: the content as the writer saw it, and whether all of it is known.
func TestCat(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	ok(t, os.WriteFile(name, []byte("01234"), 0o644))
	fi, err := os.Stat(name)
	ok(t, err)
	s := Open(filepath.Join(t.TempDir(), "lost"), 1<<20)
	whole := change("/f", fi, 2, "x")
	whole.Objects[0].Pieces = []Piece{{0, 2, []byte("01")}, {2, 1, []byte("x")}, {3, 2, nil}}
	for _, c := range []struct {
		e     *Entry
		want  string
		whole bool
	}{{newFile("/f", "hello"), "hello", true}, {change("/f", fi, 2, "x"), "\x00\x00x\x00\x00", false}, {whole, "01x\x00\x00", true}} {
		k := put(t, s, c.e)
		var b bytes.Buffer
		all, err := k.Cat(&b, &k.Objects[0])
		ok(t, err)
		if b.String() != c.want || all != c.whole {
			t.Errorf("%q, %v; not %q", b.String(), all, c.want)
		}
	}
}
