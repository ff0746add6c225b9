package durable

import (
	"fmt"
	"os"

	"echo9/tests/internal/treehash"
)

// shadow is an ordinary directory in which the rounds of a client are done again.
type shadow struct {
	dir    string
	story  *story
	rounds uint64 // that are done
}

// compared is everything but times, which are those of whoever did it.
var compared = treehash.Fields{Owner: true, Links: true, Xattrs: true}

func newShadow(dir string, seed, client uint64) (*shadow, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	return &shadow{dir: dir, story: newStory(seed, client)}, nil
}

func (s *shadow) advance() error {
	for _, o := range s.story.next().ops {
		if err := onHost(s.dir, o); err != nil {
			return fmt.Errorf("the shadow's round %d: %w", s.rounds+1, err)
		}
	}
	s.rounds++
	return nil
}

// check compares dir, after a crash, with what it was after acked rounds, and after
// one more. s.rounds is how many it has.
func (s *shadow) check(dir string, acked uint64) error {
	got, err := treehash.Tree(dir, compared)
	if err != nil {
		return err
	}
	if acked < s.rounds {
		// The round in flight at the crash before was there, and none was acknowledged since.
		acked = s.rounds
	}
	for s.rounds < acked {
		if err := s.advance(); err != nil {
			return err
		}
	}
	want, err := treehash.Tree(s.dir, compared)
	if err != nil {
		return err
	}
	less := treehash.Diff(want, got, 10)
	if less == "" {
		return nil
	}
	if err := s.advance(); err != nil {
		return err
	}
	if want, err = treehash.Tree(s.dir, compared); err != nil {
		return err
	}
	more := treehash.Diff(want, got, 10)
	if more == "" {
		return nil
	}
	return fmt.Errorf("%s is neither what it was after round %d, the last that was acknowledged (first: expected, second: found):\n%s\nnor after the next one:\n%s", dir, acked, less, more)
}
