package order

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"echo9/internal/cut"
	"echo9/p9srv"
	"echo9/p9srv/dirfs"

	"golang.org/x/sys/unix"
)

const aclAccess = "system.posix_acl_access"

// acl makes an access ACL that goes with a mode: another user may do extra.
func acl(mode uint32, extra byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{1, uint16(mode >> 6 & 7), ^uint32(0)}, {2, uint16(extra), 77}, {4, 5, ^uint32(0)}, {0x10, uint16(mode >> 3 & 7), ^uint32(0)}, {0x20, uint16(mode & 7), ^uint32(0)}} {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// host is a real directory that a server applies cuts to.
type host struct {
	fs         *dirfs.FS
	dir        string
	root, base uint64 // the real ids of rootID and of 0 of the others
}

// hosts are two: one gets a cut for each operation, the other one for each ideal.
type hosts struct{ one, net *host }

func newHost(t *testing.T) *host {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	fs, err := dirfs.Open(dir, dirfs.Options{Durability: dirfs.DurableOS})
	if err != nil {
		t.Fatal(err)
	}
	root, err := fs.Root(context.Background(), nil, "")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Release()
	base, err := fs.AllocIDs(1000)
	if err != nil {
		t.Fatal(err)
	}
	return &host{fs, dir, root.ID(), base}
}

func (h *hosts) close() {
	for _, one := range []*host{h.one, h.net} {
		one.fs.Close()
		os.RemoveAll(one.dir)
	}
}

func (h *host) real(id uint64) uint64 {
	switch id {
	case 0:
		return 0
	case rootID:
		return h.root
	}
	return h.base + id
}

func (h *host) apply(records []cut.Record) error {
	recs := slices.Clone(records)
	for i := range recs {
		r := &recs[i]
		r.ID, r.Dir, r.Before, r.Source = h.real(r.ID), h.real(r.Dir), h.real(r.Before), h.real(r.Source)
	}
	if len(recs) == 0 {
		return nil
	}
	return h.fs.Apply(context.Background(), &p9srv.Cred{Session: 1}, &cut.Cut{Records: recs})
}

// apply applies the operations one by one at one host and their net effect at the other, and compares the
// two, in all that a host shows, with each other and with the model.
func (h *hosts) apply(ops []*Op, net []cut.Record, model tree) error {
	for _, op := range ops {
		if op.Kind.orders() {
			continue
		}
		if err := h.one.apply(NetEffect([]*Op{op}).Records); err != nil {
			return fmt.Errorf("%v alone on the host: %w", op.Kind, err)
		}
	}
	if err := h.net.apply(net); err != nil {
		return fmt.Errorf("the net effect on the host: %w", err)
	}
	one, err := shows(h.one.dir)
	if err != nil {
		return err
	}
	all, err := shows(h.net.dir)
	if err != nil {
		return err
	}
	want := model.shows()
	for path := range maps.Clone(want) {
		if one[path] != all[path] || all[path] != want[path] {
			return fmt.Errorf("%s:\none by one %s\nnet effect %s\nmodel      %s", path, one[path], all[path], want[path])
		}
	}
	if len(one) != len(want) || len(all) != len(want) {
		return fmt.Errorf("%d paths one by one, %d by net effect, %d in the model", len(one), len(all), len(want))
	}
	return nil
}

// shows tells all about what has a name in the tree, by path, but access times, which reading changes.
func (t tree) shows() map[string]string {
	seen := map[string]string{}
	var walk func(id uint64, path string)
	walk = func(id uint64, path string) {
		n := t[id]
		for name, child := range n.entries {
			c := t[child]
			mode := c.mode
			data := string(c.data)
			if mode&0o170000 == 0o120000 {
				data = c.target
			}
			links := t.nlink(child)
			if c.isDir() {
				links = 0
			}
			seen[path+"/"+name] = describeFile(mode, c.uid, c.gid, links, c.mtime, c.xattrs, data)
			walk(child, path+"/"+name)
		}
	}
	walk(rootID, "")
	return seen
}

func describeFile(mode, uid, gid uint32, links int, mtime int64, xattrs map[string]string, data string) string {
	var x []string
	for _, name := range slices.Sorted(maps.Keys(xattrs)) {
		x = append(x, fmt.Sprintf("%s=%x", name, xattrs[name]))
	}
	return fmt.Sprintf("mode %o owner %d:%d links %d mtime %d %s data %x", mode, uid, gid, links, mtime, strings.Join(x, " "), data)
}

// shows tells the same of a real directory.
func shows(dir string) (map[string]string, error) {
	seen := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel := strings.TrimPrefix(path, dir)
		if rel == "/.echo9" {
			return filepath.SkipDir
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		data, xattrs, links := "", map[string]string{}, int(st.Nlink)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			data, err = os.Readlink(path)
		case unix.S_IFREG:
			var b []byte
			b, err = os.ReadFile(path)
			data = string(b)
		case unix.S_IFDIR:
			links = 0 // file systems count differently
		}
		if err != nil {
			return err
		}
		buf := make([]byte, 4096)
		n, err := unix.Llistxattr(path, buf)
		if err != nil {
			return err
		}
		for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
			if name == "" || strings.HasPrefix(name, "trusted.") {
				continue
			}
			value := make([]byte, 1024)
			n, err := unix.Lgetxattr(path, name, value)
			if err != nil {
				return err
			}
			xattrs[name] = string(value[:n])
		}
		seen[rel] = describeFile(st.Mode, st.Uid, st.Gid, links, st.Mtim.Nano(), xattrs, data)
		return nil
	})
	return seen, err
}

// On a real directory, too, one cut for an ideal leaves what a cut for each of its operations leaves.
func TestNetEffectOnAHost(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("changes owners and capabilities: needs root")
	}
	seeds, steps := 25, 60
	if os.Getenv("ECHO9_FULL") != "" {
		seeds = 1000
	}
	for seed := range seeds {
		w := newWorld(rand.New(rand.NewSource(int64(seed))), Object)
		w.hosts = &hosts{newHost(t), newHost(t)}
		err := w.run(steps)
		w.hosts.close()
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// The same for each ideal of small histories.
func TestEveryIdealOnAHost(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("changes owners and capabilities: needs root")
	}
	seeds, tried := 4, 0
	if os.Getenv("ECHO9_FULL") != "" {
		seeds = 100
	}
	for seed := range seeds {
		h := &hosts{newHost(t), newHost(t)}
		all := slices.Collect(smallHistory(t, seed, h).ideals())
		h.close()
		for _, seqs := range all {
			tried++
			h := &hosts{newHost(t), newHost(t)}
			w := smallHistory(t, seed, h)
			model := w.net.clone()
			for rest := seqs; len(rest) > 0; {
				piece := w.log.Take(rest, 0, 0)
				rest = rest[len(piece):]
				ops := w.log.Ops(piece)
				records := NetEffect(ops).Records
				if err := model.apply(records); err != nil {
					t.Fatal(err)
				}
				if err := h.apply(ops, records, model); err != nil {
					t.Fatalf("seed %d, ideal %v: %v", seed, seqs, err)
				}
			}
			h.close()
		}
	}
	t.Logf("%d ideals", tried)
	if tried < 50 {
		t.Fatalf("only %d ideals were tried", tried)
	}
}
