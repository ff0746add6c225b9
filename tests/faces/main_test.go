// Package faces has the tests of one tree that is used through several faces at
// once: FUSE mounts by the echo9 command, the kernel's own client in a guest,
// and the server's host.
//
// What is done on a mount is done by processes of their own: this test's binary,
// started again with a role.
package faces

import (
	"fmt"
	"os"
	"testing"

	"echo9/tests/internal/echo9bin"
)

// roleVar says in a process's environment what this binary is to be.
const roleVar = "ECHO9_FACES_ROLE"

func TestMain(m *testing.M) {
	roles := map[string]func(args []string) error{"actor": actorMain, "worker": workerMain}
	if role, ok := roles[os.Getenv(roleVar)]; ok {
		if err := role(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	echo9bin.Main(m)
}
