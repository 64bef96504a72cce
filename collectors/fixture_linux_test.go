package collectors

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"beanstalk-agent/packaging/testbed/golden"
)

// print renders samples one a line.
func print(out []Sample) string {
	var b strings.Builder
	for _, s := range out {
		fmt.Fprintf(&b, "%-22s %-8s %.6g", s.Name, s.Unit, s.Value)
		for _, l := range s.Labels {
			fmt.Fprintf(&b, " %s=%s", l.Key, l.Value)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// testdata/v2 was captured under Linux 6.1 with cgroup version 2, testdata/v1
// in a container with version 1: testdata/prefork.py 3 24 6 8000 as
// web.service, with memory accounting.
func TestCapturedHosts(t *testing.T) {
	for _, v := range []string{"v2", "v1"} {
		t.Run(v, func(t *testing.T) {
			proc, sys := os.DirFS("testdata/"+v+"/proc"), os.DirFS("testdata/"+v+"/cgroup")
			g := rich(NewGroup(GroupConfig{Name: "web", Unit: "web.service", Proc: proc, Sys: sys}))
			defer g.Close()
			out, err := g.Collect(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			got := print(out)
			if v == "v2" {
				h := NewHost(HostConfig{Proc: "testdata/v2/proc"})
				defer h.Close()
				out, err := h.Collect(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				got += print(out[:len(out)-7]) // load by this machine's CPUs, pressure: below
			}
			golden.Compare(t, "testdata/"+v+"/samples.txt", got)
		})
	}
}

// At the first tick pressure is the kernel's own mean, since there is no
// interval yet.
func TestFirstPressureIsTheKernelsMean(t *testing.T) {
	h := NewHost(HostConfig{Proc: "testdata/v2/proc"})
	defer h.Close()
	got, err := collect(t, h)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("testdata/v2/proc/pressure/cpu")
	if err != nil {
		t.Fatal(err)
	}
	want := ""
	fmt.Sscanf(string(b), "some avg10=%s", &want)
	if s := fmt.Sprintf("%.2f", got["pressure_cpu_some"].Value); s != want {
		t.Errorf("pressure_cpu_some: got %s, want avg10, %s", s, want)
	}
	if _, ok := got["pressure_cpu_full"]; ok {
		t.Error("pressure_cpu_full: for a whole host it is always 0, want none")
	}
}

// files writes a directory of small files.
func files(t *testing.T, texts map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range texts {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A figure that the kernel does not have is left out; one that is garbled is an
// error beside the others. HOST_PROC leads gopsutil nowhere else.
func TestHostGivesWhatItCan(t *testing.T) {
	t.Setenv("HOST_PROC", t.TempDir())
	proc := files(t, map[string]string{
		"meminfo":      "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 400 kB\nBuffers: 50 kB\nCached: 300 kB\nSReclaimable: 20 kB\nSwapTotal: 100 kB\nSwapFree: 25 kB\n",
		"vmstat":       "pswpin 1\npswpout 2\n",
		"loadavg":      "12.34 0.01 0.05 1/123 4567\n",
		"pressure/cpu": "much\n",
	})
	h, old := NewHost(HostConfig{Proc: proc}), NewHost(HostConfig{Proc: proc, CloudWatchAgentFormula: true})
	defer h.Close()
	defer old.Close()
	got, err := collect(t, h)
	if err != nil || got["mem_used_percent"].Value != 60 || got["swap_used_percent"].Value != 75 || got["load_1m"].Value != 12.34 {
		t.Errorf("got %v, %v", got, err)
	}
	if _, ok := got["pressure_memory_some"]; ok {
		t.Error("pressure without its files")
	}
	if got, _ := collect(t, old); got["mem_used_percent"].Value != 53 {
		t.Errorf("the CloudWatch agent's formula: got %v, want 53", got["mem_used_percent"].Value)
	}
	for name, text := range map[string]string{
		"vmstat": "pswpin 11\npswpout 2\n", "pressure/cpu": "some avg10=much\n", "loadavg": "99 0 0 1/1 1\n"} {
		if err := os.WriteFile(filepath.Join(proc, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err = collect(t, h)
	fails(t, err, "pressure", `much"`)
	if got["swap_in"].Value <= 0 || got["swap_out"].Value != 0 || got["mem_total"].Value == 0 || got["load_1m"].Value != 12.34 {
		t.Errorf("got %v, want the load of a moment ago", got)
	}
	h.loadNext = time.Time{} // 15 seconds later
	if got, _ := collect(t, h); got["load_1m"].Value != 99 {
		t.Errorf("load: got %v, want it read again", got["load_1m"].Value)
	}
}

// gopsutil tells nobody that it could not read the file.
func TestHostWithoutMeminfoFails(t *testing.T) {
	h := NewHost(HostConfig{Proc: files(t, map[string]string{"loadavg": "1 1 1 1/1 1\n"})})
	defer h.Close()
	got, err := collect(t, h)
	fails(t, err, "memory")
	if got["load_1m"].Value != 1 || len(got) != 2 {
		t.Errorf("got %v, want the load all the same", got)
	}
}

// Without the right to read other users' memory the rest of the group is still
// told, and why PSS is missing.
func TestGroupWithoutTheRightToReadPSS(t *testing.T) {
	g := NewGroup(GroupConfig{Name: "web", Unit: "web.service", Proc: noSmaps{os.DirFS("testdata/v2/proc")}, Sys: os.DirFS("testdata/v2/cgroup")})
	defer g.Close()
	for range 2 {
		got, err := collect(t, g)
		fails(t, err, "CAP_SYS_PTRACE", "permission denied")
		if _, ok := got["group_memory_pss"]; ok || got["group_processes"].Value != 4 || got["group_memory_anon"].Value == 0 {
			t.Errorf("got %v", got)
		}
	}
}

type noSmaps struct{ fs.FS }

func (f noSmaps) Open(name string) (fs.File, error) {
	if strings.HasSuffix(name, "smaps_rollup") {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return f.FS.Open(name)
}

func TestUnaccountedGroupStillHasPSS(t *testing.T) {
	sys := fstest.MapFS{
		"cgroup.controllers":                    {},
		"system.slice/web.service/cgroup.procs": {Data: must(t, "testdata/v2/cgroup/system.slice/web.service/cgroup.procs")},
	}
	g := rich(NewGroup(GroupConfig{Name: "web", Unit: "web.service", Proc: os.DirFS("testdata/v2/proc"), Sys: sys}))
	defer g.Close()
	got, err := collect(t, g)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := got["group_memory_anon"]; ok {
		t.Error("anonymous memory of a cgroup that does not account it")
	}
	exact, err := os.ReadFile("testdata/v2/samples.txt")
	if err != nil {
		t.Fatal(err)
	}
	var want float64
	for line := range strings.Lines(string(exact)) {
		fmt.Sscanf(line, "group_memory_pss Bytes %g", &want)
	}
	within(t, "group_memory_pss", got["group_memory_pss"].Value, want, 0.02)
}

func must(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGroupWithNothingToLookForSaysSo(t *testing.T) {
	g := NewGroup(GroupConfig{Name: "web"})
	defer g.Close()
	if _, err := collect(t, g); !errors.Is(err, ErrNoData) {
		t.Errorf("got %v, want ErrNoData", err)
	}
}

// PSS in between readings: scaled by resident memory, never more than that.
func TestEstimateScalesByResidentMemory(t *testing.T) {
	r := pssReading{smaps: smaps{pss: 40}, resident: 100}
	for rss, want := range map[uint64]float64{100: 40, 200: 80, 50: 20, 0: 0} {
		if got := r.estimate(rss); got != want {
			t.Errorf("rss %d: got %v, want %v", rss, got, want)
		}
	}
	odd := pssReading{smaps: smaps{pss: 40}, resident: 10}
	if got := odd.estimate(10); got != 10 {
		t.Errorf("got %v, want no more than is resident", got)
	}
}
