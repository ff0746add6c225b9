package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// cost is what a work took under a policy.
type cost struct {
	Messages int64   `json:"messages"` // sent by the client
	Rounds   int64   `json:"rounds"`   // round trips one after another while the programs ran
	Sent     int64   `json:"sent"`     // bytes
	Received int64   `json:"received"`
	Updates  int     `json:"updates"` // made
	Records  int     `json:"records"` // final values sent
	Cuts     int     `json:"cuts"`
	Seconds  float64 `json:"seconds"` // until the programs had ended
	Drained  float64 `json:"drained"` // until everything was at the server
}

// flush is what one look of somebody else made a client send.
type flush struct {
	Pending      int     `json:"pending"` // before
	PendingBytes int64   `json:"pending_bytes"`
	Updates      int     `json:"updates"` // flushed
	Records      int     `json:"records"`
	Cuts         int     `json:"cuts"`
	Bytes        int64   `json:"bytes"` // sent until the look was answered
	Seconds      float64 `json:"seconds"`
}

// measureWork runs a work under a policy, and tells what it cost until all was at the server.
func measureWork(ctx context.Context, c config, w work, p policy, rtt time.Duration) (k cost, err error) {
	s, err := newStand(ctx, c, p, rtt, 0)
	if err != nil {
		return k, err
	}
	defer func() {
		if cerr := s.close(); err == nil {
			err = cerr
		}
	}()
	if err := w.setup(ctx, c, s); err != nil {
		return k, err
	}
	was, err := s.status()
	if err != nil {
		return k, err
	}
	before, start := s.proxy.Counts(), time.Now()
	if err := w.do(ctx, c, "run", s.mnt); err != nil {
		return k, err
	}
	k.Seconds = time.Since(start).Seconds()
	k.Rounds = s.proxy.Counts().Sub(before).Rounds
	if err := s.sync(); err != nil {
		return k, err
	}
	k.Drained = time.Since(start).Seconds()
	n := s.proxy.Counts().Sub(before)
	k.Messages, k.Sent, k.Received = n.Requests, n.Sent, n.Received
	is, err := s.status()
	k.Updates, k.Records, k.Cuts = is.Updates-was.Updates, is.Records-was.Records, is.Cuts-was.Cuts
	return k, err
}

// setup makes a work's beginnings, which are no part of what is measured.
func (w work) setup(ctx context.Context, c config, s *stand) error {
	if err := w.do(ctx, c, "setup", s.mnt); err != nil {
		return err
	}
	return s.sync()
}

// measureRecall runs a work without write-back by age, and tells what a look at one file of it flushes.
func measureRecall(ctx context.Context, c config, w work, p policy) (k flush, err error) {
	s, err := newStand(ctx, c, p, 0, 0, "--write-behind", never.String())
	if err != nil {
		return k, err
	}
	defer func() {
		if cerr := s.close(); err == nil {
			err = cerr
		}
	}()
	if err := w.setup(ctx, c, s); err != nil {
		return k, err
	}
	if err := w.do(ctx, c, "run", s.mnt); err != nil {
		return k, err
	}
	if _, err := s.settled(); err != nil {
		return k, err
	}
	return s.recall(ctx, w.target(c))
}

// place is where the other unsent changes are when somebody looks at one file.
type place struct {
	name, what string
	run        func(s *stand, top string, k int) error // makes k changes, and that of target
}

const target = "here/target"

var places = []place{
	{"other directories", "new files in ten other directories, and then the file",
		func(s *stand, top string, k int) error {
			for i := range k {
				if err := writeFile(s, fmt.Sprintf("%s/there%d/file%d", top, i%10, i)); err != nil {
					return err
				}
			}
			return writeFile(s, top+"/"+target)
		}},
	{"the same directory", "new files in the file's own directory, and then the file",
		func(s *stand, top string, k int) error {
			for i := range k {
				if err := writeFile(s, fmt.Sprintf("%s/here/file%d", top, i)); err != nil {
					return err
				}
			}
			return writeFile(s, top+"/"+target)
		}},
	{"the same directory, old names", "files of the file's own directory that were there before, written in place, and then the file",
		func(s *stand, top string, k int) error {
			write := func() error {
				for i := range k {
					if err := writeFile(s, fmt.Sprintf("%s/here/file%d", top, i)); err != nil {
						return err
					}
				}
				return writeFile(s, top+"/"+target)
			}
			if err := write(); err != nil {
				return err
			}
			if err := s.sync(); err != nil {
				return err
			}
			return write()
		}},
}

var kilobyte = make([]byte, 1024)

func writeFile(s *stand, name string) error {
	return os.WriteFile(filepath.Join(s.mnt, name), kilobyte, 0o644)
}

// measureSweep tells what a look at one file flushes while k other files are unsent.
func measureSweep(ctx context.Context, c config, pl place, p policy, ks []int) (fs []flush, err error) {
	s, err := newStand(ctx, c, p, 0, 0, "--write-behind", never.String())
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := s.close(); err == nil {
			err = cerr
		}
	}()
	for _, k := range ks {
		top := fmt.Sprintf("k%d", k)
		dirs := []string{top, top + "/here"}
		for i := range 10 {
			dirs = append(dirs, fmt.Sprintf("%s/there%d", top, i))
		}
		for _, d := range dirs {
			if err := os.Mkdir(filepath.Join(s.mnt, d), 0o755); err != nil {
				return nil, err
			}
		}
		if err := s.sync(); err != nil {
			return nil, err
		}
		if err := pl.run(s, top, k); err != nil {
			return nil, err
		}
		if _, err := s.settled(); err != nil {
			return nil, err
		}
		f, err := s.recall(ctx, top+"/"+target)
		if err != nil {
			return nil, err
		}
		fs = append(fs, f)
		if err := s.sync(); err != nil {
			return nil, err
		}
	}
	return fs, nil
}

const (
	gigabit = 1e9 / 8 // bytes a second
	bigFile = 8 << 20 // of the large drain
	looks   = 5       // while it goes on
)

// measureDrain looks at small files, each just made, while mib MiB are written beside them and drain.
// It gives the looks sorted by their time.
func measureDrain(ctx context.Context, c config, p policy, rtt time.Duration, mib int) (fs []flush, err error) {
	s, err := newStand(ctx, c, p, rtt, gigabit)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := s.close(); err == nil {
			err = cerr
		}
	}()
	for _, d := range []string{"big", "here"} {
		if err := os.Mkdir(filepath.Join(s.mnt, d), 0o755); err != nil {
			return nil, err
		}
	}
	if err := s.sync(); err != nil {
		return nil, err
	}
	files := max(looks+1, mib<<20/bigFile)
	written := make(chan error, files) // one value a file
	go func() {
		defer close(written)
		data := make([]byte, bigFile)
		for i := range files {
			data[0] = byte(i)
			err := os.WriteFile(filepath.Join(s.mnt, fmt.Sprintf("big/%d", i)), data, 0o644)
			written <- err
			if err != nil {
				return
			}
		}
	}()
	done := 0
	for i := range looks {
		for ; done < (i+1)*files/(looks+1); done++ {
			if err := <-written; err != nil {
				return nil, err
			}
		}
		name := fmt.Sprintf("here/target%d", i)
		if err := writeFile(s, name); err != nil {
			return nil, err
		}
		f, err := s.recall(ctx, name)
		if err != nil {
			return nil, err
		}
		fs = append(fs, f)
	}
	for err := range written {
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(fs, func(a, b flush) int { return int((a.Seconds - b.Seconds) * 1e9) })
	return fs, s.sync()
}
