package main

import (
	"errors"
	"os"
	"path/filepath"
	"time"
)

// A tree is a way to the files.
type tree interface {
	read(path string) ([]byte, error) // a small file
	list(path string) ([]string, error)
	// put writes b at the start of a file, and waits until that is durable if sync.
	put(path string, flags int, b []byte, sync bool) error
	rename(from, to string) error
	remove(path string) error
	fsync(path string) error
	// allowed is how old what it shows may be.
	allowed() time.Duration
}

// mounted is a tree of this machine, of which the kernel may show for a while what it remembers.
type mounted struct {
	dir    string
	memory time.Duration
}

func (m mounted) at(path string) string { return filepath.Join(m.dir, path) }

func (m mounted) read(path string) ([]byte, error) { return os.ReadFile(m.at(path)) }

func (m mounted) list(path string) ([]string, error) {
	f, err := os.Open(m.at(path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func (m mounted) put(path string, flags int, b []byte, sync bool) error {
	f, err := os.OpenFile(m.at(path), flags, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil && sync {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (m mounted) rename(from, to string) error { return os.Rename(m.at(from), m.at(to)) }
func (m mounted) remove(path string) error     { return os.Remove(m.at(path)) }

func (m mounted) fsync(path string) error {
	d, err := os.Open(m.at(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (m mounted) allowed() time.Duration { return m.memory }
