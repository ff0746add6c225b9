package wire

import "io"

// slowReader gives at most n bytes a read.
type slowReader struct {
	p []byte
	n int
}

func (r *slowReader) Read(p []byte) (int, error) {
	if len(r.p) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.n)], r.p)
	r.p = r.p[n:]
	return n, nil
}
