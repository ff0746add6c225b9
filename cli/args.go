package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// flagSet knows the flags of some commands, by name without dashes.
type flagSet map[string]arity

// arity says whether a flag takes a value.
type arity uint8

const (
	isSwitch  arity = iota
	hasValue        // -n N
	ambiguous       // the commands differ
)

func flagsOf(cmds ...*cli.Command) flagSet {
	s := flagSet{"help": isSwitch, "h": isSwitch, "version": isSwitch}
	for _, c := range cmds {
		for _, f := range c.Flags {
			a := hasValue
			if _, ok := f.(*cli.BoolFlag); ok {
				a = isSwitch
			}
			for _, n := range f.Names() {
				if other, ok := s[n]; ok && other != a {
					a = ambiguous
				}
				s[n] = a
			}
		}
	}
	return s
}

// reorder brings a command line into the one order that the flag parser takes:
// command, flags, "--", operands. Flags may stand anywhere, before the command
// too, and short ones together (-rf, -L2). What no command knows is an error,
// as is a flag of another command.
func reorder(cmds []*cli.Command, args []string) ([]string, error) {
	if len(args) < 2 {
		return args, nil
	}
	byName := make(map[string]*cli.Command)
	for _, c := range cmds {
		for _, n := range c.Names() {
			byName[n] = c
		}
	}
	known := flagsOf(cmds...)
	where := "echo9"
	var command string
	var flags, operands []string
	rest := args[1:]
	for len(rest) > 0 {
		arg := rest[0]
		rest = rest[1:]
		if arg == "--" {
			operands = append(operands, rest...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			if command != "" {
				operands = append(operands, arg)
				continue
			}
			command = arg
			switch c := byName[arg]; {
			case c != nil:
				known, where = flagsOf(c), "echo9 "+arg
				if err := checkKnown(known, flags, where); err != nil {
					return nil, err
				}
			case arg != "help" && arg != "h":
				return nil, usageError("there is no command %q; `echo9 --help` lists them", arg)
			}
			continue
		}
		var err error
		if flags, rest, err = takeFlag(known, where, arg, flags, rest); err != nil {
			return nil, err
		}
	}
	out := []string{args[0]}
	if command != "" {
		out = append(out, command)
	}
	out = append(out, flags...)
	if len(operands) > 0 {
		if byName[command] != nil {
			out = append(out, "--")
		}
		out = append(out, operands...)
	}
	return out, nil
}

// takeFlag adds arg, and its value from rest if it has one there, to flags.
func takeFlag(known flagSet, where, arg string, flags, rest []string) ([]string, []string, error) {
	name, _, given := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	takes, ok := known[name]
	switch {
	case takes == ambiguous:
		return nil, nil, usageError("%s means different things to different commands: say it after the command", arg)
	case ok && takes == hasValue && !given:
		if len(rest) == 0 {
			return nil, nil, usageError("%s needs a value; see `%s --help`", arg, where)
		}
		// With "=", since a value may begin with a dash.
		return append(flags, "--"+name+"="+rest[0]), rest[1:], nil
	case ok:
		return append(flags, arg), rest, nil
	case strings.HasPrefix(arg, "--") || len(arg) == 2:
		return nil, nil, usageError("%s has no flag %s; see `%s --help` (-- goes before an operand that begins with a dash)", where, arg, where)
	}
	// Short flags in one word.
	first, others := "-"+arg[1:2], arg[2:]
	takes, ok = known[arg[1:2]]
	switch {
	case !ok:
		return nil, nil, usageError("%s has no flag %s (in %s); see `%s --help`", where, first, arg, where)
	case takes == ambiguous:
		return nil, nil, usageError("%s means different things to different commands: say it after the command", first)
	case takes == hasValue:
		return append(flags, first+"="+others), rest, nil
	}
	return takeFlag(known, where, "-"+others, append(flags, first), rest)
}

// checkKnown looks at the flags that stood before the command.
func checkKnown(known flagSet, flags []string, where string) error {
	for _, f := range flags {
		name, _, _ := strings.Cut(strings.TrimLeft(f, "-"), "=")
		if _, ok := known[name]; !ok {
			return usageError("%s has no flag %s; see `%s --help`", where, f, where)
		}
	}
	return nil
}
