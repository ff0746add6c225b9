package cachefs

import (
	"context"
	"syscall"

	"echo9/internal/wire"
	"echo9/tokens"
)

// What the server will refuse for sure, since the export is read-only or the host lets nobody change an object (chattr +i, +a), is
// refused here, to who wants it, before it is taken on. The server tells with the attributes.

// mayUpdate refuses updates of what is known of a turn's set. Called with fs.mu held.
func (t *turn) mayUpdate(elems []tokens.Elem) error {
	for _, e := range elems {
		n := t.fs.nodes[e.ID]
		if e.ID == tokens.DirMove || e.Mode != tokens.Write || n == nil || !n.attrOK {
			continue
		}
		if err := t.mayChange(n); err != nil {
			return err
		}
	}
	return nil
}

// mayChange is mayUpdate of one object. The host's administrator may have thought better of it, which nobody tells: so it is
// asked for once more before an update is refused. Called with fs.mu held.
func (t *turn) mayChange(n *node) error {
	switch refusals := n.attr.Flags & wire.AttrRefusals; {
	case refusals == 0 || t.fs.opt.Mutant == mutantTakeAll:
		return nil
	case refusals&wire.AttrReadOnly != 0:
		return syscall.EROFS
	case t.sure || n.fresh:
		return syscall.EPERM
	}
	t.sure = true
	asked := []wire.GrantElem{{ID: n.id, Mode: uint8(tokens.Read)}}
	t.wait = func(ctx context.Context) error { return t.fs.ask(ctx, t, asked) }
	return errAgain
}
