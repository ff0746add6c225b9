package cachefs

import "echo9/internal/wire"

// version is the object's data version as the server tells it: of its state there, without what is pending; 0 when it is not
// known. By it a reclaim says what the cache is of. Called with fs.mu held.
func (n *node) version() uint64 {
	if n.base.ctime == 0 {
		return 0
	}
	mode := uint32(modeRegular)
	if n.ents != nil {
		mode = modeDir
	}
	return wire.DataVersion(mode, n.base.ctime, n.base.size)
}
