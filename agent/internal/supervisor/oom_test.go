//go:build linux

package supervisor

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"beanstalk-agent/agent/internal/runs"
)

// TestMemoryInVM is the memory column where cgroup v2 has the memory controller: the agent as it is built,
// its units without a change, under a real kernel. It takes half a minute and more, so it is asked for.
func TestMemoryInVM(t *testing.T) {
	if os.Getenv("AGENT_TEST_VM") == "" {
		t.Skip("takes a minute: set AGENT_TEST_VM=1, with the packages of packaging/testbed/vm")
	}
	needSystemd(t)
	dir := copyAgent(t)
	script := filepath.Join(dir, "script")
	text := fmt.Sprintf(`set -e
mkdir -p /opt/agent
ln -s "$PWD" %s
%s
CI=1 SUPERVISOR_TEST_INSIDE=v2 %[1]s/supervisor.test -test.v -test.run '^Test(OutliveMemory|InsidePlace)'
`, insideDir, instance(""))
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("../../../packaging/testbed/vm", "run", script, filepath.Join(dir, "supervisor.test"), filepath.Join(dir, "agent")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestOutliveMemory") || strings.Contains(string(out), "it is refused here") {
		t.Errorf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "---") || strings.Contains(line, "_test.go") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// A command that is given a limit and exceeds it is ended by the kernel, alone and whole; it is said at how
// much, and it is on record. Others, the supervisor and the agent go on.
func TestOutliveMemory(t *testing.T) {
	agentInside(t)
	c := &runs.Client{Socket: "/run/agent-runs/supervisor.sock"}
	info, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	greedy := func(mb int) *exec.Cmd { // tail keeps the one line in memory
		return exec.Command("agent", "exec", "--memory", "60M", "--", "sh", "-c", fmt.Sprintf("sleep 4444 & head -c %d /dev/zero | tail >/dev/null; exit 5", mb<<20))
	}
	if !strings.Contains(info.Place, "with memory limits") { // a v2 container
		cmd := greedy(1)
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 125 || !strings.Contains(string(out), "error: ") {
			t.Errorf("a limit that cannot be kept: code %d, %s", cmd.ProcessState.ExitCode(), out)
		}
		t.Log("it is refused here")
		return
	}
	neighbour := detached(t, "exec sleep 1000")
	cmd := greedy(300)
	out, _ := cmd.CombinedOutput()
	said := regexp.MustCompile(`killed by the kernel for memory at (\d+) MB`).FindStringSubmatch(string(out))
	if said == nil {
		t.Fatalf("code %d, and it is said: %s", cmd.ProcessState.ExitCode(), out)
	}
	t.Logf("code %d: %s", cmd.ProcessState.ExitCode(), strings.TrimSpace(string(out)))
	if strings.Contains(info.Place, "v2") && cmd.ProcessState.ExitCode() != 137 { // v1 kills one process, and the shell goes on
		t.Errorf("code %d: the run was not ended as a whole", cmd.ProcessState.ExitCode())
	}
	if mb, _ := strconv.Atoi(said[1]); mb < 50 || mb > 60 {
		t.Errorf("at %d MB, where the limit is 60", mb)
	}
	if len(pgrep("sleep 4444")) > 0 {
		t.Error("a process of the run is left")
	}
	if run := recordOf(t, neighbour); !run.Live() {
		t.Errorf("its neighbour ended as %+v", run)
	}
	if now, err := c.Info(t.Context()); err != nil || now.PID != info.PID {
		t.Errorf("the supervisor is %+v, %v; was %d", now, err, info.PID)
	}
	if out, err := exec.Command("agent", "ps", "--all").Output(); err != nil || !strings.Contains(string(out), said[0]) {
		t.Errorf("ps says %s, %v", out, err)
	}
	// Within the limit nothing is said, and the peak is known.
	modest := greedy(20)
	if out, _ := modest.CombinedOutput(); modest.ProcessState.ExitCode() != 5 || len(out) > 0 {
		t.Errorf("a modest command: code %d, %s", modest.ProcessState.ExitCode(), out)
	}
	list := ps(t, "--all")
	i := slices.IndexFunc(list, func(r runs.Run) bool {
		return strings.Contains(strings.Join(ps(t, r.ID)[0].Args, " "), fmt.Sprint(20<<20))
	})
	if i < 0 || list[i].ExitCode != 5 || list[i].OOM || list[i].PeakMemory < 15<<20 || list[i].PeakMemory > 60<<20 {
		t.Errorf("the modest one is run %d of %+v", i, list)
	}
	if out, err := exec.Command("agent", "stop", neighbour).CombinedOutput(); err != nil {
		t.Errorf("stop: %v: %s", err, out)
	}
}
