package main

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// Only a process that was killed, and is not gone, is one whose mount may be taken from it.
func TestZombie(t *testing.T) {
	if zombie(os.Getpid()) {
		t.Error("this process lives")
	}
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); !zombie(cmd.Process.Pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a process that has ended, and that nobody has waited for, is not taken for dead")
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if zombie(cmd.Process.Pid) {
		t.Error("a process that is gone is no zombie")
	}
	if d := fuseDevice("/proc"); d != "" {
		t.Errorf("/proc is no mount of ours, and has device %s", d)
	}
}
