//go:build linux

package supervisor

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"beanstalk-agent/agent/internal/runs"
)

// An upgrade from an older build, then a downgrade to it, each with a command, a terminal and a job in flight:
// an older supervisor under a newer agent, and a newer one under an older agent. Both binaries are real, and
// installed by their own verb.
func TestOutliveUpgradeAndDowngrade(t *testing.T) {
	agentInside(t)
	if _, err := exec.LookPath(olderInside); err != nil {
		t.Skip("run where an older agent is")
	}
	install(t, olderInside)
	for _, c := range []struct{ name, from, to, holder string }{
		{"upgrade", olderInside, newerInside, "older"},
		{"downgrade", newerInside, olderInside, "newer"},
		{"back again", olderInside, newerInside, "older"}, // records of both are in the state directory by now
	} {
		t.Run(c.name, func(t *testing.T) { replaceAgent(t, c.to, c.holder) })
	}
}

const (
	newerInside = insideDir + "/agent"
	olderInside = insideDir + "/older/agent"
)

func install(t *testing.T, binary string) {
	t.Helper()
	if out, err := exec.Command(binary, "install").CombinedOutput(); err != nil {
		t.Fatalf("install: %v: %s", err, out)
	}
	agentAnswers(t)
}

// replaceAgent installs another agent over the one that is there, while runs are in flight that a supervisor
// of the version holder has started.
func replaceAgent(t *testing.T, to, holder string) {
	eventually(t, "the supervisor is "+holder, func() bool { return heldBy(t) == holder })
	piped, goOn := waitingPiped(t)
	d := &daemon{}
	shell := d.terminal(t, exec.Command("agent", "exec", "-t", "--", "sh"), 33, 101)
	shell.typeIn("x=40; stty size\r")
	shell.expect(t, "33 101")
	job := detached(t, "seq 1 1000; while [ ! -e "+goOn+" ]; do sleep 0.02; done; seq 1001 2000; exit 5")

	install(t, to)

	if out, err := exec.Command("agent", "status").CombinedOutput(); err != nil || !strings.Contains(string(out), "the supervisor is of version "+holder) {
		t.Errorf("status does not say who holds the runs: %v: %s", err, out)
	}
	session := ""
	list := ps(t)
	for _, run := range list {
		if run.Supervisor != holder {
			t.Errorf("held by %q: %+v", run.Supervisor, run)
		}
		if run.IO == runs.IOTerminal {
			session = run.ID
		}
	}
	if len(list) != 3 {
		t.Errorf("ps shows %d runs", len(list))
	}
	shell.typeIn("x=$((x+2)); echo still-$x\r") // not even interrupted
	shell.expect(t, "still-42")
	again := d.terminal(t, exec.Command("agent", "attach", session), 40, 120)
	again.expect(t, "still-42")
	shell.exitCode(t, 0)
	again.typeIn("stty size; exit 9\r")
	again.expect(t, "40 120")
	again.exitCode(t, 9)

	fresh := detached(t, "exit 3") // a start across the two versions
	endsWith(t, fresh, 3)
	stopped := detached(t, "exec sleep 1000")
	if out, err := exec.Command("agent", "stop", stopped).CombinedOutput(); err != nil {
		t.Errorf("stop: %v: %s", err, out)
	}
	touch(t, goOn)
	endsWith(t, job, 5)
	if logs, err := exec.Command("agent", "logs", job).Output(); err != nil || string(logs) != pattern2000() {
		t.Errorf("logs give %d bytes, %v", len(logs), err)
	}
	piped.end(t)
	for id, want := range map[string]int{job: 5, fresh: 3, session: 9, stopped: 143} {
		if got := recordOf(t, id); got.Live() || got.ExitCode != want {
			t.Errorf("run %s ended as %+v, want %d", id, got, want)
		}
	}
	other := map[string]string{"older": "newer", "newer": "older"}[holder]
	eventually(t, "the supervisor is replaced once nothing runs", func() bool { return heldBy(t) == other })
}

// heldBy is the version of the supervisor that a new run gets; "newer" for this tree's.
func heldBy(t *testing.T) string {
	t.Helper()
	run := recordOf(t, detached(t, "true"))
	return run.Supervisor
}

// detached starts a job and returns its id.
func detached(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.Command("agent", "exec", "-d", "--", "sh", "-c", line).CombinedOutput()
	if err != nil {
		t.Fatalf("exec -d: %v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func endsWith(t *testing.T, id string, want int) {
	t.Helper()
	wait := exec.Command("agent", "wait", id)
	out, _ := wait.CombinedOutput()
	if got := wait.ProcessState.ExitCode(); got != want {
		t.Errorf("wait %s gives %d, want %d: %s", id, got, want, out)
	}
}

func recordOf(t *testing.T, id string) (run runs.Run) {
	t.Helper()
	for _, run := range ps(t, "--all") {
		if run.ID == id {
			return run
		}
	}
	t.Fatalf("ps --all does not know run %s", id)
	return run
}

// pipedRun is a client without a terminal whose command waits for a file.
type pipedRun struct {
	cmd  *exec.Cmd
	out  bytes.Buffer
	errs syncBuffer
}

func waitingPiped(t *testing.T) (p *pipedRun, goOn string) {
	t.Helper()
	goOn = filepath.Join("/var/tmp", "go-"+runs.NewID())
	p = &pipedRun{cmd: exec.Command("agent", "exec", "--", "sh", "-c", "seq 1 1000; echo up >&2; while [ ! -e "+goOn+" ]; do sleep 0.02; done; seq 1001 2000; pwd -P >&2; exit 7")}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.errs
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the command is up", func() bool { return strings.Contains(p.errs.String(), "up") })
	return p, goOn
}

func touch(t *testing.T, file string) {
	t.Helper()
	if out, err := exec.Command("touch", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// end checks that the client gets all of the output and the exit code.
func (p *pipedRun) end(t *testing.T) {
	t.Helper()
	p.cmd.Wait()
	if code := p.cmd.ProcessState.ExitCode(); code != 7 || p.out.String() != pattern2000() {
		t.Errorf("the waiting client got %d and %d bytes of output, stderr %q", code, p.out.Len(), &p.errs)
	}
}
