package order

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"echo9/internal/cut"
)

// cpu is the processor time that this process has used: on a busy machine it tells of
// the work, where the clock tells of the others.
func cpu(t *testing.T) time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

const bothTimes = cut.AttrMtime | cut.AttrCtime

// storms are ways to have n operations pending; place says where objects lie.
var storms = map[string]func(l *Log, n int){
	"creates in one directory": func(l *Log, n int) { creates(l, n, func(int) uint64 { return 2 }) },
	"creates in many":          func(l *Log, n int) { creates(l, n, func(i int) uint64 { return uint64(2 + i/100) }) },
	"appends to one file": func(l *Log, n int) {
		block := make([]byte, 64)
		for i := range uint64(n) {
			// Two users in turn, so that nothing is merged.
			l.Append(&Op{Kind: Write, ID: 1 << 40, UID: uint32(i % 2), Off: i * 64, Bytes: block,
				Attrs: []Attr{{ID: 1 << 40, Valid: bothTimes | cut.AttrSize, Size: (i + 1) * 64}}})
		}
	},
	"merged appends to many files": func(l *Log, n int) {
		block := make([]byte, 64)
		for i := range uint64(n) {
			id, off := 1<<40+i/16, i%16*64
			l.Append(&Op{Kind: Write, ID: id, Off: off, Bytes: block, Attrs: []Attr{{ID: id, Valid: bothTimes | cut.AttrSize, Size: off + 64}}})
			if i%16 == 15 {
				l.Append(&Op{Kind: SetAttr, ID: id, Attrs: []Attr{{ID: id, Valid: cut.AttrMode, Mode: 0o644}}})
			}
		}
	},
	"reads of what is pending": func(l *Log, n int) {
		for i := range uint64(n / 2) {
			l.Append(&Op{Kind: SetXattr, ID: 1<<40 + i, Name: "user.x"})
			l.Observe(1<<40 + i)
		}
	},
	"renames of one file": func(l *Log, n int) {
		for i := range n {
			move(l, 1<<40, 2, fmt.Sprint(i), 2, fmt.Sprint(i+1), false)
		}
	},
	"renames over one another": func(l *Log, n int) {
		for i := range n {
			op := &Op{Kind: Rename, ID: uint64(1<<40 + i + 1), Dir: 2, Name: "tmp", Dir2: 2, Name2: "f", Replaced: uint64(1<<40 + i), Last: true}
			op.Attrs = []Attr{{ID: op.ID, Valid: cut.AttrCtime}, {ID: 2, Valid: bothTimes}}
			l.Append(op)
		}
	},
	// 1,000 directories, each with a file that is pending, are moved about: each rename has a
	// few objects below it, of thousands that are pending.
	"renames of directories": func(l *Log, n int) {
		dirs := n / 10
		for d := range dirs {
			file := uint64(3_000_000 + d)
			l.Append(&Op{Kind: Write, ID: file, Bytes: []byte("x"), Attrs: []Attr{{ID: file, Valid: cut.AttrSize, Size: 1}}})
		}
		for i := range n - dirs {
			d := uint64(i % dirs)
			move(l, 2_000_000+d, 2, fmt.Sprint(d, i/dirs), 2, fmt.Sprint(d, i/dirs+1), true)
		}
	},
}

func creates(l *Log, n int, dir func(i int) uint64) {
	for i := range n {
		id, d := uint64(1<<40+i), dir(i)
		l.Append(&Op{Kind: Create, ID: id, Dir: d, Name: fmt.Sprint("f", i), Mode: 0o100644, At: int64(i),
			Attrs: []Attr{{ID: id, Valid: attrTimes}, {ID: d, Valid: bothTimes}}})
	}
}

func move(l *Log, id, from uint64, name string, to uint64, name2 string, dir bool) {
	op := &Op{Kind: Rename, ID: id, Dir: from, Name: name, Dir2: to, Name2: name2, IsDir: dir,
		Attrs: []Attr{{ID: id, Valid: cut.AttrCtime}, {ID: from, Valid: bothTimes}}}
	if dir {
		op.Reads = l.Below(id)
	}
	l.Append(op)
}

// lies tells where the objects of the storms lie: files 3,000,000+d in directories 2,000,000+d, and all else in directory 2.
func lies(id uint64) []uint64 {
	switch {
	case id == 2:
		return []uint64{rootID}
	case id == rootID:
		return nil
	case id >= 3_000_000 && id < 4_000_000:
		return []uint64{id - 1_000_000}
	}
	return []uint64{2}
}

// lives is what becomes of the operations of a storm, in as many logs as there are: appended, some recalled while all is
// pending, and the rest sent in bounded cuts.
func lives(logs int, storm func(*Log, int), n int) {
	all := make([]*Log, logs)
	for i := range all {
		all[i] = New(Causal) // as Object, where nothing is observed
		all[i].Locate(lies)
		storm(all[i], n)
	}
	for _, l := range all {
		sendAll(l, n)
	}
}

