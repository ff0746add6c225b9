package main

import (
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

func chmodCmd() clientCmd {
	return clientCmd{
		name: "chmod", operands: "MODE PATH...", usage: "change permissions", min: 2, max: -1,
		examples: "   echo9 -a ADDR chmod 640 /a\n   echo9 -a ADDR chmod u+x,go-w /run",
		run: func(c *cli.Context, s *session) error {
			change, err := parseMode(c.Args().First(), s.umask)
			if err != nil {
				return err
			}
			for _, p := range c.Args().Tail() {
				if err := s.tree.Chmod(c.Context, p, change); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// parseMode reads 0755 or u+x,go=r as chmod(1) does, into a change of a mode.
func parseMode(text string, umask uint32) (func(uint32) uint32, error) {
	if n, err := strconv.ParseUint(text, 8, 32); err == nil && n <= 0o7777 {
		return func(uint32) uint32 { return uint32(n) }, nil
	}
	var changes []func(uint32) uint32
	for _, clause := range strings.Split(text, ",") {
		f, ok := parseClause(clause, umask)
		if !ok {
			return nil, usageError("%q is no mode; say 644, or u+x, go-w, a=r", text)
		}
		changes = append(changes, f)
	}
	return func(mode uint32) uint32 {
		for _, f := range changes {
			mode = f(mode)
		}
		return mode & 0o7777
	}, nil
}

func parseClause(clause string, umask uint32) (func(uint32) uint32, bool) {
	at := strings.IndexAny(clause, "+-=")
	if at < 0 {
		return nil, false
	}
	var who uint32
	for _, c := range clause[:at] {
		switch c {
		case 'u':
			who |= 0o4700
		case 'g':
			who |= 0o2070
		case 'o':
			who |= 0o1007
		case 'a':
			who |= 0o7777
		default:
			return nil, false
		}
	}
	mask := uint32(0o7777)
	if who == 0 { // as chmod: all, less the umask
		who, mask = 0o7777, ^umask
	}
	var perm uint32
	ifX := false
	for _, c := range clause[at+1:] {
		switch c {
		case 'r':
			perm |= 0o444
		case 'w':
			perm |= 0o222
		case 'x':
			perm |= 0o111
		case 'X':
			ifX = true
		case 's':
			perm |= 0o6000
		case 't':
			perm |= 0o1000
		default:
			return nil, false
		}
	}
	op := clause[at]
	return func(mode uint32) uint32 {
		p := perm
		if ifX && (mode&0o111 != 0 || mode&0o170000 == 0o040000) {
			p |= 0o111
		}
		p &= who & mask
		switch op {
		case '+':
			return mode | p
		case '-':
			return mode &^ p
		}
		return mode&^(who&0o7777) | p
	}, true
}
