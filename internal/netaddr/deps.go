package netaddr

import (
	_ "github.com/anishathalye/porcupine"
	_ "github.com/hanwen/go-fuse/v2/fuse"
	_ "github.com/hashicorp/go-memdb"
	_ "github.com/hugelgupf/p9/fsimpl/localfs"
	_ "github.com/hugelgupf/p9/p9"
	_ "github.com/urfave/cli/v2"
	_ "golang.org/x/sync/errgroup"
	_ "pgregory.net/rapid"
)
