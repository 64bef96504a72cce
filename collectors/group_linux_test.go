package collectors

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// need skips a test for want of something, unless this is CI, where everything
// is to be had.
func need(t testing.TB, what string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s: %v", what, err)
	}
	t.Skipf("%s: %v", what, err)
}

// eventually polls until ok says yes, for at most a minute: the machine may be busy.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-poll.C {
		if ok() {
			return
		}
	}
	t.Fatalf("timed out waiting for %s", what)
}

// prefork is a running testdata/prefork.py and what it was started with.
type prefork struct {
	workers, shared, own int
	port                 uint16 // 0: any

	cmd *exec.Cmd
}

// startPrefork runs the little server, in the cgroup whose procs files are
// given, and kills all of it at the end.
func startPrefork(t testing.TB, p prefork, procs ...string) *prefork {
	t.Helper()
	python, err := exec.LookPath("/usr/bin/python3")
	need(t, "needs /usr/bin/python3", err)
	script := `while [ "$1" != -- ]; do echo $$ > "$1" || exit 1; shift; done; shift; exec "$@"`
	args := append([]string{"-c", script, "sh"}, procs...)
	args = append(args, "--", python, "testdata/prefork.py")
	// The last is for patterns to tell us from another run of these tests.
	for _, n := range []int{p.workers, p.shared, p.own, int(p.port), os.Getpid()} {
		args = append(args, strconv.Itoa(n))
	}
	p.cmd = exec.Command("/bin/sh", args...)
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("prefork.py: %v", err)
	}
	if _, err := fmt.Sscanf(line, "ready %d", &p.port); err != nil {
		t.Fatalf("prefork.py said %q", line)
	}
	return &p
}

// kill ends the whole process group; the workers' parent by then is init, so
// they may linger a moment.
func (p *prefork) kill() {
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	p.cmd.Wait()
}

// rich gives g all the time it wants for reading PSS: a slow machine must not
// change what a test says.
func rich(g *Group) *Group {
	g.budget = pssBudget{purse: time.Hour, at: time.Now()}
	return g
}

// children are the workers' numbers, by pgrep: another way than ours.
func (p *prefork) children(t *testing.T) (pids []int) {
	t.Helper()
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(p.cmd.Process.Pid)).Output()
	if code, ok := errors.AsType[*exec.ExitError](err); ok && code.ExitCode() == 1 {
		return nil // pgrep's way to say none
	}
	need(t, "needs pgrep", err)
	for _, w := range strings.Fields(string(out)) {
		pid, err := strconv.Atoi(w)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// pssOf is the sum of PSS by the long file, smaps, which we do not read.
func pssOf(t *testing.T, pids ...int) float64 { return sumOf(t, "smaps", "Pss:", pids) }

// sumOf adds up the lines with this key in a file of each process.
func sumOf(t *testing.T, file, key string, pids []int) (sum float64) {
	t.Helper()
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if kB, ok := strings.CutPrefix(line, key); ok {
				n, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kB), "kB")), 64)
				if err != nil {
					t.Fatal(err)
				}
				sum += n * 1024
			}
		}
	}
	return sum
}

func within(t *testing.T, what string, got, want, share float64) {
	t.Helper()
	if want == 0 || got < want*(1-share) || got > want*(1+share) {
		t.Errorf("%s: got %.0f, want %.0f ± %.0f %%", what, got, want, 100*share)
	}
}

// The heart of the matter: forked workers that share 48 MB. Their PSS sum is
// what they cost; adding up RSS is wrong by more than double.
func TestGroupByPortCountsSharedPagesOnce(t *testing.T) {
	p := startPrefork(t, prefork{workers: 4, shared: 48, own: 6})
	g := rich(NewGroup(GroupConfig{Name: "web", Port: p.port}))
	defer g.Close()
	got, err := collect(t, g)
	if err != nil {
		t.Fatal(err)
	}
	all := append(p.children(t), p.cmd.Process.Pid)
	truth := pssOf(t, all...)
	near(t, "group_processes", got["group_processes"].Value, 5, 0)
	within(t, "group_memory_pss", got["group_memory_pss"].Value, truth, 0.02)
	near(t, "group_memory_pss_age", got["group_memory_pss_age"].Value, 0, 0)
	if rss := got["group_memory_rss"].Value; rss < 2*truth {
		t.Errorf("RSS sum: got %.0f, want it to overstate %.0f at least twice", rss, truth)
	}
	if s := got["group_memory_pss"]; len(s.Labels) != 1 || s.Labels[0] != (Label{"group", "web"}) {
		t.Errorf("labels: got %v", s.Labels)
	}
	snap := g.Snapshot()
	if len(snap.Processes) != 5 || snap.Found == "" {
		t.Errorf("snapshot: got %d processes, found %q", len(snap.Processes), snap.Found)
	}
	for _, one := range snap.Processes {
		if age := time.Since(one.Started); age < 0 || age > time.Minute {
			t.Errorf("process %d: started %v ago, want seconds", one.PID, age)
		}
		if one.PID != p.cmd.Process.Pid && (one.Private < 6<<20 || one.Private > 14<<20) {
			t.Errorf("worker %d: private %d, want its own 6 MB and a little", one.PID, one.Private)
		}
	}
}

