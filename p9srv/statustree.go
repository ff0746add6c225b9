package p9srv

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"echo9/internal/wire"
	"echo9/tokens"
)

// StatusAname is the aname of the tree that tells how the server stands, beside the exports.
const StatusAname = ".echo9"

// The ids of the status tree lie above those of all objects: no token is needed for them.
const (
	statusRootID uint64 = 1<<53 + iota
	statusTextID
	statusJSONID
	statusEventsID
	statusDeathsID
)

// synthetic tells whether all that is asked for is in the status tree.
func synthetic(elems []tokens.Elem) bool {
	for i := range elems {
		if elems[i].ID < statusRootID {
			return false
		}
	}
	return true
}

// statusFile is a file of the status tree. text makes what it contains, as cred may see it.
type statusFile struct {
	name string
	id   uint64
	text func(ctx context.Context, a *Authority, cred *Cred) []byte
	// write takes a line of what is written to it; nil: it is read-only.
	write func(a *Authority, cred *Cred, line string) error
}

var statusFiles = []statusFile{
	{"status", statusTextID, func(ctx context.Context, a *Authority, cred *Cred) []byte {
		return []byte(a.StatusFor(ctx, cred).String())
	}, nil},
	{"status.json", statusJSONID, func(ctx context.Context, a *Authority, cred *Cred) []byte {
		b, err := json.Marshal(a.StatusFor(ctx, cred))
		if err != nil {
			panic("p9srv: status cannot be encoded: " + err.Error())
		}
		return append(b, '\n')
	}, nil},
	{"events", statusEventsID, func(_ context.Context, a *Authority, cred *Cred) []byte {
		var b bytes.Buffer
		for _, e := range a.events.last(maxEvents, mayKnow(cred)) {
			fmt.Fprintln(&b, e)
		}
		return b.Bytes()
	}, nil},
	{"deaths", statusDeathsID, deathsText, deathTold},
}

// deathsText is the user's own sessions that died with work pending, as JSON, a line each.
func deathsText(_ context.Context, a *Authority, cred *Cred) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, d := range a.Deaths(cred.UID) {
		if err := enc.Encode(d); err != nil {
			panic("p9srv: deaths cannot be encoded: " + err.Error())
		}
	}
	return b.Bytes()
}

// deathTold takes in that the user knows of the death of a session of his.
func deathTold(a *Authority, cred *Cred, line string) error {
	id, err := strconv.ParseUint(line, 10, 64)
	if err != nil {
		return syscall.EINVAL
	}
	for _, d := range a.Deaths(cred.UID) {
		if d.Session == id {
			a.DeathsTold([]Death{d})
			return nil
		}
	}
	return syscall.ENOENT
}

// rootFor is what Tattach gives: an export's root, or that of the status tree.
func (s *Server) rootFor(ctx context.Context, cred *Cred, aname string) (Object, error) {
	switch {
	case aname != StatusAname:
	case s.cfg.Control != nil:
		return s.cfg.Control.Root(ctx, cred, "")
	case s.cfg.Authority != nil:
		return &statusObject{a: s.cfg.Authority}, nil
	}
	return s.cfg.Backend.Root(ctx, cred, aname)
}

// statusObject is an object of the status tree: the root when it has no file. What it tells depends on who asks,
// and on nothing that could wait.
type statusObject struct {
	a    *Authority
	file *statusFile
}

func (o *statusObject) ID() uint64 {
	if o.file == nil {
		return statusRootID
	}
	return o.file.id
}

func (o *statusObject) Release() {}

func (o *statusObject) QID() wire.QID {
	if o.file == nil {
		return wire.QID{Type: wire.QTDir, Path: statusRootID}
	}
	return wire.QID{Path: o.file.id}
}

func (o *statusObject) GetAttr(ctx context.Context, cred *Cred) (wire.Attr, error) {
	now := time.Now().UnixNano()
	a := wire.Attr{
		QID: o.QID(), Mode: syscall.S_IFDIR | 0o555, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), Nlink: 2,
		BlockSize: 4096, Atime: now, Mtime: now, Ctime: now, Btime: now,
	}
	if o.file != nil {
		a.Mode, a.Nlink = syscall.S_IFREG|0o444, 1
		if o.file.write != nil {
			a.Mode |= 0o222
		}
		a.Size = uint64(len(o.file.text(ctx, o.a, cred)))
	}
	return a, nil
}

func (o *statusObject) Walk(ctx context.Context, cred *Cred, name string) (Object, wire.Attr, error) {
	next := &statusObject{a: o.a}
	switch {
	case name == "..":
	case o.file != nil:
		return nil, wire.Attr{}, syscall.ENOTDIR
	default:
		for i := range statusFiles {
			if statusFiles[i].name == name {
				next.file = &statusFiles[i]
			}
		}
		if next.file == nil {
			return nil, wire.Attr{}, syscall.ENOENT
		}
	}
	attr, err := next.GetAttr(ctx, cred)
	return next, attr, err
}