func sendAll(l *Log, n int) {
	number := uint64(0)
	send := func(id Ideal) {
		for rest := id.Seqs; len(rest) > 0; {
			number++
			taken := l.Take(rest, 2000, 4<<20)
			NetEffect(l.Begin(number, taken))
			l.Applied(number)
			rest = rest[len(taken):]
		}
	}
	for i := range uint64(n / 100) {
		l.Touching(ByWrite, 1<<40+i)
		l.Totals()
	}
	send(l.IdealOf(ByWrite|ByRead, 1<<40))
	send(l.IdealOf(ByWrite|ByRead, 3_000_001))
	for {
		id := l.Prefix(Limit{Ops: 2000, Bytes: 4 << 20})
		if len(id.Seqs) == 0 {
			break
		}
		send(id)
	}
}

// What ten times the operations may cost, as a multiple: in what they allocate and in a full run's processor time,
// and in the processor time of an everyday run.
const (
	mostGrowth   = 12.0
	everydayMost = 20.0
)

// work is what a life of operations has cost.
type work struct {
	cpu   time.Duration
	bytes uint64 // allocated in all
}

func (w work) least(v work) work {
	return work{cpu: min(w.cpu, v.cpu), bytes: min(w.bytes, v.bytes)}
}

// measure tells what f costs.
func measure(t *testing.T, f func()) work {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := cpu(t)
	f()
	took := cpu(t) - began
	runtime.ReadMemStats(&after)
	return work{cpu: took, bytes: after.TotalAlloc - before.TotalAlloc}
}

// growth compares one log with ten times n operations with ten logs of n, which have as much
// in the processor's caches, or not there. It tells how many times what one of the ten costs the
// large one costs: 10 where each operation costs the same. Who shares the machine makes single
// measures up to half as long again, so the least of several counts; most of them, unless enough says that it will do.
func growth(t *testing.T, most int, n int, life func(logs, n int), enough func(cpu, bytes float64) bool) (cpu, bytes float64) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	few, many := work{1 << 62, 1 << 62}, work{1 << 62, 1 << 62}
	for range most {
		few = few.least(measure(t, func() { life(10, n) }))
		many = many.least(measure(t, func() { life(1, 10*n) }))
		cpu, bytes = 10*float64(many.cpu)/float64(few.cpu), 10*float64(many.bytes)/float64(few.bytes)
		if enough(cpu, bytes) {
			break
		}
	}
	t.Logf("%d: %v and %d bytes, %d: %v and %d bytes: %.1f and %.1f times", n, few.cpu/10, few.bytes/10, 10*n, many.cpu, many.bytes, cpu, bytes)
	return cpu, bytes
}

// Ten times as many pending operations cost ten times as much, and at most a fifth more: exactly so in
// what they allocate, which is most of what they do; and in processor time when nobody shares
// the machine (ECHO9_FULL=1). Everyday runs share caches and memory with others, who
// were seen to make a ratio of 10.6 into 13: they ask for what no cost that grows squared can
// have (TestScalingSees).
func TestScaling(t *testing.T) {
	if testing.Short() {
		t.Skip("measures, which the race detector spoils")
	}
	most, tries := everydayMost, 8
	if os.Getenv("ECHO9_FULL") != "" {
		most, tries = mostGrowth, 30
	}
	for name, storm := range storms {
		t.Run(name, func(t *testing.T) {
			life := func(logs, n int) { lives(logs, storm, n) }
			cpu, bytes := growth(t, tries, 10_000, life, func(cpu, bytes float64) bool { return cpu <= most && bytes <= mostGrowth })
			if cpu > most {
				t.Errorf("%.1f times the time for 10 times the operations", cpu)
			}
			if bytes > mostGrowth {
				t.Errorf("%.1f times the memory for 10 times the operations", bytes)
			}
		})
	}
}

// TestScaling fails when something looks at all that is pending for each operation, or copies it.
func TestScalingSees(t *testing.T) {
	if testing.Short() {
		t.Skip("measures, which the race detector spoils")
	}
	each := func(logs, n int, do func(l *Log)) {
		for range logs {
			l := New(Causal)
			creates(l, n, func(int) uint64 { return 2 })
			for range n {
				do(l)
			}
		}
	}
	never := func(float64, float64) bool { return false }
	t.Run("looks", func(t *testing.T) {
		names := 0
		cpu, _ := growth(t, 3, 1000, func(logs, n int) {
			each(logs, n, func(l *Log) {
				for op := range l.All() {
					names += len(op.Name)
				}
			})
		}, never)
		if cpu <= everydayMost || names == 0 {
			t.Errorf("a look at all for each operation cost %.1f times as much for 10 times the operations", cpu)
		}
	})
	t.Run("copies", func(t *testing.T) {
		_, bytes := growth(t, 1, 300, func(logs, n int) {
			each(logs, n, func(l *Log) { l.Touching(ByWrite, 2) })
		}, never)
		if bytes <= mostGrowth {
			t.Errorf("a copy of all for each operation cost %.1f times as much for 10 times the operations", bytes)
		}
	})
}
