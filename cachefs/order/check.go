package order

import (
	"fmt"
	"slices"

	"echo9/internal/cut"
)

// check panics if op, whose operands are set, is malformed.
func (op *Op) check() {
	bad := func(what string) { panic(fmt.Sprintf("order: malformed %v operation: %s", op.Kind, what)) }
	k := op.Kind
	if k == 0 || k >= kinds || k == void {
		bad("kind")
	}
	if op.ID == 0 {
		bad("no object")
	}
	switch k {
	case Create, Mkdir, Symlink, Mknod, Link, Unlink, Rmdir, Rename:
		if op.Dir == 0 || op.Name == "" {
			bad("no name")
		}
		if k == Rename && (op.Dir2 == 0 || op.Name2 == "") {
			bad("no new name")
		}
		if op.Exchange && op.Replaced == 0 {
			bad("nothing to exchange with")
		}
		if k == Rename && op.ID == op.Replaced {
			bad("one object under both names: not an operation")
		}
	case SetXattr, RemoveXattr:
		if op.Name == "" {
			bad("no name of an attribute")
		}
	case Write:
		if !slices.ContainsFunc(op.Attrs, func(a Attr) bool { return a.ID == op.ID && a.Valid&cut.AttrSize != 0 }) {
			bad("no size")
		}
	case Copy:
		if op.Source == 0 {
			bad("no source")
		}
	}
	for _, a := range op.Attrs {
		if !slices.Contains(op.Writes, a.ID) || k.orders() {
			bad(fmt.Sprintf("attributes of object %d, which it does not write", a.ID))
		}
	}
}
