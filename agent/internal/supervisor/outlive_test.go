//go:build linux

package supervisor

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/gotool"
)

// TestOutlivesOnSystemd is DESIGN §5's table with everything real: the agent as it is built, both units
// as they are shipped, installed by its own verb, and a container that shuts down and boots again. The steps
// of a Beanstalk deployment around the swap of the directory are the box's.
func TestOutlivesOnSystemd(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 44 s")
	}
	needSystemd(t)
	for _, layout := range []string{"v2", "v1"} {
		t.Run(layout, func(t *testing.T) { outlivesOnSystemd(t, layout) })
	}
}

func outlivesOnSystemd(t *testing.T, layout string) {
	dir := copyAgent(t)
	if layout == "v2" { // versions meet in the same way on both
		older := gotool.Agent(t, gotool.OlderAgent, "older")
		if out, err := exec.Command("install", "-D", older, filepath.Join(dir, "older/agent")).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	b := boot(t, layout, dir)
	b.sh(instance(containerLimits[layout]))
	b.tests(layout, "^TestOutlive(Piped|Terminal|Detached|Memory|Deployment|Upgrade|Faults|Hang)")
	b.shutsDown()
}

// copyAgent puts this binary and the agent, as it is shipped, into a directory.
func copyAgent(t *testing.T) (dir string) {
	t.Helper()
	dir = copySelf(t)
	build := exec.Command("go", "build", "-ldflags", "-X beanstalk-agent/agent/internal/buildinfo.release=newer", "-o", filepath.Join(dir, "agent"), "beanstalk-agent/agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build agent: %v: %s", err, out)
	}
	return dir
}

// instance is a script that makes an instance of a copy of this machine, which may have an agent of its own: an
// application, a configuration, the agent.
func instance(limits string) string {
	return fmt.Sprintf(`rm -rf /usr/bin/agent /opt/agent/bin
useradd -m webapp
mkdir -p /var/app/current /etc/agent
chown webapp /var/app/current
for u in agent agent-runs; do
  mkdir -p /etc/systemd/system/$u.service.d
  cat > /etc/systemd/system/$u.service.d/test.conf <<'END'
[Service]
%s
END
done
cat > /etc/agent/agent.yaml <<'END'
app: {dir: /var/app/current, user: webapp}
metrics: {send: off}
END
%s/agent install
`, limits, insideDir)
}

// shutsDown is the last row: an instance that shuts down with a job, a terminal session and a piped command
// live. Each has TERM, its grace, KILL; a client that is there is told; after the next boot it is known how
// they ended.
func (b *box) shutsDown() {
	b.t.Helper()
	b.sh(`cat > /usr/local/bin/client <<'END'
#!/bin/sh
# name, terminal or not, command: a client that stays until agent-runs has stopped, as a login session may
exec systemd-run --quiet --collect --unit=$1 -p Before=agent-runs.service -p KillMode=process -p "ExecStart=" -p "StandardOutput=file:/var/tmp/$1" -E TERM=xterm sh -c "trap '' TERM; $2; echo told \$? >>/var/tmp/$1"
END
chmod +x /usr/local/bin/client
agent exec -d --lock job -- sh -c "trap 'sleep 0.2; echo swept; exit 3' TERM; echo up; while :; do sleep 0.01; done"
agent exec -d --lock stubborn --grace 700ms -- sh -c "trap '' TERM; while :; do sleep 0.01; done"
client piped "agent exec --lock piped -- sh -c 'trap \"echo last words; exit 4\" TERM; while :; do sleep 0.01; done'"
cat > /var/app/current/cron.yaml <<'END'
cron:
- {name: nightly, schedule: "0 0 1 1 *", lock: cron, command: "trap 'sleep 3; exit 5' TERM; while :; do sleep 0.01; done"}
END
until agent cron list 2>/dev/null | grep -q nightly; do agent reload; sleep 0.1; done
systemd-run --quiet --unit=nightly agent cron run nightly
client terminal "script -qec 'agent exec -t --lock terminal -- sleep 3000' /dev/null"
until [ "$(agent ps --json | grep -c '"state": *"running"')" = 5 ]; do sleep 0.05; done`)
	if out, err := b.nspawn("reboot"); err != nil {
		b.t.Fatalf("reboot: %v: %s", err, out)
	}
	b.sh("until agent ps 2>/dev/null; do sleep 0.05; done")
	out, err := b.nspawn("exec", "agent", "ps", "--all", "--json")
	var list []runs.Run
	if err == nil {
		err = json.Unmarshal(out, &list)
	}
	if err != nil {
		b.t.Fatalf("ps --all: %v: %s", err, out)
	}
	want := map[string]int{"job": 3, "stubborn": 137, "piped": 4, "terminal": 129, "cron": 5}
	for _, run := range list {
		if code, ok := want[run.Lock]; ok {
			delete(want, run.Lock)
			if run.State != runs.StateInterrupted || run.StoppedBy != "shutdown" || run.ExitCode != code {
				b.t.Errorf("recorded as %+v, want exit code %d", run, code)
			}
		}
	}
	if len(want) > 0 {
		b.t.Errorf("no record of %v", want)
	}
	// The job's end was reported before the shutdown, for which systemd was asked to wait; the others' ends are now.
	reported := "until journalctl -u agent -o cat | grep -c 'how=.interrupted: shutdown' | grep -qx 4; do sleep 0.05; done; journalctl -u agent -o cat"
	if log, err := b.nspawn("exec", "timeout", "15", "sh", "-c", reported); err != nil || bytes.Contains(log, []byte("name=nightly")) {
		b.t.Errorf("after the boot the agent has logged: %v, %s", err, log)
	}
	said, _ := b.nspawn("exec", "cat", "/var/tmp/piped")
	if !bytes.Contains(said, []byte("last words\n")) || !bytes.Contains(said, []byte("told 4\n")) {
		b.t.Errorf("the piped client has %q", said)
	}
}

