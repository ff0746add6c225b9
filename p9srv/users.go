package p9srv

import (
	"fmt"
	"net"
	"os"
	"os/user"
	"strconv"
	"sync"
	"syscall"
	"time"

	"echo9/internal/wire"

	"golang.org/x/sys/unix"
)

// Users says as whom peers without credentials (TCP, vsock, pipes) act. Peers on a
// unix socket are whom the kernel says they are: uid 0 may name anybody, others are themselves.
// The zero value is AsSelf.
type Users struct {
	mode usersMode
	uid  uint32
}

type usersMode uint8

const (
	usersSelf usersMode = iota
	usersUID
	usersClient
)

// AsSelf: everybody acts as the server's own user.
func AsSelf() Users { return Users{} }

// AsUID: everybody acts as that user.
func AsUID(uid uint32) Users { return Users{mode: usersUID, uid: uid} }

// AsClient: the uid that a client names is believed.
func AsClient() Users { return Users{mode: usersClient} }

// ParseUsers reads "self", "client" or a uid.
func ParseUsers(s string) (Users, error) {
	switch s {
	case "self", "":
		return AsSelf(), nil
	case "client":
		return AsClient(), nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || uint32(n) == wire.NoUID {
		return Users{}, fmt.Errorf("%q is neither self, client nor a uid", s)
	}
	return AsUID(uint32(n)), nil
}

func (u Users) String() string {
	switch u.mode {
	case usersUID:
		return strconv.FormatUint(uint64(u.uid), 10)
	case usersClient:
		return "client"
	}
	return "self"
}

// Peer is what is known of who is at the other end of a connection.
type Peer struct {
	Addr string // for people
	// HasCred: the kernel says who it is.
	HasCred  bool
	UID, GID uint32
	PID      int // 0 when not known
}

// PeerOf tells what the kernel knows of the other end of nc.
func PeerOf(nc net.Conn) Peer {
	p := Peer{Addr: "?"}
	if a := nc.RemoteAddr(); a != nil && a.String() != "" {
		p.Addr = a.String()
	}
	uc, ok := nc.(*net.UnixConn)
	if !ok {
		return p
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return p
	}
	var cred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if cerr != nil || err != nil || cred.Uid == wire.NoUID {
		return p
	}
	p.HasCred, p.UID, p.GID, p.PID = true, cred.Uid, cred.Gid, int(cred.Pid)
	p.Addr = fmt.Sprintf("unix uid %d pid %d", cred.Uid, cred.Pid)
	return p
}

// uidFor says as whom a peer acts that names the user uid (wire.NoUID: none) and uname.
func (u Users) uidFor(p Peer, uid uint32, uname string) (uint32, error) {
	self := uint32(os.Geteuid())
	if self != 0 {
		return self, nil // it cannot be anybody else
	}
	trusted := false
	own := self
	switch {
	case p.HasCred:
		trusted, own = p.UID == 0, p.UID
	case u.mode == usersUID:
		own = u.uid
	case u.mode == usersClient:
		trusted = true
	}
	switch {
	case !trusted:
		return own, nil
	case uid != wire.NoUID:
		return uid, nil
	case uname == "":
		return own, nil
	}
	if n, err := strconv.ParseUint(uname, 10, 32); err == nil && uint32(n) != wire.NoUID {
		return uint32(n), nil
	}
	usr, err := user.Lookup(uname)
	if err != nil {
		return 0, fmt.Errorf("attach as %q: %w", uname, syscall.EPERM)
	}
	n, err := strconv.ParseUint(usr.Uid, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("uid of %q: %w", uname, syscall.EPERM)
	}
	return uint32(n), nil
}

// anyUser says whether the peer may act for anybody.
func (u Users) anyUser(p Peer) bool {
	if os.Geteuid() != 0 {
		return false
	}
	if p.HasCred {
		return p.UID == 0
	}
	return u.mode == usersClient
}

// GroupsOf tells the groups of a user as this host knows them, at most a minute old.
func GroupsOf(uid uint32) (gid uint32, groups []uint32) { return hostGroups.lookup(uid) }

var hostGroups groupCache

// groupCache remembers which groups a user is in.
type groupCache struct {
	mu   sync.Mutex
	byID map[uint32]groupEntry
}

type groupEntry struct {
	gid    uint32
	groups []uint32
	until  time.Time
}

// groupsAge is how long a change of the user database may go unnoticed.
const groupsAge = time.Minute

// nobodyGID is the group of users that the host does not know.
const nobodyGID = 65534

func (g *groupCache) lookup(uid uint32) (gid uint32, groups []uint32) {
	now := time.Now()
	g.mu.Lock()
	e, ok := g.byID[uid]
	g.mu.Unlock()
	if ok && now.Before(e.until) {
		return e.gid, e.groups
	}
	e = groupsOf(uid)
	e.until = now.Add(groupsAge)
	g.mu.Lock()
	if g.byID == nil || len(g.byID) > 4096 {
		g.byID = map[uint32]groupEntry{}
	}
	g.byID[uid] = e
	g.mu.Unlock()
	return e.gid, e.groups
}

func groupsOf(uid uint32) groupEntry {
	e := groupEntry{gid: nobodyGID}
	if self := os.Geteuid(); self != 0 && uid == uint32(self) {
		return ownGroups()
	}
	usr, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		if uid == uint32(os.Geteuid()) {
			return ownGroups()
		}
		return e
	}
	if n, err := strconv.ParseUint(usr.Gid, 10, 32); err == nil {
		e.gid = uint32(n)
	}
	ids, err := usr.GroupIds()
	if err != nil {
		return e
	}
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil && uint32(n) != e.gid {
			e.groups = append(e.groups, uint32(n))
		}
	}
	return e
}

func ownGroups() groupEntry {
	e := groupEntry{gid: uint32(os.Getegid())}
	ids, err := os.Getgroups()
	if err != nil {
		return e
	}
	for _, id := range ids {
		e.groups = append(e.groups, uint32(id))
	}
	return e
}
