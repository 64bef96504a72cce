package collectors

import (
	"math"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/shirou/gopsutil/v3/process"
)

// A load somebody else made: stress-ng's two workers, which share 192 MiB out among them, and one that
// burns a CPU. Memory is within 2 % of the kernel's long account and between what
// the workers asked for and 32 MiB more for stress-ng itself; CPU is within 5 %
// of what the processes' own clocks say.
func TestGroupAgreesWithStressNG(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 3 s")
	}
	path, err := exec.LookPath("stress-ng")
	need(t, "needs stress-ng", err)
	dir := t.TempDir() // finds ours among others'
	cmd := exec.Command(path, "--vm", "2", "--vm-bytes", "192M", "--vm-keep", "--vm-hang", "0", "--cpu", "1", "--temp-path", dir, "--timeout", "300", "--quiet")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); cmd.Wait() })
	const asked = 192 << 20
	held := 0.0
	var g *Group // made anew until it finds them all: one that found nothing looks again only after a minute
	eventually(t, "both workers to hold their memory", func() bool {
		if g != nil {
			g.Close()
		}
		g = rich(NewGroup(GroupConfig{Name: "load", Match: regexp.MustCompile(regexp.QuoteMeta(dir)), PSSEvery: time.Nanosecond}))
		collect(t, g)
		last := held
		held = pssOf(t, g.pidsNow()...)
		return held >= asked && math.Abs(held-last) < 1<<20 // libraries shared with others weigh more or less as those come and go
	})
	defer g.Close()
	got, err := collect(t, g)
	if err != nil {
		t.Fatal(err)
	}
	pss := got["group_memory_pss"].Value
	within(t, "PSS, against smaps", pss, held, 0.02)
	if pss > asked+32<<20 {
		t.Errorf("PSS: got %.0f, want at most 32 MiB above the %d asked for", pss, asked)
	}
	if largest := got["group_memory_largest"].Value; largest < asked/2 || largest > asked/2+16<<20 {
		t.Errorf("largest: got %.0f, want one worker's %d and little more", largest, asked/2)
	}

	collect(t, g)
	before, began := clocks(t, g.pidsNow()), time.Now()
	eventually(t, "a second of CPU time", func() bool { return clocks(t, g.pidsNow())-before >= 1 })
	got, err = collect(t, g)
	if err != nil {
		t.Fatal(err)
	}
	used, passed := clocks(t, g.pidsNow())-before, time.Since(began).Seconds()
	within(t, "CPU, against the processes' clocks", got["group_cpu"].Value, 100*used/passed, 0.05)
}

// clocks is the CPU time of processes in seconds, by gopsutil.
func clocks(t *testing.T, pids []int) (sum float64) {
	t.Helper()
	for _, pid := range pids {
		p, err := process.NewProcess(int32(pid))
		if err != nil {
			t.Fatal(err)
		}
		times, err := p.Times()
		if err != nil {
			t.Fatal(err)
		}
		sum += times.User + times.System
	}
	return sum
}
