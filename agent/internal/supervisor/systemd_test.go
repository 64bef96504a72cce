//go:build linux

package supervisor

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/runs"
)

// TestOnSystemd runs every TestInside… under a real systemd, in the unit file that is shipped, on both
// layouts of control groups. What it cannot prove: the memory controller on v2, which no container here
// has, and SELinux.
func TestOnSystemd(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 9 s")
	}
	needSystemd(t)
	for _, layout := range []string{"v2", "v1"} {
		t.Run(layout, func(t *testing.T) { onSystemd(t, layout) })
	}
}

func needSystemd(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		need(t, "root")
	}
	if _, err := exec.LookPath("systemd-nspawn"); err != nil {
		need(t, "the package systemd-container")
	}
	if os.Getenv("SUPERVISOR_TEST_INSIDE") != "" {
		t.Skip("already inside")
	}
}

const insideDir = "/opt/agent/test"

// box is a booted container with this test's directory, and what was built into it, bound into it.
type box struct {
	t    *testing.T
	name string
}

func boot(t *testing.T, layout, dir string) *box {
	t.Helper()
	b := &box{t, fmt.Sprintf("run-%s-%d", layout, os.Getpid())}
	if out, err := b.nspawn("start", layout, "--bind-ro="+dir+":"+insideDir); err != nil {
		t.Fatalf("start container: %v: %s", err, out)
	}
	t.Cleanup(func() {
		lines := "all"
		if t.Failed() {
			lines = "60"
		}
		journal, err := b.nspawn("exec", "journalctl", "--no-pager", "--all", "--lines="+lines)
		if err != nil {
			t.Errorf("journal: %v", err)
		}
		t.Output().Write(journal)
		if out, err := b.nspawn("stop"); err != nil {
			t.Errorf("stop container: %v: %s", err, out)
		}
	})
	return b
}

func (b *box) nspawn(verb string, args ...string) ([]byte, error) {
	return exec.Command("../../../packaging/testbed/nspawn", append([]string{verb, b.name}, args...)...).CombinedOutput()
}

// sh runs a script as root inside; its failure ends the test.
func (b *box) sh(script string) {
	b.t.Helper()
	if out, err := b.nspawn("exec", "sh", "-ec", script); err != nil {
		b.t.Fatalf("%v: %s", err, out)
	}
}

// tests runs those tests of this binary inside that match pattern.
func (b *box) tests(layout, pattern string, env ...string) {
	b.t.Helper()
	args := append([]string{"env", "CI=1", "SUPERVISOR_TEST_INSIDE=" + layout}, env...)
	args = append(args, insideDir+"/supervisor.test", "-test.v", "-test.run", cmp.Or(os.Getenv("SUPERVISOR_TEST_RUN"), pattern), "-faults", strconv.Itoa(*faults))
	out, err := b.nspawn("exec", args...)
	if err != nil || !bytes.Contains(out, []byte("--- PASS: ")) {
		b.t.Errorf("inside: %v", err)
	}
	b.t.Output().Write(out)
}

