package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/capacity"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/cron"
	"beanstalk-agent/agent/internal/health"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/collectors"
	"beanstalk-agent/packaging/testbed/planted"
	"beanstalk-agent/scheduler"
)

func TestTheWebProcessIsAlwaysMeasured(t *testing.T) {
	for _, tt := range []struct {
		configured []config.Group
		want       string
	}{
		{nil, "group web"},
		{[]config.Group{{Name: "celery", Match: "celery"}}, "group celery, group web"},
		{[]config.Group{{Name: "web", Unit: "puma.service"}, {Name: "cache", Port: 6379}}, "group web, group cache"},
	} {
		var m metricsParts
		var names []string
		for _, c := range m.groups(tt.configured, func() place { return place{port: 8000} }) {
			names = append(names, c.Name())
			c.Collect(t.Context())
			t.Cleanup(func() { c.(io.Closer).Close() })
		}
		if got := strings.Join(names, ", "); got != tt.want || m.web.Load() == nil {
			t.Errorf("%v: got %q, want %q", tt.configured, got, tt.want)
		}
	}
}

// An agent that is older than the first deployment finds out which port it has.
func TestTheWebProcessIsFollowed(t *testing.T) {
	var at place
	var deployed atomic.Uint64
	f := &following{find: func() place { return at }, deployed: &deployed, make: func(p place) collectors.Collector {
		return collectors.NewListen(collectors.ListenConfig{Port: p.port})
	}}
	t.Cleanup(func() { f.Close() })
	backlog := func() float64 {
		out, err := f.Collect(t.Context())
		if errors.Is(err, collectors.ErrNoData) {
			return -1
		}
		if err != nil {
			t.Fatal(err)
		}
		return out[0].Value
	}
	if n := backlog(); n != -1 {
		t.Errorf("nothing is deployed: got %v", n)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	at.port = uint16(ln.Addr().(*net.TCPAddr).Port)
	c, err := net.Dial("tcp", ln.Addr().String()) // accepted by nobody
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n := backlog(); n != -1 {
		t.Errorf("within the minute: got %v, want it not asked for", n)
	}
	deployed.Add(1)
	if n := backlog(); n != 1 {
		t.Errorf("deployed: a backlog of %v, want 1", n)
	}
}

// A deployment ends with a reload, which looks at all that it may have changed.
func TestReloadAfterADeployment(t *testing.T) {
	cfg, log := config.Default(), planted.Log(t)
	cfg.App.Dir, cfg.StateDir, cfg.Health.Host = t.TempDir(), t.TempDir(), "shop.example"
	inst := platform.NewInstance(t.Context(), platform.Options{Root: t.TempDir(), AppDir: cfg.App.Dir})
	check, err := newHealth(cfg, app.New(appConfig(cfg), inst), nil, log)
	if err != nil {
		t.Fatal(err)
	}
	var jobs []int
	b := &backend{metrics: &metricsParts{}, check: check, cron: &cronParts{watcher: &cron.Watcher{Dir: cfg.App.Dir, Files: []string{"cron.yaml"}, Log: log,
		Options: func() scheduler.ParseOptions { return scheduler.ParseOptions{} }, Apply: func(t scheduler.Table) { jobs = append(jobs, len(t.Jobs)) }}}}
	if err := os.WriteFile(filepath.Join(cfg.App.Dir, "cron.yaml"), []byte("cron:\n- {name: a, schedule: '@daily', command: x}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	nginx, err := os.ReadFile(filepath.Join(cfg.StateDir, "nginx-health.conf"))
	if b.metrics.deployed.Load() != 1 || !slices.Equal(jobs, []int{1}) || !bytes.Contains(nginx, []byte("shop.example")) {
		t.Errorf("the web process is looked for %d times, jobs %v, nginx has %q, %v", b.metrics.deployed.Load(), jobs, nginx, err)
	}
}

// The group's name is a property of the environment, and follows a change of it.
func TestTheAutoScalingGroupIsAProperty(t *testing.T) {
	dir := t.TempDir()
	inst := platform.NewInstance(t.Context(), platform.Options{Root: t.TempDir(), AppDir: dir})
	cfg := config.Default()
	cfg.App.Dir = dir
	env := app.New(appConfig(cfg), inst).Env()
	for _, want := range []string{"", "awseb-e-abc-stack-AWSEBAutoScalingGroup-1"} {
		if want != "" {
			if err := os.WriteFile(filepath.Join(dir, ".env"), []byte(groupVariable+"="+want+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := dimension(inst.Facts(), env, "AutoScalingGroupName"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := dimension(inst.Facts(), env, "EnvironmentName"); got != "local" {
		t.Errorf("EnvironmentName: got %q", got)
	}
	text, err := os.ReadFile("../packaging/examples/auto-scaling-group.config")
	if err != nil || !strings.Contains(string(text), "\n    "+groupVariable+": ") {
		t.Errorf("the example does not set %s: %v", groupVariable, err)
	}
}

// No advice is no figure: an alarm on 0 would ring after each deployment.
func TestHeadroomIsAbsentUntilItIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		advice, err := capacity.Advice{Verdict: capacity.NotWarm}, error(nil)
		asked := 0
		h := &headroom{advise: func() (capacity.Advice, error) { asked++; return advice, err }}
		value := func() (v float64, known bool) {
			for range 12 { // the ticks of a minute
				out, err := h.Collect(t.Context())
				if len(out) == 0 != errors.Is(err, collectors.ErrNoData) {
					t.Fatalf("got %v, %v", out, err)
				}
				if known = len(out) == 1; known {
					v = out[0].Value
				}
				time.Sleep(5 * time.Second)
			}
			return v, known
		}
		if v, known := value(); known {
			t.Errorf("not warm: got %v", v)
		}
		advice = capacity.Advice{Verdict: capacity.Lower, Headroom: -2}
		if v, known := value(); !known || v != -2 {
			t.Errorf("too many workers: got %v, %v, want -2", v, known)
		}
		err = errors.New("no web process")
		if v, known := value(); known {
			t.Errorf("the web process is gone: got %v", v)
		}
		if asked != 3 {
			t.Errorf("the sum was done %d times in three minutes", asked)
		}
	})
}

// The sum is done over live processes: a shell that forked two workers a moment ago.
func TestCapacityKnowsTheLiveWorkers(t *testing.T) {
	marker := "3600.7175"
	cmd := exec.Command("/bin/sh", "-c", "sleep "+marker+" & sleep "+marker+" & wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); cmd.Wait() })
	dir := t.TempDir() // with a Procfile that never ends, as the application may write it
	if err := os.Symlink("/dev/zero", filepath.Join(dir, "Procfile")); err != nil {
		t.Fatal(err)
	}
	m := metricsParts{appDir: func() string { return dir }}
	cfg := config.Default()
	cfg.Metrics.Groups = []config.Group{{Name: "web", Match: regexp.QuoteMeta("sleep " + marker + " &")}}
	m.gather(cfg, func() place { return place{} })
	t.Cleanup(func() { m.sources.Close() })
	var a capacity.Advice
	await(t, "both workers are seen", func() bool {
		m.loop.Gather(t.Context(), time.Now())
		var err error
		a, err = m.capacity(0)
		return err == nil && a.Workers == 2
	})
	if a.Verdict != capacity.NotWarm {
		t.Errorf("got %+v, want not warm yet", a)
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, "Procfile")), syscall.Mkfifo(filepath.Join(dir, "Procfile"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := m.capacity(0); err != nil { // nobody ever writes to the FIFO
		t.Error(err)
	}
}

// A verdict of long ago is no figure: an alarm on it would never end, or never ring.
func TestHealthOfLongAgoIsNoFigure(t *testing.T) {
	f := health.Figures{LastProbe: time.Now().Add(-nobodyAsks + time.Minute), State: health.Unhealthy}
	if out := healthSamples(nil, f); len(out) != 2 || out[0].Value != 1 {
		t.Errorf("asked a while ago: got %v", out)
	}
	f.LastProbe = f.LastProbe.Add(-time.Minute)
	if out := healthSamples(nil, f); len(out) != 0 {
		t.Errorf("not asked any more: got %v", out)
	}
}

func TestFiguresOfOthersAllocateNothing(t *testing.T) {
	cron := &cronParts{}
	asked := time.Now()
	h := &figures{read: func(out []collectors.Sample) []collectors.Sample {
		return cron.counters(healthSamples(out, health.Figures{LastProbe: asked, State: health.Unhealthy}))
	}}
	if out, _ := h.Collect(t.Context()); len(out) != 7 || out[0].Name != "health_unhealthy" || out[0].Value != 1 {
		t.Errorf("got %v", out)
	}
	if n := testing.AllocsPerRun(100, func() { h.Collect(t.Context()) }); n != 0 {
		t.Errorf("%v allocations a tick", n)
	}
	asked = asked.Add(-time.Hour)
	if out, _ := h.Collect(t.Context()); len(out) != 5 || out[0].Name == "health_unhealthy" {
		t.Errorf("when nobody has asked for an hour: %v", out)
	}
}

// What fails is told, what is only absent is not, and in peace there is no series.
func TestFailedCollectorsAreCounted(t *testing.T) {
	quiet := collectors.Batch{At: time.Unix(60, 0), Results: []collectors.Result{{Collector: "host"}, {Collector: "listen", Err: collectors.ErrNoData}, {Collector: "disk", Err: context.Canceled}}}
	if b := failures(quiet); len(b.Samples) != 0 {
		t.Errorf("in peace: got %v", b.Samples)
	}
	loud := quiet
	loud.Results = append(loud.Results, collectors.Result{Collector: "oom", Err: errors.New("no")})
	if b := failures(loud); len(b.Samples) != 1 || b.Samples[0].Value != 1 || !b.At.Equal(quiet.At) {
		t.Errorf("one failed: got %v", b)
	}
}