func TestGroupFollowsItsWorkers(t *testing.T) {
	p := startPrefork(t, prefork{workers: 2, shared: 1, own: 1})
	g := NewGroup(GroupConfig{Name: "web", Port: p.port})
	defer g.Close()
	if _, err := collect(t, g); err != nil {
		t.Fatal(err)
	}
	first := p.children(t)
	syscall.Kill(first[0], syscall.SIGKILL)
	eventually(t, "the worker's end", func() bool { return len(p.children(t)) == 1 })
	got, err := collect(t, g)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "group_processes", got["group_processes"].Value, 2, 0)
	near(t, "group_exits", got["group_exits"].Value, 1, 0)
	p.cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, "a third process", func() bool {
		got, err := collect(t, g)
		return err == nil && got["group_processes"].Value == 3
	})
}

// When the master goes the group is gone, and whoever listens on the port next
// is found at the first tick.
func TestGroupIsFoundAgain(t *testing.T) {
	p := startPrefork(t, prefork{workers: 1, shared: 1, own: 1})
	g := NewGroup(GroupConfig{Name: "web", Port: p.port})
	defer g.Close()
	if got, err := collect(t, g); err != nil || got["group_processes"].Value != 2 {
		t.Fatalf("got %v, %v", got, err)
	}
	p.kill()
	got, err := collect(t, g)
	if err != nil || got["group_processes"].Value != 0 {
		t.Fatalf("after its end: got %v, %v, want 0 processes and no error", got, err)
	}
	startPrefork(t, prefork{workers: 2, shared: 1, own: 1, port: p.port})
	got, err = collect(t, g)
	if err != nil || got["group_processes"].Value != 3 {
		t.Errorf("after its return: got %v, %v, want 3 processes", got, err)
	}
}

// A new server takes the port over while the old one lives on: both count, and
// the new one alone once the old has gone.
func TestGroupFollowsItsPort(t *testing.T) {
	old := startPrefork(t, prefork{workers: 1, shared: 1, own: 1})
	g := NewGroup(GroupConfig{Name: "web", Port: old.port})
	defer g.Close()
	if _, err := collect(t, g); err != nil {
		t.Fatal(err)
	}
	startPrefork(t, prefork{workers: 3, shared: 1, own: 1, port: old.port})
	if got, _ := collect(t, g); got["group_processes"].Value != 2 {
		t.Errorf("within the minute: got %v, want the old one's 2 processes", got["group_processes"].Value)
	}
	g.finder.nextLook = time.Time{}
	if got, err := collect(t, g); err != nil || got["group_processes"].Value != 6 {
		t.Errorf("both: got %v, %v, want 6 processes", got["group_processes"].Value, err)
	}
	old.kill()
	g.finder.nextLook = time.Time{}
	eventually(t, "the new one alone", func() bool {
		got, err := collect(t, g)
		return err == nil && got["group_processes"].Value == 4
	})
}

func TestGroupByPattern(t *testing.T) {
	p := startPrefork(t, prefork{workers: 2, shared: 1, own: 1})
	g := NewGroup(GroupConfig{Name: "web", Match: regexp.MustCompile(fmt.Sprintf(`python3 .*prefork\.py 2 1 1 0 %d$`, os.Getpid()))})
	defer g.Close()
	got, err := collect(t, g)
	if err != nil || got["group_processes"].Value != 3 {
		t.Errorf("got %v, %v, want 3 processes", got, err)
	}
	if found := g.Snapshot().Found; found != fmt.Sprintf("process %d and its children", p.cmd.Process.Pid) {
		t.Errorf("found %q", found)
	}
}

func TestGroupNeverSeenIsNoData(t *testing.T) {
	g := NewGroup(GroupConfig{Name: "web", Unit: "no-such.service", Match: regexp.MustCompile("no such command line$")})
	defer g.Close()
	got, err := collect(t, g)
	if !errors.Is(err, ErrNoData) || got["group_processes"].Value != 0 {
		t.Errorf("got %v, %v, want 0 processes and ErrNoData", got, err)
	}
}

func TestGroupCPU(t *testing.T) {
	p := startPrefork(t, prefork{workers: 2, shared: 1, own: 1})
	g := NewGroup(GroupConfig{Name: "web", Port: p.port})
	defer g.Close()
	if _, err := collect(t, g); err != nil {
		t.Fatal(err)
	}
	before, began := g.members.cpu, time.Now()
	for _, pid := range p.children(t) {
		syscall.Kill(pid, syscall.SIGUSR1)
	}
	eventually(t, "0.6 s of CPU time", func() bool {
		_, err := collect(t, g)
		return err == nil && g.members.cpu-before >= 550*time.Millisecond
	})
	if used, passed := g.members.cpu-before, time.Since(began); used > 2*passed+50*time.Millisecond {
		t.Errorf("two processes used %v in %v", used, passed)
	}
}