// copySelf puts this binary into a directory under a fixed name.
func copySelf(t *testing.T) (dir string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	if err := os.Link(exe, filepath.Join(dir, "supervisor.test")); err != nil {
		b, err := os.ReadFile(exe)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "supervisor.test"), b, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A container may not have a negative score. Nor is systemd told there that a v1 group has become empty
// (release_agent is the host's): after a kill it waits for its time limit.
var containerLimits = map[string]string{"v2": "OOMScoreAdjust=0", "v1": "OOMScoreAdjust=0\nTimeoutStopSec=2s"}

func onSystemd(t *testing.T, layout string) {
	b := boot(t, layout, copySelf(t))
	unit, err := os.ReadFile("../../../packaging/systemd/agent-runs.service")
	if err != nil {
		t.Fatal(err)
	}
	b.sh(fmt.Sprintf(`cat > /etc/systemd/system/agent-runs.service <<'END'
%s
END
mkdir -p /etc/systemd/system/agent-runs.service.d
cat > /etc/systemd/system/agent-runs.service.d/test.conf <<'END'
[Service]
Type=exec
%s
Environment=SUPERVISOR_TEST_ROLE=supervisor
Environment='SUPERVISOR_TEST_CONFIG={"Socket":"/run/agent-runs/supervisor.sock","StateDir":"/var/lib/agent","Version":"test","AllowUsers":["nobody","games"],"AllowRoot":true}'
ExecStart=
ExecStart=%s/supervisor.test
END
systemctl daemon-reload
systemctl start agent-runs`, unit, containerLimits[layout], insideDir))
	b.tests(layout, "^TestInside")
}

// inside returns a client of the unit's supervisor, once it answers.
func inside(t *testing.T) *runs.Client {
	t.Helper()
	if os.Getenv("SUPERVISOR_TEST_INSIDE") == "" {
		t.Skip("run by TestOnSystemd")
	}
	c := &runs.Client{Socket: "/run/agent-runs/supervisor.sock", Patience: 20 * time.Second}
	eventually(t, "the unit's supervisor answers", func() bool { _, err := c.Info(t.Context()); return err == nil })
	return c
}

func TestInsidePlace(t *testing.T) {
	c := inside(t)
	info, err := c.Info(t.Context())
	if want := "control groups " + os.Getenv("SUPERVISOR_TEST_INSIDE"); err != nil || !strings.HasPrefix(info.Place, want) {
		t.Errorf("info is %+v, %v; want %q", info, err, want)
	}
}

func startIn(t *testing.T, c *runs.Client, req runs.Request) runs.Run {
	t.Helper()
	run, err := c.Start(t.Context(), req, runs.Handover{})
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func waitFor(t *testing.T, c *runs.Client, id string) runs.Run {
	t.Helper()
	run, err := c.Wait(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// A command is born as who it is to be, and with nothing of the supervisor's.
func TestInsideCommandIsTheUsers(t *testing.T) {
	c := inside(t)
	req := spooled(`id -u; id -g; umask; pwd; ls -l /proc/self/fd | wc -l; cat /proc/self/oom_score_adj; grep NoNewPrivs /proc/self/status; env; cat /proc/self/cgroup; touch made`)
	req.UID, req.GID, req.Dir, req.Umask, req.NoNewPrivs, req.OOMScoreAdj = 65534, 65534, "/tmp", 0o077, true, 300
	os.Chmod("/tmp", 0o1777)
	run := waitFor(t, c, startIn(t, c, req).ID)
	text, err := os.ReadFile(run.Output)
	if err != nil || run.ExitCode != 0 {
		t.Fatalf("%+v, %v: %s", run, err, text)
	}
	got := strings.Split(string(text), "\n")
	// ls has 0, 1, 2 and its own, and prints a first line.
	want := []string{"65534", "65534", "0077", "/tmp", "5", "300", "NoNewPrivs:\t1", "PWD=/tmp"}
	want = append(want, req.Env...)
	slices.Sort(got[7:10])
	slices.Sort(want[7:])
	if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
		t.Errorf("the command saw %q, want %q", got, want)
	}
	if !strings.Contains(string(text), "/agent-runs.service/"+run.ID+"\n") {
		t.Errorf("its control groups were %s", text)
	}
	if info, err := os.Stat("/tmp/made"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its file is %v, %v", info, err)
	}
}

// Rules are the supervisor's own, whatever the agent asks for.
func TestInsideRules(t *testing.T) {
	c := inside(t)
	for name, change := range map[string]func(*runs.Request){
		"another user":    func(r *runs.Request) { r.UID, r.GID = 1, 1 },
		"unknown io":      func(r *runs.Request) { r.IO = "tape" },
		"relative dir":    func(r *runs.Request) { r.Dir = "tmp" },
		"id with a slash": func(r *runs.Request) { r.ID = "../x" },
	} {
		req := spooled("true")
		change(&req)
		if _, err := c.Start(t.Context(), req, runs.Handover{}); err == nil {
			t.Errorf("%s: was started", name)
		}
	}
}

// runc#3359, kubectl#1076: double-forked daemons, in sessions of their own, go with their run.
func TestInsideStopEndsTheWholeTree(t *testing.T) {
	c := inside(t)
	run := startIn(t, c, spooled("for i in 1 2 3 4 5; do (setsid sh -c 'sleep 1111 & echo $!' &) ; done; trap '' TERM; while :; do sleep 1; done"))
	var pids []int
	eventually(t, "five daemons run", func() bool { pids = pidsIn(run.Output); return len(pids) == 5 })
	stopped, err := c.Stop(t.Context(), run.ID, 200*time.Millisecond)
	if err != nil || stopped.StoppedBy != "stop" {
		t.Fatalf("%+v, %v", stopped, err)
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d lives", pid)
		}
	}
	if stopped.Signal != int(syscall.SIGKILL) {
		t.Errorf("the command ignored TERM and ended by signal %d", stopped.Signal)
	}
}

func pidsIn(file string) (pids []int) {
	text, _ := os.ReadFile(file)
	for _, f := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(f); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// The bomb is another user's, under a limit of processes: root has none that holds, and without one it would take every
// process of the machine that runs the tests. A shell that may not fork ends, so the bomb is lit again and again.
func TestInsideForkBomb(t *testing.T) {
	c := inside(t)
	req := spooled("while :; do prlimit --nproc=300 sh -c 'bomb() { while :; do bomb & done; }; bomb'; done 2>/dev/null")
	req.UID, req.GID, req.Dir = 5, 60, "/tmp" // games
	run := startIn(t, c, req)
	eventually(t, "it has exploded", func() bool { return groupSize(run.ID) > 50 })
	begun := time.Now()
	if _, err := c.Stop(t.Context(), run.ID, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	t.Logf("ended in %v", time.Since(begun))
	if n := groupSize(run.ID); n != 0 {
		t.Errorf("%d processes are left", n)
	}
}

// A run's own limit: the unit's would be one for all of them.
func TestInsideRunHasALimitOfTasks(t *testing.T) {
	c := inside(t)
	run := startIn(t, c, spooled("exec sleep 1000"))
	var limits []string
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/pids"} {
		found, _ := filepath.Glob(filepath.Join(root, "system.slice/agent-runs.service", run.ID, "pids.max"))
		for _, name := range found {
			text, err := os.ReadFile(name)
			if limits = append(limits, string(text)); err != nil || string(text) != "4096\n" {
				t.Errorf("%s is %q, %v", name, text, err)
			}
		}
	}
	t.Logf("limits are %q", limits)
	if os.Getenv("SUPERVISOR_TEST_INSIDE") == "v1" && len(limits) == 0 { // no container here has the controller on v2
		t.Error("it has no limit")
	}
	if _, err := c.Stop(t.Context(), run.ID, 0); err != nil {
		t.Error(err)
	}
}

// groupSize counts the processes of a run as the kernel sees them; 0 too once the group is gone.
func groupSize(id string) int {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/systemd"} {
		if text, err := os.ReadFile(filepath.Join(dir, "system.slice/agent-runs.service", id, "cgroup.procs")); err == nil {
			return len(strings.Fields(string(text)))
		}
	}
	return 0
}

// What a command leaves behind ends after it: the lock's name and the memory are the run's.
func TestInsideLeftBehind(t *testing.T) {
	c := inside(t)
	run := waitFor(t, c, startIn(t, c, spooled("setsid sleep 2222 & echo $!; exit 3")).ID)
	if run.ExitCode != 3 || run.LeftBehind != 1 {
		t.Errorf("ended as %+v", run)
	}
	for _, pid := range pidsIn(run.Output) {
		eventually(t, "the daemon is gone", func() bool { return !alive(pid) })
	}
}

func TestInsideMemoryLimit(t *testing.T) {
	c := inside(t)
	req := spooled("head -c 300000000 /dev/zero | tail")
	req.MemoryMax = 60 << 20
	info, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	run, err := c.Start(t.Context(), req, runs.Handover{})
	if !strings.Contains(info.Place, "with memory limits") { // a v2 container; a machine has them
		if err == nil || !strings.Contains(err.Error(), command.ErrNoMemoryLimit.Error()) {
			t.Errorf("a limit that cannot be kept: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	ended := waitFor(t, c, run.ID)
	if !ended.OOM || ended.PeakMemory < 40<<20 || ended.PeakMemory > 64<<20 {
		t.Errorf("ended as %+v", ended)
	}
	if got := runs.Verdict(ended); !strings.HasPrefix(got, "killed by the kernel for memory at ") {
		t.Errorf("it is said: %q", got)
	}
}

// If the supervisor dies, systemd ends what is left, and the next one says so by name.
func TestInsideSupervisorIsKilled(t *testing.T) {
	c := inside(t)
	req := spooled("setsid sleep 3333 & echo $!; wait")
	req.Name, req.Kind = "nightly", "cron"
	run := startIn(t, c, req)
	eventually(t, "daemon runs", func() bool { return len(pidsIn(run.Output)) == 1 })
	info, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(info.PID, syscall.SIGKILL)
	eventually(t, "a new supervisor answers", func() bool { again, err := c.Info(t.Context()); return err == nil && again.PID != info.PID })
	lost, err := c.Get(t.Context(), run.ID)
	if err != nil || lost.State != runs.StateLost || lost.Name != "nightly" {
		t.Errorf("recorded as %+v, %v", lost, err)
	}
	for _, pid := range append(pidsIn(run.Output), run.PID) {
		eventually(t, "process is gone", func() bool { return !alive(pid) })
	}
}

func TestInsideRetire(t *testing.T) {
	c := inside(t)
	before, err := c.Retire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "another one has taken over", func() bool { now, err := c.Info(t.Context()); return err == nil && now.PID != before.PID })
	if got := waitFor(t, c, startIn(t, c, spooled("exit 4")).ID); got.ExitCode != 4 {
		t.Errorf("it ran %+v", got)
	}
}

// DESIGN §5, last row: TERM, grace, KILL, and how it ended is recorded.
func TestInsideUnitStops(t *testing.T) {
	c := inside(t)
	obeys := startIn(t, c, spooled("trap 'sleep 0.2; exit 3' TERM; echo $$; while :; do sleep 0.01; done"))
	ignores := spooled("trap '' TERM; echo $$; while :; do sleep 0.01; done")
	ignores.Grace = 500 * time.Millisecond
	stubborn := startIn(t, c, ignores)
	eventually(t, "both run", func() bool { return len(pidsIn(obeys.Output))+len(pidsIn(stubborn.Output)) == 2 })
	if out, err := exec.Command("systemctl", "stop", "agent-runs").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for file, want := range map[string]runs.Run{
		"/var/lib/agent/runs/" + obeys.ID + "/status.json":    {ExitCode: 3},
		"/var/lib/agent/runs/" + stubborn.ID + "/status.json": {ExitCode: 137, Signal: 9},
	} {
		rec, err := readRecord(file)
		if err != nil || rec.Run.ExitCode != want.ExitCode || rec.Run.Signal != want.Signal || rec.Run.StoppedBy != "shutdown" {
			t.Errorf("recorded as %+v, %v", rec.Run, err)
		}
	}
	if out, err := exec.Command("systemctl", "start", "agent-runs").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// systemd would kill the supervisor, and the run, after one second: it is asked to wait as long as the run may take.
func TestInsideUnitStopsWithALongGrace(t *testing.T) {
	c := inside(t)
	const dropIn = "/run/systemd/system/agent-runs.service.d/zz-stop.conf"
	systemctl := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("systemctl", args...).CombinedOutput(); err != nil {
			t.Fatalf("systemctl %q: %v: %s", args, err, out)
		}
	}
	os.MkdirAll(filepath.Dir(dropIn), 0o755)
	if err := os.WriteFile(dropIn, []byte("[Service]\nTimeoutStopSec=1s\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	systemctl("daemon-reload")
	if out, err := exec.Command("systemctl", "show", "-P", "TimeoutStopUSec", "agent-runs").Output(); err != nil || strings.TrimSpace(string(out)) != "1s" {
		t.Fatalf("systemd waits for %s, %v", out, err)
	}
	slow := spooled("trap 'sleep 2; exit 3' TERM; echo $$; while :; do sleep 0.01; done")
	slow.Kind, slow.Grace = "cron", runs.MaxGrace
	run := startIn(t, c, slow)
	eventually(t, "it runs", func() bool { return len(pidsIn(run.Output)) == 1 })
	systemctl("stop", "agent-runs")
	rec, err := readRecord("/var/lib/agent/runs/" + run.ID + "/status.json")
	if err != nil || rec.Run.ExitCode != 3 || !rec.Run.Interrupted() {
		t.Errorf("recorded as %+v, %v", rec.Run, err)
	}
	os.Remove(dropIn)
	systemctl("daemon-reload")
	systemctl("start", "agent-runs")
}

// After all of the above nothing may be left: no group, no process, no descriptor, no thread too many.
func TestInsideZNothingLeaks(t *testing.T) {
	c := inside(t)
	for range 30 {
		waitFor(t, c, startIn(t, c, spooled("true")).ID)
	}
	info, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "no group is left", func() bool {
		var left []string
		for _, pattern := range []string{"/sys/fs/cgroup/system.slice/agent-runs.service/*/", "/sys/fs/cgroup/*/system.slice/agent-runs.service/*/"} {
			dirs, _ := filepath.Glob(pattern)
			left = append(left, dirs...)
		}
		left = slices.DeleteFunc(left, func(d string) bool { return filepath.Base(d) == "supervisor" })
		return len(left) == 0
	})
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", info.PID))
	if len(fds) > 16 {
		t.Errorf("the idle supervisor has %d descriptors", len(fds))
	}
	threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", info.PID))
	if len(threads) > 12 {
		t.Errorf("the idle supervisor has %d threads", len(threads))
	}
	t.Logf("%d descriptors, %d threads", len(fds), len(threads))
}
