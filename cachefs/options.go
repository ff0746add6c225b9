package cachefs

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"echo9/cachefs/backlog"
	"echo9/cachefs/order"
	"echo9/cachefs/spool"
	"echo9/internal/boottime"
	"echo9/p9client"
	"echo9/p9srv"
)

// Writes says when updates go to the server.
type Writes uint8

// The write policies. The first is the default; the others are there to be compared with.
const (
	// Behind: by age and by amount, and when somebody else wants to see them.
	Behind Writes = iota
	// OnClose: what a file was changed to goes when it is closed, all else at once.
	OnClose
	// Sync: every update goes, and its answer is the server's.
	Sync
)

var writesNames = [...]string{Behind: "behind", OnClose: "close", Sync: "sync"}

// String is the policy as flags name it.
func (w Writes) String() string {
	if int(w) < len(writesNames) {
		return writesNames[w]
	}
	return fmt.Sprintf("writes%d", uint8(w))
}

// ParseWrites reads a write policy as flags name it: behind, close or sync.
func ParseWrites(s string) (Writes, error) {
	i := slices.Index(writesNames[:], s)
	if i < 0 {
		return 0, fmt.Errorf("%q is no write policy; say behind, close or sync", s)
	}
	return Writes(i), nil
}

var orderNames = [...]string{order.Object: "object", order.Causal: "causal", order.Total: "total"}

// ParseOrder reads an order as flags name it: object, causal or total.
func ParseOrder(s string) (order.Policy, error) {
	i := slices.Index(orderNames[:], s)
	if i < 0 {
		return 0, fmt.Errorf("%q is no order; say object, causal or total", s)
	}
	return order.Policy(i), nil
}

// Options are the settings of an FS. The zero value is usable.
type Options struct {
	// Aname names the export, or a directory in it, that is to be the root.
	Aname string
	// Name tells people at the server who this is; the default is user@host and the process id.
	Name string
	// Cred is the user of the conveniences of the Go API; the default is the process's own.
	Cred p9srv.Cred
	// WriteBehind is how old an update may become before it is sent (default 5 s).
	WriteBehind time.Duration
	// Dirty bounds the bytes of updates that are not at the server; writers wait at it (default 256 MiB).
	Dirty int64
	// Cache bounds the bytes of file data in memory; updates that are not at the server do not count (default 1 GiB).
	Cache int64
	// Objects bounds how many objects that nobody uses are remembered (default 200,000).
	Objects int
	// Order is what order updates keep: order.Object, order.Causal or order.Total.
	Order order.Policy
	// KernelAbove says that somebody above, such as the kernel's own client on what `echo9 cache` offers, may show names that he has
	// made to others without asking; those who mount by OnRevoke are known to. With the order causal they count as read.
	KernelAbove bool
	// Mountpoint is where programs see the tree: absolute targets of symlinks below it lead into the tree, others out of it. "":
	// they lead into the tree from its root, as for the Go API.
	Mountpoint string
	// Writes is the write policy.
	Writes Writes
	// CutOps and CutBytes bound a cut that goes in the background, so that a recall has not to wait
	// long for it (default 2,000 operations, 4 MiB).
	CutOps   int
	CutBytes int64
	// Inline is the size up to which files' contents come along with their attributes (default 16 KiB).
	Inline uint32

	// Dial connects again when the connection has broken. For Open the default is to dial its address again.
	Dial func(ctx context.Context) (*p9client.Conn, error)
	// Soft is how long an operation waits while the server is away and the lease is over, before it fails with EIO; 0: for ever,
	// or until its context ends.
	Soft time.Duration
	// Backlog, if any, has all that is pending before operations return, for Recover: it must be empty. Place is where the tree is offered.
	Backlog *backlog.Store
	Place   string
	// Spool keeps what is lost, with its bytes; nil: nothing is kept. Server is what the entries say where it was to go.
	Spool  *spool.Store
	Server string

	// Logf gets events worth a line: losses, slow recalls, a lost connection. The default is silent.
	Logf func(format string, args ...any)
	// Clock is the clock of leases and ages; the default is CLOCK_BOOTTIME.
	Clock boottime.Clock

	// Hooks are for tests.
	Hooks Hooks
	// Mutant is for tests only: the name of a mechanism to break (mutants.go has them), so that a test can show that
	// it would notice.
	Mutant string
}

// Hooks are called at certain points, for tests. None but Issued is called with a lock held.
type Hooks struct {
	// Commit is called before a cut is sent.
	Commit func(CutInfo)
	// Sent is called with the number of messages that a cut took.
	Sent func(messages int)
	// Issued is told of each update as it is taken on, before it is merged with others. It is called
	// under the FS's lock, and must not call the FS.
	Issued func(order.Op)
	// BeforeReturn is called before recalled tokens go back, after their cuts were applied.
	BeforeReturn func(ctx context.Context, ids []uint64)
}

// CutInfo describes a cut that is about to be sent.
type CutInfo struct {
	Number  uint64
	Why     string // "recall", "fsync", "age", …
	Ops     []*order.Op
	Records int
	Bytes   int64 // of data
}

func (o Options) withDefaults() Options {
	def := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	if o.WriteBehind == 0 {
		o.WriteBehind = 5 * time.Second
	}
	def(&o.Dirty, 256<<20)
	def(&o.Cache, 1<<30)
	def(&o.CutBytes, 4<<20)
	if o.Objects == 0 {
		o.Objects = 200_000
	}
	if o.CutOps == 0 {
		o.CutOps = 2000
	}
	if o.Inline == 0 {
		o.Inline = 16 << 10
	}
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	if o.Clock == nil {
		o.Clock = boottime.Now
	}
	if o.Cred.UID == 0 && o.Cred.GID == 0 && o.Cred.Groups == nil {
		o.Cred = processCred()
	}
	if o.Name == "" {
		o.Name = processName()
	}
	return o
}

func processCred() p9srv.Cred {
	c := p9srv.Cred{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	if groups, err := os.Getgroups(); err == nil {
		for _, g := range groups {
			c.Groups = append(c.Groups, uint32(g))
		}
	}
	return c
}
