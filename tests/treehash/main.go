// Command treehash compares two trees, or prints one, name by name: type,
// permissions, owner, links, times, extended attributes, content.
//
//	treehash [-no owner,links,mtime,xattrs] DIR [DIR2]
//
// With two directories it prints how they differ, and exits with 1 if they do.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"echo9/tests/internal/treehash"
)

func main() {
	no := flag.String("no", "", "leave out: owner, links, mtime, xattrs")
	limit := flag.Int("limit", 10, "print at most this many differences")
	flag.Parse()
	f := treehash.All
	for _, w := range strings.Split(*no, ",") {
		switch w {
		case "owner":
			f.Owner = false
		case "links":
			f.Links = false
		case "mtime":
			f.Mtime = false
		case "xattrs":
			f.Xattrs = false
		case "":
		default:
			fail(fmt.Errorf("there is no field %q", w))
		}
	}
	if flag.NArg() < 1 || flag.NArg() > 2 {
		fail(fmt.Errorf("treehash takes one or two directories"))
	}
	a, err := treehash.Tree(flag.Arg(0), f)
	if err != nil {
		fail(err)
	}
	if flag.NArg() == 1 {
		names := make([]string, 0, len(a))
		for n := range a {
			names = append(names, n)
		}
		slices.Sort(names)
		for _, n := range names {
			fmt.Println(n, a[n])
		}
		return
	}
	b, err := treehash.Tree(flag.Arg(1), f)
	if err != nil {
		fail(err)
	}
	if d := treehash.Diff(a, b, *limit); d != "" {
		fmt.Println(d)
		os.Exit(1)
	}
	fmt.Printf("%d names are the same\n", len(a))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "treehash:", err)
	os.Exit(2)
}