// disturbances are what may happen to the agent while a run is live.
var disturbances = map[string]string{
	"restart":    "systemctl restart agent",
	"stop start": "systemctl stop agent; systemctl start agent",
	"kill":       "systemctl kill -s KILL agent",
	"reexec":     "systemctl daemon-reexec",
	"reload":     "systemctl daemon-reload",
	"by hand": `systemctl stop agent
		agent run & p=$!
		timeout 15 sh -c 'until agent ps; do sleep 0.1; done'; answered=$?
		kill $p; wait $p; systemctl start agent; exit $answered`,
}

func agentInside(t *testing.T) {
	t.Helper()
	if os.Getenv("SUPERVISOR_TEST_INSIDE") == "" {
		t.Skip("run by TestOutlivesOnSystemd")
	}
	agentAnswers(t)
}

func agentAnswers(t *testing.T) {
	t.Helper()
	eventually(t, "the agent answers", func() bool { return exec.Command("agent", "ps").Run() == nil })
}

func disturb(t *testing.T, how string) {
	t.Helper()
	if out, err := exec.Command("sh", "-c", how).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", how, err, out)
	}
	agentAnswers(t)
}

// A supervisor that hangs is restarted by systemd's watchdog, and what it ran is recorded as lost; one that answers is
// not, however long it runs.
func TestOutliveHang(t *testing.T) {
	agentInside(t)
	disturb(t, "systemctl daemon-reload")
	if out, err := exec.Command("systemctl", "show", "-p", "WatchdogUSec", "agent-runs").Output(); string(out) != "WatchdogUSec=3min\n" {
		t.Errorf("it asked for a watchdog of %s, %v", out, err)
	}
	const dropIn = "/etc/systemd/system/agent-runs.service.d/watchdog.conf"
	if err := os.WriteFile(dropIn, []byte("[Service]\nWatchdogSec=2s\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	disturb(t, "systemctl daemon-reload; systemctl restart agent-runs")
	defer disturb(t, "rm "+dropIn+"; systemctl daemon-reload; systemctl restart agent-runs")
	pid := func() string {
		out, _ := exec.Command("systemctl", "show", "-p", "MainPID", "--value", "agent-runs").Output()
		return strings.TrimSpace(string(out))
	}
	lost := detached(t, "exec sleep 1000")
	before := pid()
	time.Sleep(4 * time.Second) // twice the watchdog's limit: nothing else shows that it is fed
	if now := pid(); now != before {
		t.Fatalf("an idle supervisor was restarted: %s, was %s", now, before)
	}
	if out, err := exec.Command("kill", "-STOP", before).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	eventually(t, "another supervisor runs", func() bool { now := pid(); return now != before && now != "0" })
	agentAnswers(t)
	eventually(t, "the run is lost", func() bool { return recordOf(t, lost).State == runs.StateLost })
}

// The waiting client gets its output whole and its exit code.
func TestOutlivePiped(t *testing.T) {
	agentInside(t)
	for name, how := range disturbances {
		fifo := filepath.Join(t.TempDir(), "go")
		os.Chmod(filepath.Dir(fifo), 0o755)
		os.Chmod(filepath.Dir(filepath.Dir(fifo)), 0o755)
		if out, err := exec.Command("mkfifo", "-m", "666", fifo).CombinedOutput(); err != nil {
			t.Fatal(string(out))
		}
		cmd := exec.Command("agent", "exec", "--", "sh", "-c", "seq 1 1000; echo up >&2; read x <"+fifo+"; seq 1001 2000; id -un >&2; exit 7")
		var out bytes.Buffer
		var errs syncBuffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is up", func() bool { return strings.Contains(errs.String(), "up") })
		disturb(t, how)
		os.WriteFile(fifo, []byte("go\n"), 0)
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 7 || out.Len() != len(pattern2000()) || errs.String() != "up\nwebapp\n" {
			t.Errorf("%s: code %d, %d bytes of output, stderr %q", name, code, out.Len(), &errs)
		}
	}
}

func pattern2000() string {
	var b strings.Builder
	for i := 1; i <= 2000; i++ {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}

// A live terminal is not even interrupted; and can be attached to by the new agent.
func TestOutliveTerminal(t *testing.T) {
	agentInside(t)
	d := &daemon{}
	s := d.terminal(t, exec.Command("agent", "exec", "-t", "--", "sh"), 33, 101)
	s.typeIn("x=40; stty size\r")
	s.expect(t, "33 101")
	n := 0
	for name, how := range disturbances {
		disturb(t, how)
		n++
		s.typeIn("x=$((x+1)); echo still-$x\r")
		s.expect(t, fmt.Sprintf("still-%d", 40+n))
		if s.cmd.ProcessState != nil {
			t.Fatalf("%s ended the client", name)
		}
	}
	list := ps(t)
	if len(list) != 1 || !list[0].Attached {
		t.Fatalf("ps shows %+v", list)
	}
	s.cmd.Process.Kill()
	again := d.terminal(t, exec.Command("agent", "attach", list[0].ID), 33, 101)
	again.expect(t, fmt.Sprintf("still-%d", 40+n))
	again.typeIn("exit $((x-40))\r")
	again.exitCode(t, n)
}

func ps(t *testing.T, flags ...string) (list []runs.Run) {
	t.Helper()
	var printed []struct {
		runs.Run
		Supervisor string `json:"supervisor_version"` // an older agent prints what the supervisor says
		PeakMemory uint64 `json:"peak_memory_bytes"`
	}
	out, err := exec.Command("agent", append([]string{"ps", "--json"}, flags...)...).Output()
	if err == nil {
		err = json.Unmarshal(out, &printed)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, p := range printed {
		p.Run.Supervisor = cmp.Or(p.Supervisor, p.Run.Supervisor)
		p.Run.PeakMemory = cmp.Or(p.PeakMemory, p.Run.PeakMemory)
		list = append(list, p.Run)
	}
	return list
}

// Its output is whole, its exit code is kept, and logs, wait and stop work.
func TestOutliveDetached(t *testing.T) {
	agentInside(t)
	for name, how := range disturbances {
		goOn := "/var/tmp/go-" + runs.NewID()
		id := detached(t, "seq 1 1000; while [ ! -e "+goOn+" ]; do sleep 0.02; done; seq 1001 2000; exit 5")
		disturb(t, how)
		touch(t, goOn)
		endsWith(t, id, 5)
		if logs, err := exec.Command("agent", "logs", id).Output(); err != nil || string(logs) != pattern2000() {
			t.Errorf("%s: logs give %d bytes, %v", name, len(logs), err)
		}
	}
	id := detached(t, "exec sleep 1000")
	disturb(t, disturbances["kill"])
	if out, err := exec.Command("agent", "stop", id).CombinedOutput(); err != nil {
		t.Fatalf("stop: %v: %s", err, out)
	}
	for _, run := range ps(t, "--all") {
		if run.ID == id && (run.StoppedBy == "" || run.Live()) {
			t.Errorf("after stop: %+v", run)
		}
	}
}

// A deployment replaces the application's directory: what runs goes on in the old tree, what starts is in the
// new one.
func TestOutliveDeployment(t *testing.T) {
	agentInside(t)
	const current = "/var/app/current"
	version := func(dir, v string) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		os.WriteFile(filepath.Join(dir, "VERSION"), []byte(v), 0o644)
	}
	version(current, "old ")
	piped, goOn := waitingPiped(t)
	job := detached(t, "read v <VERSION; while [ ! -e "+goOn+" ]; do sleep 0.02; done; cat VERSION; echo $v; exit 5")
	d := &daemon{}
	shell := d.terminal(t, exec.Command("agent", "exec", "-t", "--", "sh"), 33, 101)
	shell.typeIn("echo in-$(cat VERSION)\r")
	shell.expect(t, "in-old")

	version("/var/app/staging", "new ") // as packaging/testbed/instance/engine flips it
	if out, err := exec.Command("sh", "-ec", "mv "+current+" /var/app/gone; mv /var/app/staging "+current+"; chown webapp "+current).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	fresh := detached(t, "cat VERSION")
	endsWith(t, fresh, 0)
	if logs, err := exec.Command("agent", "logs", fresh).Output(); err != nil || string(logs) != "new " {
		t.Errorf("a run after the deployment sees %q, %v", logs, err)
	}
	shell.typeIn("echo still-$(cat VERSION)\r")
	shell.expect(t, "still-old")
	shell.typeIn("exit 6\r")
	shell.exitCode(t, 6)
	touch(t, goOn)
	endsWith(t, job, 5)
	if logs, err := exec.Command("agent", "logs", job).Output(); err != nil || string(logs) != "old old\n" {
		t.Errorf("the job saw %q, %v", logs, err)
	}
	piped.end(t)
}
