package cachefs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"echo9/internal/wire"
	"echo9/p9srv"
	"echo9/tokens"
)

// ctlName is the synthetic directory on the root: in no listing, and nobody can create it.
const ctlName = ".echo9"

// The ids of the synthetic objects are the last ones below 2^53.
const (
	ctlDirID uint64 = 1<<53 - 1 - iota
	ctlCtlID
	ctlStatusID
	ctlStatusJSONID
	ctlEventsID
	ctlPendingID
	ctlPendingJSONID
	ctlLowest = ctlPendingJSONID
)

// ctlFile describes a file of the synthetic directory.
type ctlFile struct {
	name string
	id   uint64
	mode uint32
	text func(*FS) []byte
}

var ctlFiles = []ctlFile{
	{"ctl", ctlCtlID, modeRegular | 0o600, func(*FS) []byte { return nil }},
	{"status", ctlStatusID, modeRegular | 0o444, func(f *FS) []byte { return []byte(f.Status().String()) }},
	{"status.json", ctlStatusJSONID, modeRegular | 0o444, statusJSON},
	{"events", ctlEventsID, modeRegular | 0o444, eventsText},
	{"pending", ctlPendingID, modeRegular | 0o400, pendingText},
	{"pending.json", ctlPendingJSONID, modeRegular | 0o400, pendingJSON},
}

func statusJSON(f *FS) []byte {
	b, err := json.MarshalIndent(f.Status(), "", "  ")
	if err != nil {
		panic("cachefs: status cannot be encoded: " + err.Error())
	}
	return append(b, '\n')
}

func eventsText(f *FS) []byte {
	var b bytes.Buffer
	for _, e := range f.Events() {
		fmt.Fprintln(&b, e)
	}
	return b.Bytes()
}

// ctlObject gives a synthetic object, nil when id is none.
func (f *FS) ctlObject(id uint64) p9srv.Object {
	if id == ctlDirID {
		return &ctl{f: f, file: ctlFile{ctlName, ctlDirID, modeDir | 0o555, nil}}
	}
	for _, c := range ctlFiles {
		if c.id == id {
			return &ctl{f: f, file: c}
		}
	}
	return nil
}

// ctl is a synthetic object.
type ctl struct {
	f    *FS
	file ctlFile
	top  bool // nothing is above it
}

func (c *ctl) ID() uint64 { return c.file.id }
func (c *ctl) Release()   {}
func (c *ctl) QID() wire.QID {
	return wire.QID{Type: qidType(c.file.mode), Path: c.file.id}
}

func (c *ctl) attr() wire.Attr {
	now := time.Now().UnixNano()
	a := wire.Attr{QID: c.QID(), Mode: c.file.mode, UID: c.f.opt.Cred.UID, GID: c.f.opt.Cred.GID, Nlink: 1,
		BlockSize: 4096, Atime: now, Mtime: now, Ctime: now, Btime: now}
	if isDir(c.file.mode) {
		a.Nlink = 2
	} else {
		a.Size = uint64(len(c.file.text(c.f)))
	}
	return a
}

func (c *ctl) Walk(ctx context.Context, cred *p9srv.Cred, name string) (p9srv.Object, wire.Attr, error) {
	if !isDir(c.file.mode) {
		return nil, wire.Attr{}, syscall.ENOTDIR
	}
	if name == ".." && c.top {
		return c, c.attr(), nil
	}
	if name == ".." {
		o, err := c.f.Root(ctx, cred, "")
		if err != nil {
			return nil, wire.Attr{}, err
		}
		a, err := o.GetAttr(ctx, cred)
		if err != nil {
			o.Release()
			return nil, wire.Attr{}, err
		}
		return o, a, nil
	}
	for _, file := range ctlFiles {
		if file.name == name {
			o := &ctl{f: c.f, file: file}
			return o, o.attr(), nil
		}
	}
	return nil, wire.Attr{}, syscall.ENOENT
}

func (c *ctl) GetAttr(context.Context, *p9srv.Cred) (wire.Attr, error) { return c.attr(), nil }

// SetAttr takes what an open with O_TRUNC does to ctl, and nothing else.
func (c *ctl) SetAttr(_ context.Context, _ *p9srv.Cred, _ p9srv.File, set wire.SetAttr) error {
	if c.file.id == ctlCtlID && set.Valid&^(wire.SetSize|wire.SetMtime|wire.SetAtime|wire.SetCtime) == 0 {
		return nil
	}
	return syscall.EPERM
}

func (c *ctl) Open(_ context.Context, cred *p9srv.Cred, flags uint32) (p9srv.File, error) {
	write := openWants(flags)&mayWrite != 0
	switch {
	case write && isDir(c.file.mode):
		return nil, syscall.EISDIR
	case !isDir(c.file.mode) && flags&wire.ODirectory != 0:
		return nil, syscall.ENOTDIR
	}
	a := c.attr()
	if err := access(cred, &a, openWants(flags)); err != nil {
		return nil, err
	}
	if write && c.file.id != ctlCtlID {
		return nil, syscall.EACCES
	}
	h := &ctlHandle{c: c}
	if !isDir(c.file.mode) {
		h.text = c.file.text(c.f)
	}
	return h, nil
}

