package faces

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// report is what a worker tells at its end.
type report struct {
	Done    map[string]int // operations that went well
	Slowest time.Duration
	Slow    string   // which that was
	Stale   int      // paths whose object vanished under the kernel, twice in one operation: see vanished
	Wrong   []string // what must not happen
}

// worker works in one directory, on names that all workers know.
type worker struct {
	dir    string
	id     int
	rnd    *rand.Rand
	n      int
	done   int // of those what went well
	report report
}

const (
	anyNames   = 6 // f0…: written in place, and all else
	wholeNames = 4 // w0…: come by rename, complete
)

// enough is how many operations a worker must get done.
const enough = 10

// workerMain is a worker's process: DIR NUMBER. It works until its stdin ends and it has done enough: one that starves does not end.
func workerMain(args []string) error {
	id, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	w := &worker{dir: args[0], id: id, rnd: rand.New(rand.NewPCG(uint64(id), 9)), report: report{Done: map[string]int{}}}
	var end atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		end.Store(true)
	}()
	for (!end.Load() || w.done < enough) && len(w.report.Wrong) < 10 {
		w.step()
	}
	return json.NewEncoder(os.Stdout).Encode(w.report)
}

func (w *worker) path(kind string, n int) string {
	return filepath.Join(w.dir, kind+strconv.Itoa(w.rnd.IntN(n)))
}

// step does one operation, and judges what comes of it.
func (w *worker) step() {
	w.n++
	f, f2 := w.path("f", anyNames), w.path("f", anyNames)
	whole, whole2 := w.path("w", wholeNames), w.path("w", wholeNames)
	var name string
	var err error
	began := time.Now()
	switch w.rnd.IntN(12) {
	case 0, 1:
		name, err = "replace", w.replace(whole)
	case 2:
		name, err = "create", w.create(f)
	case 3:
		name, err = "write", w.write(f)
	case 4:
		name, err = "unlink", os.Remove(f)
	case 5:
		name, err = "unlink whole", os.Remove(whole)
	case 6:
		name, err = "rename", os.Rename(f, f2)
	case 7:
		name, err = "rename whole", os.Rename(whole, whole2)
	case 8:
		name, err = "link", os.Link(f, f2)
	case 9:
		name, err = "list", w.list()
	case 10:
		name, err = "read", discard(os.ReadFile(f))
	case 11:
		name, err = "read whole", w.readWhole(whole)
	}
	if d := time.Since(began); d > w.report.Slowest {
		w.report.Slowest, w.report.Slow = d, name
	}
	switch {
	case err == nil:
		w.report.Done[name]++
		w.done++
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.EEXIST):
		// Somebody else was quicker.
	case vanished(err):
		w.report.Stale++
	default:
		w.report.Wrong = append(w.report.Wrong, fmt.Sprintf("worker %d, operation %d: %s: %v", w.id, w.n, name, err))
	}
}

// vanished tells whether err is ESTALE of an operation on a path. The kernel looks a name up first and then acts on
// the object, which somebody may have removed meanwhile; it tries that once more, and then gives up. What is
// done to an open file never fails so. (Go calls the lstat fstatat when os.ReadDir does it, of an entry whose type was not told.)
func vanished(err error) bool {
	if !errors.Is(err, syscall.ESTALE) {
		return false
	}
	var link *os.LinkError
	var path *os.PathError
	return errors.As(err, &link) || errors.As(err, &path) && slices.Contains([]string{"open", "lstat", "fstatat", "unlink", "remove"}, path.Op)
}

func discard(_ []byte, err error) error { return err }

// complete makes a content that tells whether it is whole.
func (w *worker) complete() []byte {
	body := strings.Repeat(fmt.Sprintf("%d %d\n", w.id, w.n), 1+w.rnd.IntN(2000))
	sum := sha256.Sum256([]byte(body))
	return []byte(hex.EncodeToString(sum[:]) + "\n" + body)
}

func (w *worker) replace(name string) error {
	tmp := filepath.Join(w.dir, fmt.Sprintf("tmp-%d-%d", w.id, w.n))
	err := os.WriteFile(tmp, w.complete(), 0o644)
	if err == nil {
		err = os.Rename(tmp, name)
	}
	if err != nil { // nobody else knows the name: it must go well
		return fmt.Errorf("of its own file: %s", err)
	}
	return nil
}

func (w *worker) readWhole(name string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	head, body, _ := strings.Cut(string(b), "\n")
	if sum := sha256.Sum256([]byte(body)); head != hex.EncodeToString(sum[:]) {
		return fmt.Errorf("%s is not whole: %d bytes, %.80q", filepath.Base(name), len(b), b)
	}
	return nil
}

func (w *worker) create(name string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(w.complete())
	return errors.Join(err, f.Close())
}

func (w *worker) write(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(w.complete(), int64(w.rnd.IntN(8192)))
	if err == nil && w.rnd.IntN(2) == 0 {
		err = f.Truncate(int64(w.rnd.IntN(4096)))
	}
	return errors.Join(err, f.Close())
}

func (w *worker) list() error {
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, e := range entries {
		if seen[e.Name()] {
			return fmt.Errorf("the listing has %s twice", e.Name())
		}
		seen[e.Name()] = true
		if _, err := e.Info(); err != nil && !errors.Is(err, syscall.ENOENT) {
			return err
		}
	}
	return nil
}
