package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// progress shows how far a long copy is, on one line of stderr that is written
// over twice a second. Short copies show nothing.
type progress struct {
	files, bytes atomic.Int64
	w            io.Writer
	start        time.Time
	stop         chan struct{}
	wg           sync.WaitGroup
	shown        bool
}

// startProgress shows progress if forced, or if w is a terminal; nil else.
func startProgress(w io.Writer, forced bool) *progress {
	if !forced && !isTerminal(w) {
		return nil
	}
	p := &progress{w: w, start: time.Now(), stop: make(chan struct{})}
	p.wg.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.show()
			case <-p.stop:
				if p.shown || forced {
					p.show()
					fmt.Fprintln(p.w)
				}
				return
			}
		}
	})
	return p
}

// add counts; it may be called on nil.
func (p *progress) add(files, bytes int64) {
	if p != nil {
		p.files.Add(files)
		p.bytes.Add(bytes)
	}
}

// end shows the last state. It may be called on nil.
func (p *progress) end() {
	if p != nil {
		close(p.stop)
		p.wg.Wait()
	}
}

func (p *progress) show() {
	p.shown = true
	n := p.bytes.Load()
	secs := time.Since(p.start).Seconds()
	fmt.Fprintf(p.w, "\r%d files, %sB, %sB/s, %.0f s ", p.files.Load(), byteCount(uint64(n)), byteCount(uint64(float64(n)/max(secs, 0.001))), secs)
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
