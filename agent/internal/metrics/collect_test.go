package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/collectors"
	"beanstalk-agent/packaging/testbed/gotool"
)

// beside is the application in dir, on a host that is no instance.
func beside(t *testing.T, dir string) *app.App {
	return app.New(app.Config{Dir: dir}, platform.NewInstance(t.Context(), platform.Options{Root: t.TempDir(), AppDir: dir}))
}

func TestTheWebProcessIsAlwaysMeasured(t *testing.T) {
	for _, tt := range []struct {
		configured []Group
		want       string
	}{
		{nil, "group web"},
		{[]Group{{Name: "celery", Match: "celery"}}, "group celery, group web"},
		{[]Group{{Name: "web", Unit: "puma.service"}, {Name: "cache", Port: 6379}}, "group web, group cache"},
	} {
		m := Metrics{app: beside(t, t.TempDir())}
		var names []string
		for _, c := range m.groups(tt.configured) {
			names = append(names, c.Name())
			c.Collect(t.Context())
			t.Cleanup(func() { c.(io.Closer).Close() })
		}
		if got := strings.Join(names, ", "); got != tt.want || m.web.Load() == nil {
			t.Errorf("%v: got %q, want %q", tt.configured, got, tt.want)
		}
	}
}

// Whoever may listen on the application's port while it does not run is not taken for it.
func TestConfiguredGroupsCountNoStrangers(t *testing.T) {
	if os.Getuid() != 0 {
		gotool.Need(t, "root, to be another user")
	}
	mark := fmt.Sprintf("metrics-worker-%d", os.Getpid())
	c := exec.Command("/bin/sh", "-c", "echo; read x; :", mark)
	c.Dir, c.SysProcAttr = "/", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 64123, Gid: 64123}}
	in, _ := c.StdinPipe()
	out, _ := c.StdoutPipe()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer in.Close()
	out.Read(make([]byte, 1))
	for user, want := range map[string]float64{"": 0, "root": 0, "any": 1} {
		m := Metrics{app: beside(t, t.TempDir())}
		group := m.groups([]Group{{Name: "jobs", Match: mark, User: user}})[0]
		defer group.(io.Closer).Close()
		out, err := group.Collect(t.Context())
		if out[0].Value != want {
			t.Errorf("user %q: %v processes, %v; want %v", user, out[0].Value, err, want)
		}
	}
}

// An agent that is older than the first deployment finds out which port it has.
func TestTheWebProcessIsFollowed(t *testing.T) {
	var at app.Workers
	var deployments atomic.Uint64
	f := &reopening{deployments: &deployments,
		find: func(context.Context) app.Workers { return at },
		open: func(w app.Workers) collectors.Collector {
			return collectors.NewListen(collectors.ListenConfig{Port: w.Port})
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
	at.Port = uint16(ln.Addr().(*net.TCPAddr).Port)
	c, err := net.Dial("tcp", ln.Addr().String()) // never accepted
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n := backlog(); n != -1 {
		t.Errorf("within the minute: got %v, want it not asked for", n)
	}
	deployments.Add(1)
	if n := backlog(); n != 1 {
		t.Errorf("deployed: a backlog of %v, want 1", n)
	}
}

func TestCountersAllocateNothing(t *testing.T) {
	n := 0.0
	c := &counter{Counter: Counter{Name: "cron", Read: func(out []collectors.Sample) []collectors.Sample {
		return append(out, collectors.Sample{Name: "cron_runs", Unit: collectors.Count, Value: n})
	}}}
	if out, _ := c.Collect(t.Context()); len(out) != 1 || c.Name() != "cron" {
		t.Errorf("got %v of %s", out, c.Name())
	}
	if n := testing.AllocsPerRun(100, func() { c.Collect(t.Context()) }); n != 0 {
		t.Errorf("%v allocations a tick", n)
	}
}

// What is only absent has not failed, and without a failure there is no series.
func TestFailedCollectorsAreCounted(t *testing.T) {
	quiet := collectors.Batch{At: time.Unix(60, 0), Results: []collectors.Result{{Collector: "host"}, {Collector: "listen", Err: collectors.ErrNoData}, {Collector: "disk", Err: context.Canceled}}}
	if b := failures(quiet); len(b.Samples) != 0 {
		t.Errorf("none failed: got %v", b.Samples)
	}
	loud := quiet
	loud.Results = append(loud.Results, collectors.Result{Collector: "oom", Err: errors.New("no")})
	if b := failures(loud); len(b.Samples) != 1 || b.Samples[0].Value != 1 || !b.At.Equal(quiet.At) {
		t.Errorf("one failed: got %v", b)
	}
}
