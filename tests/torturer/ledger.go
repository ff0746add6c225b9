package main

import (
	"bufio"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A ledger is the record of what was acknowledged. It is a file beside what is tortured, and what it says is on the disk
// before it counts: who asks later asks the file. Many notes go to the disk together.
type ledger struct {
	name string
	file *os.File
	done chan struct{} // closed when the writer has ended

	mu      sync.Mutex // guards what follows
	changed *sync.Cond
	lines   []byte
	then    []func()
	noted   int // notes made, and on the disk
	written int
	closed  bool
	err     error
}

func newLedger(name string) (*ledger, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("making the ledger: %w", err)
	}
	l := &ledger{name: name, file: f, done: make(chan struct{})}
	l.changed = sync.NewCond(&l.mu)
	go l.write()
	return l, nil
}

// note writes an entry; then, unless nil, is called when it is on the disk. It does not wait.
func (l *ledger) note(e entry, then func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = fmt.Appendln(l.lines, e)
	if then != nil {
		l.then = append(l.then, then)
	}
	l.noted++
	l.changed.Broadcast()
}

func (l *ledger) write() {
	defer close(l.done)
	for {
		l.mu.Lock()
		for len(l.lines) == 0 && !l.closed {
			l.changed.Wait()
		}
		lines, then, noted := l.lines, l.then, l.noted
		l.lines, l.then = nil, nil
		l.mu.Unlock()
		if len(lines) == 0 {
			return
		}
		_, err := l.file.Write(lines)
		if err == nil {
			err = unix.Fdatasync(int(l.file.Fd()))
		}
		if err == nil {
			for _, f := range then {
				f()
			}
		}
		l.mu.Lock()
		l.written = noted
		if l.err == nil {
			l.err = err
		}
		l.changed.Broadcast()
		l.mu.Unlock()
	}
}

// read gives what the file says, with all that was noted so far.
func (l *ledger) read() (*acknowledged, error) {
	l.mu.Lock()
	for noted := l.noted; l.written < noted; {
		l.changed.Wait()
	}
	err := l.err
	l.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("writing the ledger: %w", err)
	}
	return readLedger(l.name)
}

func (l *ledger) close() {
	l.mu.Lock()
	l.closed = true
	l.changed.Broadcast()
	l.mu.Unlock()
	<-l.done
	l.file.Close()
}

// entry is a line of the ledger.
type entry struct {
	what string
	n    int
	of   string // the cell, the writer, or whose increment it is
	from string // of an increment: the one that it was made on
}

func (e entry) String() string { return fmt.Sprintf("%s %d %s %s", e.what, e.n, e.of, e.from) }

// What is noted.
const (
	isThere   = "there"  // a cell is in state n, or a later one: durable, or seen by somebody else
	isTried   = "try"    // the counter is about to be n
	isCounted = "count"  // it was n, and durable
	isRecord  = "record" // a writer's record n is in the common log: durable, or seen by somebody else
)

// nobody stands in an entry for no name.
const nobody = "-"

// acknowledged is what a ledger says.
type acknowledged struct {
	floors  map[string]int
	counted []entry
	tried   map[string]int // what the counter would be with an increment
	records map[record]bool
}

func readLedger(name string) (*acknowledged, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	a := &acknowledged{floors: map[string]int{}, tried: map[string]int{}, records: map[record]bool{}}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var e entry
		if _, err := fmt.Sscan(lines.Text(), &e.what, &e.n, &e.of, &e.from); err != nil {
			return nil, fmt.Errorf("the ledger has %q: %w", lines.Text(), err)
		}
		switch e.what {
		case isThere:
			a.floors[e.of] = max(a.floors[e.of], e.n)
		case isTried:
			a.tried[e.of] = e.n
		case isCounted:
			a.counted = append(a.counted, e)
		case isRecord:
			a.records[record{e.of, e.n}] = true
		default:
			return nil, fmt.Errorf("the ledger has %q", lines.Text())
		}
	}
	return a, lines.Err()
}
