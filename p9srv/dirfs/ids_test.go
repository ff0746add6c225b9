package dirfs

import (
	"os"
	"path/filepath"
	"testing"

	"echo9/p9srv/journal"
)

// TestTableStaysSmall: what is appended to the table of ids again and again does not make its log grow for ever, and
// what counts is there after all that.
func TestTableStaysSmall(t *testing.T) {
	dir := t.TempDir()
	log := func() int64 {
		info, err := os.Stat(filepath.Join(dir, "ids"))
		must(t, err)
		return info.Size()
	}
	table, err := openIDTable(dir, func(string) error { return nil })
	must(t, err)
	kept, err := table.give(7, identity{tag: 70, handle: "seven"})
	must(t, err)
	gone, err := table.give(8, identity{tag: 80})
	must(t, err)
	const inode, unlinked = 77, 78 // ids that are inodes' numbers
	for i := range int64(100_000) {
		must(t, table.show([]journal.Ctime{{ID: kept, Host: i + 1, Shown: i + 2}, {ID: inode, Host: i + 1, Shown: i + 3}, {ID: unlinked, Host: i, Shown: 1}}))
		table.remove(unlinked)
		if i%1000 == 999 { // a checkpoint
			must(t, table.compact())
		}
	}
	table.remove(gone)
	if size := log(); size > 2*minHistory {
		t.Errorf("the log has %d bytes, for two rows", size)
	}
	if len(table.times) != 2 {
		t.Errorf("there are the times of %d objects; want those of 2", len(table.times))
	}
	table.close()
	table, err = openIDTable(dir, func(string) error { return nil })
	must(t, err)
	defer table.close()
	if got := table.find(7, 70); got != kept {
		t.Errorf("the row of inode 7 says %d; want %d", got, kept)
	}
	if got := table.find(8, 80); got != 0 {
		t.Errorf("there is a row of what is gone: %d", got)
	}
	for id, want := range map[uint64]times{kept: {100_000, 100_001}, inode: {100_000, 100_002}, unlinked: {}} {
		if got := table.timesOf(id); got != want {
			t.Errorf("object %d has times %v; want %v", id, got, want)
		}
	}
	if size := log(); size > 1000 {
		t.Errorf("written anew the log has %d bytes", size)
	}
}

// TestTableWithoutRoom: that the log cannot be written anew does not matter.
func TestTableWithoutRoom(t *testing.T) {
	dir := t.TempDir()
	table, err := openIDTable(dir, func(string) error { return nil })
	must(t, err)
	defer table.close()
	must(t, os.Mkdir(filepath.Join(dir, "ids.new"), 0o700))
	for i := range int64(minHistory/rowHeader + 1) {
		must(t, table.show([]journal.Ctime{{ID: 5, Host: i, Shown: i + 1}}))
	}
	must(t, table.compact())
	must(t, os.Remove(filepath.Join(dir, "ids.new")))
	must(t, table.show([]journal.Ctime{{ID: 6, Host: 1, Shown: 2}}))
	table.close()
	table, err = openIDTable(dir, func(string) error { return nil })
	must(t, err)
	if got := table.timesOf(6); got != (times{1, 2}) {
		t.Errorf("what was appended after that is %v", got)
	}
}