func (c *ctl) Readlink(context.Context, *p9srv.Cred) (string, error) { return "", syscall.EINVAL }
func (c *ctl) Create(context.Context, *p9srv.Cred, string, uint32, uint32, uint32) (p9srv.Object, p9srv.File, wire.Attr, error) {
	return nil, nil, wire.Attr{}, syscall.EPERM
}
func (c *ctl) Mkdir(context.Context, *p9srv.Cred, string, uint32, uint32) (p9srv.Object, wire.Attr, error) {
	return nil, wire.Attr{}, syscall.EPERM
}
func (c *ctl) Symlink(context.Context, *p9srv.Cred, string, string, uint32) (p9srv.Object, wire.Attr, error) {
	return nil, wire.Attr{}, syscall.EPERM
}
func (c *ctl) Mknod(context.Context, *p9srv.Cred, string, uint32, uint32, uint32, uint32) (p9srv.Object, wire.Attr, error) {
	return nil, wire.Attr{}, syscall.EPERM
}
func (c *ctl) Link(context.Context, *p9srv.Cred, p9srv.Object, string) error { return syscall.EPERM }
func (c *ctl) Unlink(context.Context, *p9srv.Cred, string, uint32) error     { return syscall.EPERM }
func (c *ctl) Rename(context.Context, *p9srv.Cred, string, p9srv.Object, string, uint32) error {
	return syscall.EPERM
}
func (c *ctl) GetXattr(context.Context, *p9srv.Cred, string) ([]byte, error) {
	return nil, syscall.ENODATA
}
func (c *ctl) ListXattr(context.Context, *p9srv.Cred) ([]string, error) { return nil, nil }
func (c *ctl) SetXattr(context.Context, *p9srv.Cred, string, []byte, uint32) error {
	return syscall.EPERM
}
func (c *ctl) RemoveXattr(context.Context, *p9srv.Cred, string) error { return syscall.EPERM }
func (c *ctl) Lock(context.Context, *p9srv.Cred, wire.Lock) (wire.LockStatus, error) {
	return wire.LockError, syscall.EINVAL
}
func (c *ctl) GetLock(context.Context, *p9srv.Cred, wire.Lock) (wire.Lock, error) {
	return wire.Lock{}, syscall.EINVAL
}

// grows says that the file grows at its end, and what is read is as of the read: tail -f works.
func (c *ctlFile) grows() bool { return c.id == ctlEventsID }

// ctlHandle is an open synthetic object. What is read is as of the open, of files that do not grow; a write to ctl is a command, and fails as it does.
type ctlHandle struct {
	c    *ctl
	mu   sync.Mutex
	text []byte
}

func (h *ctlHandle) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if isDir(h.c.file.mode) {
		return 0, syscall.EISDIR
	}
	text := h.text
	if h.c.file.grows() {
		text = h.c.file.text(h.c.f)
	}
	if off >= int64(len(text)) {
		return 0, nil
	}
	return copy(p, text[off:]), nil
}

func (h *ctlHandle) WriteAt(ctx context.Context, p []byte, _ int64) (int, error) {
	if h.c.file.id != ctlCtlID {
		return 0, syscall.EBADF
	}
	for line := range strings.Lines(string(p)) {
		if err := h.c.f.command(ctx, strings.TrimSpace(line)); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func (h *ctlHandle) ReadDir(_ context.Context, cookie uint64, fn func(wire.Dirent) bool) error {
	if !isDir(h.c.file.mode) {
		return syscall.ENOTDIR
	}
	list := []wire.Dirent{
		{QID: h.c.QID(), Type: direntType(modeDir), Name: "."},
		{QID: h.c.f.root.qid, Type: direntType(modeDir), Name: ".."},
	}
	for _, file := range ctlFiles {
		list = append(list, wire.Dirent{QID: wire.QID{Path: file.id}, Type: direntType(file.mode), Name: file.name})
	}
	for i := cookie; i < uint64(len(list)); i++ {
		list[i].Offset = i + 1
		if !fn(list[i]) {
			return nil
		}
	}
	return nil
}

func (h *ctlHandle) Fsync(context.Context, bool) error { return nil }
func (h *ctlHandle) Close(context.Context) error       { return nil }
func (h *ctlHandle) Allocate(context.Context, uint32, uint64, uint64) error {
	return syscall.EOPNOTSUPP
}

// command does what was written to ctl: "sync", "barrier PATH", "barrier" (of all that was done so far), "drop"
// (give back what is cached and not in use), "giveup" (see GiveUp).
func (f *FS) command(ctx context.Context, line string) error {
	verb, arg, _ := strings.Cut(line, " ")
	switch verb {
	case "":
		return nil
	case "sync":
		return f.Sync(ctx)
	case "barrier":
		if arg == "" {
			return f.BarrierAll()
		}
		return f.BarrierAt(ctx, arg)
	case "drop":
		return f.Drop(ctx)
	case "giveup":
		f.GiveUp()
		return nil
	}
	return syscall.EINVAL
}

// Drop gives the tokens back of all objects that have nothing pending, and with them goes what is cached.
func (f *FS) Drop(ctx context.Context) error {
	if f.plain != nil {
		return nil
	}
	if err := f.Sync(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for id := range f.nodes {
		if f.holder.Mode(id) != tokens.None && f.pendingOn(f.nodes[id]) == 0 {
			f.holder.GiveBack(id, tokens.None)
		}
	}
	f.settle()
	return nil
}
