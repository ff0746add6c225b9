package faces

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"echo9/tests/internal/treehash"
)

// op is something to be done below a root.
type op struct {
	Do   string
	Name string
	To   string `json:",omitempty"` // the other name of rename, link; the target of symlink
	Text string `json:",omitempty"`
	N    int64  `json:",omitempty"` // the mode of chmod, the size of truncate
}

func (o op) String() string {
	s := o.Do + " " + o.Name
	if o.To != "" {
		s += " " + o.To
	}
	if o.Text != "" {
		s += fmt.Sprintf(" (%d bytes)", len(o.Text))
	}
	if o.N != 0 {
		s += fmt.Sprintf(" %#o", o.N)
	}
	return s
}

// perform does o below root, and leaves nothing open.
func (o op) perform(root string) error {
	name, to := filepath.Join(root, o.Name), filepath.Join(root, o.To)
	switch o.Do {
	case "create":
		return put(name, os.O_CREATE|os.O_EXCL, o.Text)
	case "write":
		return put(name, 0, o.Text)
	case "overwrite":
		return put(name, os.O_TRUNC, o.Text)
	case "append":
		return put(name, os.O_APPEND, o.Text)
	case "truncate":
		return os.Truncate(name, o.N)
	case "chmod":
		return syscall.Chmod(name, uint32(o.N))
	case "rename":
		return syscall.Rename(name, to)
	case "unlink":
		return syscall.Unlink(name)
	case "mkdir":
		return syscall.Mkdir(name, 0o755)
	case "rmdir":
		return syscall.Rmdir(name)
	case "link":
		return syscall.Link(name, to)
	case "symlink":
		return syscall.Symlink(o.To, name)
	}
	return fmt.Errorf("nobody knows how to %s", o.Do)
}

func put(name string, flags int, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|flags, 0o644)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	return errors.Join(err, f.Close())
}

// request asks an actor to do something, or just to look.
type request struct {
	Op *op
	// Look: tell the whole tree, and of each of these names whether a look-up finds it.
	Look bool
	Ask  []string
}

// answer is an actor's.
type answer struct {
	Errno int
	Err   string
	Tree  map[string]string
	Found map[string]bool
}

// act does what is asked below root.
func (r request) act(root string) (a answer) {
	if r.Op != nil {
		if err := r.Op.perform(root); err != nil {
			a.Err = err.Error()
			var no syscall.Errno
			if errors.As(err, &no) {
				a.Errno = int(no)
			}
		}
	}
	if r.Look {
		a.Found = make(map[string]bool)
		for _, name := range r.Ask {
			_, err := os.Lstat(filepath.Join(root, name))
			a.Found[name] = err == nil
		}
		var err error
		if a.Tree, err = treehash.Tree(root, treehash.Fields{Owner: true, Links: true, Mtime: true}); err != nil {
			a.Err = err.Error()
		}
	}
	return a
}

// actorMain is an actor's process: ROOT [ADDRESS]. Requests come from stdin, or over TCP from the address.
func actorMain(args []string) error {
	var in io.Reader = os.Stdin
	var out io.Writer = os.Stdout
	if len(args) > 1 {
		c, err := net.Dial("tcp", args[1])
		if err != nil {
			return err
		}
		defer c.Close()
		in, out = c, c
	}
	requests, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var r request
		if err := requests.Decode(&r); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := answers.Encode(r.act(args[0])); err != nil {
			return err
		}
	}
}

// actor is the near end of an actor's process.
type actor struct {
	name     string
	requests *json.Encoder
	answers  *json.Decoder
	deadline func(time.Time) error // nil: none can be set
}

// do has the actor do something; the error is that it cannot be asked.
func (a *actor) do(r request) (answer, error) {
	if a.deadline != nil {
		if err := a.deadline(time.Now().Add(patience)); err != nil {
			return answer{}, err
		}
	}
	var ans answer
	if err := a.requests.Encode(r); err != nil {
		return ans, fmt.Errorf("asking %s: %w", a.name, err)
	}
	if err := a.answers.Decode(&ans); err != nil {
		return ans, fmt.Errorf("the answer of %s: %w", a.name, err)
	}
	return ans, nil
}

// newActor starts an actor on this machine.
func newActor(t *testing.T, name, root string) *actor {
	t.Helper()
	cmd, in, out := again(t, "actor", root)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the actor %s: %v", name, err)
		}
	})
	return &actor{name: name, requests: json.NewEncoder(in), answers: json.NewDecoder(out)}
}

// connActor is an actor that has connected to us.
func connActor(name string, c net.Conn) *actor {
	return &actor{name: name, requests: json.NewEncoder(c), answers: json.NewDecoder(c), deadline: c.SetDeadline}
}