// A cgroup that accounts memory agrees with what its processes say.
func TestGroupByCgroupAgreesWithItsAccounting(t *testing.T) {
	name := fmt.Sprintf("collectors-test-%d", os.Getpid())
	dir := makeMemoryCgroup(t, name)
	p := startPrefork(t, prefork{workers: 4, shared: 48, own: 6}, filepath.Join(dir, "cgroup.procs"))
	g := rich(NewGroup(GroupConfig{Name: "web", Cgroup: name}))
	defer g.Close()
	got, err := collect(t, g)
	if err != nil {
		t.Fatal(err)
	}
	all := append(p.children(t), p.cmd.Process.Pid)
	near(t, "group_processes", got["group_processes"].Value, 5, 0)
	within(t, "group_memory_anon", got["group_memory_anon"].Value, sumOf(t, "smaps_rollup", "Pss_Anon:", all), 0.02)
	within(t, "group_memory_pss", got["group_memory_pss"].Value, pssOf(t, all...), 0.02)
	if want := fmt.Sprintf("cgroup %q", name); g.Snapshot().Found != want {
		t.Errorf("found: got %q, want %q", g.Snapshot().Found, want)
	}
}

// Version 1 shows a list as old as the descriptor to whoever reads it often.
func TestGroupByCgroupSeesWorkersComeAndGo(t *testing.T) {
	name := fmt.Sprintf("collectors-test-%d", os.Getpid())
	dir := makeMemoryCgroup(t, name)
	p := startPrefork(t, prefork{workers: 2, shared: 1, own: 1}, filepath.Join(dir, "cgroup.procs"))
	g := NewGroup(GroupConfig{Name: "web", Cgroup: name})
	defer g.Close()
	if got, err := collect(t, g); err != nil || got["group_processes"].Value != 3 {
		t.Fatalf("got %v, %v, want 3 processes", got, err)
	}
	syscall.Kill(p.children(t)[0], syscall.SIGKILL)
	processes := func(n float64) func() bool {
		return func() bool {
			got, err := collect(t, g)
			return err == nil && got["group_processes"].Value == n
		}
	}
	eventually(t, "one worker less", processes(2))
	p.cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, "a new one", processes(3))
}

// Asked no more often than every few seconds, as the agent does, the file is kept
// open, and the list is new all the same.
func TestGroupByCgroupKeepsItsListOpen(t *testing.T) {
	name := fmt.Sprintf("collectors-test-%d", os.Getpid())
	dir := makeMemoryCgroup(t, name)
	p := startPrefork(t, prefork{workers: 2, shared: 1, own: 1}, filepath.Join(dir, "cgroup.procs"))
	g := NewGroup(GroupConfig{Name: "web", Cgroup: name})
	defer g.Close()
	if got, err := collect(t, g); err != nil || got["group_processes"].Value != 3 {
		t.Fatalf("got %v, %v, want 3 processes", got, err)
	}
	list := g.source.procs[0].f
	p.cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, "a third worker", func() bool { return len(p.children(t)) == 3 })
	seen := 0.0
	for try := 0; try < 5 && seen != 4; try++ { // the kernel may be late to forget its list
		if g.source.stale {
			<-time.After(time.Until(g.source.listed.Add(pidlistKept)))
		}
		got, err := collect(t, g)
		if err != nil {
			t.Fatal(err)
		}
		seen = got["group_processes"].Value
	}
	near(t, "group_processes", seen, 4, 0)
	if g.source.procs[0].f != list {
		t.Error("the list was opened again")
	}
}

// makeMemoryCgroup makes a cgroup with memory accounting and returns its directory.
func makeMemoryCgroup(t testing.TB, name string) string {
	t.Helper()
	dir := "/sys/fs/cgroup/memory/" + name
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		dir = "/sys/fs/cgroup/" + name
	}
	err := os.Mkdir(dir, 0o755)
	if err == nil {
		_, err = os.Stat(dir + "/memory.stat")
	}
	t.Cleanup(func() {
		eventually(t, "the cgroup to be empty", func() bool {
			err := os.Remove(dir)
			return err == nil || errors.Is(err, os.ErrNotExist)
		})
	})
	need(t, "needs root and a memory cgroup", err)
	return dir
}

// By port and by cgroup, at the agent's own pace: TestGroupByCgroupKeepsItsListOpen.
func TestSteadyGroupTickAllocatesNothing(t *testing.T) {
	name := fmt.Sprintf("collectors-test-%d", os.Getpid())
	p := startPrefork(t, prefork{workers: 4, shared: 1, own: 1}, filepath.Join(makeMemoryCgroup(t, name), "cgroup.procs"))
	for _, cfg := range []GroupConfig{{Name: "web", Port: p.port}, {Name: "web", Cgroup: name}} {
		g := NewGroup(cfg)
		defer g.Close()
		if _, err := collect(t, g); err != nil {
			t.Fatal(err)
		}
		n := testing.AllocsPerRun(20, func() {
			g.source.listed = time.Time{} // long ago
			g.Collect(t.Context())
		})
		if n > 0 {
			t.Errorf("%s: got %v allocations a tick, want 0", g.Snapshot().Found, n)
		}
	}
}
