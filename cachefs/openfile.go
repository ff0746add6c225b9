package cachefs

import (
	"context"

	"echo9/p9srv"
)

// File is a file or directory that OpenFile opened.
type File struct{ p9srv.File }

// Barrier orders all that was done to the file so far, through whatever handle, before all that is done later to any
// object: after a crash nothing later is there without it. It does not wait, and makes nothing durable.
// (Known elsewhere as forder or fbarrier.)
func (h *File) Barrier() error {
	own, ok := h.File.(*file)
	if !ok {
		return nil // all is done when it returns
	}
	f := own.n.fs
	f.mu.Lock()
	err := own.check()
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return f.barrier(own.n.id)
}

// Flush tells what the write behind met, as close(2) does.
func (h *File) Flush(ctx context.Context) error {
	if fl, ok := h.File.(p9srv.Flusher); ok {
		return fl.Flush(ctx)
	}
	return nil
}

// inner is the handle in a File, for those who are given one as a p9srv.File.
func inner(h p9srv.File) p9srv.File {
	if own, ok := h.(*File); ok {
		return own.File
	}
	return h
}
