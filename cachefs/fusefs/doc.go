// Package fusefs mounts any p9srv.Backend by FUSE.
package fusefs
