//go:build linux

package supervisor

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"beanstalk-agent/agent/internal/runs"
)

// Issue 4's budgets: 64 kB of ours for a session without terminal, 300 kB with one. The processes of the
// sessions are not ours. Measured over many, so that one page more or less does not show.
func TestSessionMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("starts 120 commands")
	}
	const n = 60
	for io, budget := range map[string]int{runs.IOPipes: 64, runs.IOTerminal: 300} {
		d := start(t)
		req := argv("sleep", "1000")
		req.IO = io
		null := devNull(t)
		one := func() {
			h := runs.Handover{}
			if io == runs.IOPipes {
				h.Files = []int{null, null, null}
			}
			if _, err := d.Start(t.Context(), req, h); err != nil {
				t.Fatal(err)
			}
		}
		one() // what the first costs, all have
		before := anonOf(t, d.cmd.Process.Pid)
		for range n {
			one()
		}
		each := (anonOf(t, d.cmd.Process.Pid) - before) / n
		t.Logf("%s: %d kB each", io, each)
		if each > budget && !raceDetector { // which keeps books of its own on every allocation
			t.Errorf("%s: a session takes %d kB, at most %d are allowed", io, each, budget)
		}
	}
}

// anonOf is a process's anonymous memory in kB.
func anonOf(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "RssAnon:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
