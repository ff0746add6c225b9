package main

import (
	"archive/tar"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/p9srv"

	"golang.org/x/sys/unix"
)

const (
	filesPerDir = 100
	fileSize    = 1000
)

func content(i int) []byte {
	b := make([]byte, fileSize)
	for j := range b {
		b[j] = byte(i + j)
	}
	return b
}

func dirAndName(i int) (string, string) {
	return fmt.Sprintf("d%03d", i/filesPerDir), fmt.Sprintf("f%03d", i%filesPerDir)
}

// archive makes a tar file with n small files, in memory.
func archive(path string, n int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	for i := range n {
		d, name := dirAndName(i)
		if i%filesPerDir == 0 {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tree/" + d + "/", Mode: 0o755, ModTime: time.Now()}); err != nil {
				return err
			}
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "tree/" + d + "/" + name, Mode: 0o644, Size: fileSize, ModTime: time.Now()}); err != nil {
			return err
		}
		if _, err := w.Write(content(i)); err != nil {
			return err
		}
	}
	return w.Close()
}

// treePart: a new tree of small files. Local is tar x and then sync of that file system.
func treePart(ctx context.Context, mnt string, c config) ([]row, error) {
	work, err := os.MkdirTemp("/dev/shm", "echo9-costs-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	tarball := filepath.Join(work, "tree.tar")
	if err := archive(tarball, c.files); err != nil {
		return nil, err
	}
	e, err := newExport(ctx, mnt, "tree")
	if err != nil {
		return nil, err
	}
	defer e.close()
	var local, direct, checkpoint, cached []time.Duration
	for n := range 5 {
		took, err := timed(func() error { return unpack(ctx, mnt, tarball) })
		if err != nil {
			return nil, err
		}
		local = append(local, took)
		if err := os.RemoveAll(filepath.Join(mnt, "tree-local")); err != nil {
			return nil, err
		}
		unix.Sync()

		records, err := e.treeCut(ctx, fmt.Sprint("t", n), c.files)
		if err != nil {
			return nil, err
		}
		took, err = timed(func() error {
			return e.fs.Apply(ctx, &p9srv.Cred{Session: 1}, &cut.Cut{Number: uint64(n + 1), Records: records})
		})
		if err != nil {
			return nil, err
		}
		direct = append(direct, took)
		took, err = timed(func() error { return e.fs.Checkpoint(ctx) })
		if err != nil {
			return nil, err
		}
		checkpoint = append(checkpoint, took)

		took, err = timed(func() error { return e.cachedTree(ctx, fmt.Sprint("c", n), c.files) })
		if err != nil {
			return nil, err
		}
		cached = append(cached, took)
		if err := e.fs.Checkpoint(ctx); err != nil {
			return nil, err
		}
	}
	what := fmt.Sprintf("%d files of %d bytes: ", c.files, fileSize)
	return []row{
		{what: what + "one cut", local: median(local), echo9: median(direct), goal: 1.5, detail: "checkpoint after it " + show(median(checkpoint))},
		{what: what + "one cut and its checkpoint", local: median(local), echo9: median(direct) + median(checkpoint)},
		{what: what + "through a cache, fsynced", local: median(local), echo9: median(cached)},
	}, nil
}

func unpack(ctx context.Context, mnt, tarball string) error {
	dir := filepath.Join(mnt, "tree-local")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "tar", "xf", tarball, "-C", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("tar: %w: %s", err, out)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Syncfs(fd)
}

// treeCut makes the cut that creates the tree under name.
func (e *export) treeCut(ctx context.Context, name string, files int) ([]cut.Record, error) {
	root, err := e.fs.Root(ctx, nil, "")
	if err != nil {
		return nil, err
	}
	defer root.Release()
	dirs := (files + filesPerDir - 1) / filesPerDir
	id, err := e.fs.AllocIDs(uint64(1 + dirs + files))
	if err != nil {
		return nil, err
	}
	now := time.Now().UnixNano()
	var out []cut.Record
	add := func(dir uint64, name string, mode uint32, data []byte) uint64 {
		me := id
		id++
		out = append(out, cut.Record{Kind: cut.Create, ID: me, Mode: mode}, cut.Record{Kind: cut.Bind, Dir: dir, Name: name, ID: me})
		a := cut.Record{Kind: cut.Attr, ID: me, Valid: cut.AttrMtime | cut.AttrCtime, Mtime: now, Ctime: now}
		if data != nil {
			out = append(out, cut.Record{Kind: cut.Data, ID: me, Bytes: data})
			a.Valid, a.Size = a.Valid|cut.AttrSize, uint64(len(data))
		}
		out = append(out, a)
		return me
	}
	top, dir := add(root.ID(), name, unix.S_IFDIR|0o755, nil), uint64(0)
	for i := range files {
		d, f := dirAndName(i)
		if i%filesPerDir == 0 {
			dir = add(top, d, unix.S_IFDIR|0o755, nil)
		}
		add(dir, f, unix.S_IFREG|0o644, content(i))
	}
	return out, nil
}

// cachedTree makes the tree as a program does through a mount, and fsyncs it.
func (e *export) cachedTree(ctx context.Context, name string, files int) error {
	c, err := e.client(ctx)
	if err != nil {
		return err
	}
	top, _, err := c.root.Mkdir(ctx, c.cred, name, 0o755, 0)
	if err != nil {
		return err
	}
	var dir p9srv.Object
	for i := range files {
		d, name := dirAndName(i)
		if i%filesPerDir == 0 {
			if dir != nil {
				dir.Release()
			}
			if dir, _, err = top.Mkdir(ctx, c.cred, d, 0o755, 0); err != nil {
				return err
			}
		}
		o, f, _, err := dir.Create(ctx, c.cred, name, wire.OWronly|wire.OExcl, 0o644, 0)
		if err != nil {
			return err
		}
		if _, err := f.WriteAt(ctx, content(i), 0); err != nil {
			return err
		}
		if err := f.Close(ctx); err != nil {
			return err
		}
		o.Release()
	}
	dir.Release()
	top.Release()
	if err := c.fs.Sync(ctx); err != nil {
		return err
	}
	return c.close(ctx)
}