func (o *statusObject) Open(ctx context.Context, cred *Cred, flags uint32) (File, error) {
	update := flags&wire.OAccMode != wire.ORdonly || flags&wire.OTrunc != 0
	switch {
	case update && (o.file == nil || o.file.write == nil):
		return nil, syscall.EROFS
	case o.file == nil:
		return statusHandle{}, nil
	case flags&wire.ODirectory != 0:
		return nil, syscall.ENOTDIR
	}
	h := statusHandle{o: o, cred: cred, writable: update}
	if flags&wire.OAccMode != wire.OWronly {
		h.text = o.file.text(ctx, o.a, cred)
	}
	return h, nil
}

// statusHandle is an open object of the status tree: what a file contained at the open.
type statusHandle struct {
	o        *statusObject // nil: the directory
	cred     *Cred
	text     []byte
	writable bool
}

func (h statusHandle) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	if h.o == nil {
		return 0, syscall.EISDIR
	}
	return copy(p, h.text[min(off, int64(len(h.text))):]), nil
}

func (h statusHandle) ReadDir(_ context.Context, cookie uint64, fn func(wire.Dirent) bool) error {
	if h.o != nil {
		return syscall.ENOTDIR
	}
	root := wire.QID{Type: wire.QTDir, Path: statusRootID}
	list := []wire.Dirent{{QID: root, Type: syscall.DT_DIR, Name: "."}, {QID: root, Type: syscall.DT_DIR, Name: ".."}}
	for _, f := range statusFiles {
		list = append(list, wire.Dirent{QID: wire.QID{Path: f.id}, Type: syscall.DT_REG, Name: f.name})
	}
	for i := min(cookie, uint64(len(list))); i < uint64(len(list)); i++ {
		list[i].Offset = i + 1
		if !fn(list[i]) {
			return nil
		}
	}
	return nil
}

// WriteAt takes whole lines.
func (h statusHandle) WriteAt(_ context.Context, p []byte, _ int64) (int, error) {
	if !h.writable {
		return 0, syscall.EBADF
	}
	for line := range strings.Lines(string(p)) {
		if err := h.o.file.write(h.o.a, h.cred, strings.TrimSpace(line)); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func (statusHandle) Fsync(context.Context, bool) error { return nil }
func (statusHandle) Close(context.Context) error       { return nil }
func (statusHandle) Allocate(context.Context, uint32, uint64, uint64) error {
	return syscall.EROFS
}

// The rest refuses: names and attributes are read-only.

func (o *statusObject) SetAttr(context.Context, *Cred, File, wire.SetAttr) error {
	return syscall.EROFS
}
func (o *statusObject) Readlink(context.Context, *Cred) (string, error) { return "", syscall.EINVAL }
func (o *statusObject) Create(context.Context, *Cred, string, uint32, uint32, uint32) (Object, File, wire.Attr, error) {
	return nil, nil, wire.Attr{}, syscall.EROFS
}
func (o *statusObject) Mkdir(context.Context, *Cred, string, uint32, uint32) (Object, wire.Attr, error) {
	return nil, wire.Attr{}, syscall.EROFS
}
func (o *statusObject) Symlink(context.Context, *Cred, string, string, uint32) (Object, wire.Attr, error) {
	return nil, wire.Attr{}, syscall.EROFS
}
func (o *statusObject) Mknod(context.Context, *Cred, string, uint32, uint32, uint32, uint32) (Object, wire.Attr, error) {
	return nil, wire.Attr{}, syscall.EROFS
}
func (o *statusObject) Link(context.Context, *Cred, Object, string) error { return syscall.EROFS }
func (o *statusObject) Unlink(context.Context, *Cred, string, uint32) error {
	return syscall.EROFS
}
func (o *statusObject) Rename(context.Context, *Cred, string, Object, string, uint32) error {
	return syscall.EROFS
}
func (o *statusObject) GetXattr(context.Context, *Cred, string) ([]byte, error) {
	return nil, syscall.ENODATA
}
func (o *statusObject) ListXattr(context.Context, *Cred) ([]string, error) { return nil, nil }
func (o *statusObject) SetXattr(context.Context, *Cred, string, []byte, uint32) error {
	return syscall.EROFS
}
func (o *statusObject) RemoveXattr(context.Context, *Cred, string) error { return syscall.EROFS }
func (o *statusObject) Lock(context.Context, *Cred, wire.Lock) (wire.LockStatus, error) {
	return wire.LockError, syscall.EROFS
}
func (o *statusObject) GetLock(context.Context, *Cred, wire.Lock) (wire.Lock, error) {
	return wire.Lock{}, syscall.EROFS
}
