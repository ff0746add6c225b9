package coherence

import (
	"fmt"
	"sort"
	"strings"
	"syscall"
	"time"

	"github.com/anishathalye/porcupine"
)

// Model is the truth that a history is held against: registers, and two
// directories as a map from name to object. A state is a string: the register's value, or "name=id" sorted.
var Model = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := map[string][]porcupine.Operation{}
		for _, op := range history {
			p := op.Input.(input).part
			parts[p] = append(parts[p], op)
		}
		var all [][]porcupine.Operation
		for _, p := range parts {
			all = append(all, p)
		}
		return all
	},
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		i, o, s := in.(input), out.(output), state.(string)
		if i.part != "d" {
			return stepRegister(s, i, o)
		}
		return stepDirs(s, i, o)
	},
	DescribeOperation: func(in, out any) string {
		i, o := in.(input), out.(output)
		return fmt.Sprintf("%s: %s %s %s %d -> %d %q %v", i.client, i.verb, i.name, i.name2, i.value, o.value, o.names, o.err)
	},
}

func stepRegister(s string, i input, o output) (bool, any) {
	if i.verb == "write" {
		return true, fmt.Sprint(i.value)
	}
	if s == "" {
		s = "0"
	}
	return fmt.Sprint(o.value) == s, s
}

func stepDirs(s string, i input, o output) (bool, any) {
	names := map[string]string{}
	for _, e := range strings.Fields(s) {
		k, v, _ := strings.Cut(e, "=")
		names[k] = v
	}
	id, there := names[i.name]
	switch i.verb {
	case "create":
		if o.err == syscall.EEXIST {
			return there, s
		}
		if there {
			return false, s
		}
		names[i.name] = fmt.Sprint(o.value)
	case "unlink":
		if o.err == syscall.ENOENT {
			return !there, s
		}
		if !there {
			return false, s
		}
		delete(names, i.name)
	case "rename":
		if o.err == syscall.ENOENT {
			return !there, s
		}
		if !there {
			return false, s
		}
		delete(names, i.name)
		names[i.name2] = id
	case "lookup":
		if o.err == syscall.ENOENT {
			return !there, s
		}
		return there && id == fmt.Sprint(o.value), s
	case "list":
		var have []string
		for k := range names {
			if k[:1] == i.name {
				have = append(have, k[1:])
			}
		}
		sort.Strings(have)
		return strings.Join(have, " ") == o.names, s
	}
	return true, encode(names)
}

func encode(names map[string]string) string {
	all := make([]string, 0, len(names))
	for k, v := range names {
		all = append(all, k+"="+v)
	}
	sort.Strings(all)
	return strings.Join(all, " ")
}

// Check tells whether the history is linearizable; when not, explained is the
// history of the first part that is not, sorted by call. A check that does not end within the limit counts as
// Unknown.
func Check(history []porcupine.Operation, limit time.Duration) (result porcupine.CheckResult, explained string) {
	deadline := time.Now().Add(limit)
	for _, part := range Model.Partition(history) {
		m := Model
		m.Partition = nil
		r := porcupine.CheckOperationsTimeout(m, part, max(time.Until(deadline), time.Millisecond))
		if r == porcupine.Ok {
			continue
		}
		sort.Slice(part, func(i, j int) bool { return part[i].Call < part[j].Call })
		var b strings.Builder
		for _, op := range part {
			fmt.Fprintf(&b, "%9d–%9d µs worker %d  %s\n", op.Call/1000, op.Return/1000, op.ClientId, Model.DescribeOperation(op.Input, op.Output))
		}
		return r, b.String()
	}
	return porcupine.Ok, ""
}
