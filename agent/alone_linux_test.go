package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/packaging/testbed/versity"
)

// A job that is due more often than it is done, on three instances: agents are killed, stopped and restarted, and their
// supervisors killed; each is cut off from the store now and then, and no two clocks agree. No two runs of the job go on
// at once, wherever, and each of its slots ran, or an instance says why not. For half an hour, in which each third
// calamity lasts longer than a lease, on up to two of the instances at a time:
//
//	SOAK=30m go test -timeout 1h -parallel 3 -run TestAloneInTheFleet -v ./agent
func TestAloneInTheFleet(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	for name, keys := range map[string]string{"skip": "overlap: skip", "queue": "overlap: queue",
		"rerun": "overlap: skip, on_owner_loss: rerun"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			length := 50 * time.Second
			if d, err := time.ParseDuration(os.Getenv("SOAK")); err == nil {
				length = d
			}
			newTrio(t, keys).soak(length)
		})
	}
}

// trioTakes is how long each run of the trio's job takes, and trioEvery how often it is due.
const (
	trioTakes = 10 * time.Second
	trioEvery = 4 * time.Second
)

// A trio is three hosts with one job.
type trio struct {
	*ground
	wires []*wire
	clock []time.Duration
	met   map[string]int
	twice string // where a run signs that finds another going on

	strikes int
	lasting sync.WaitGroup // calamities that last longer than a lease
	out     []atomic.Bool  // hosts that one has
}

func newTrio(t *testing.T, keys string) *trio {
	t.Helper()
	store := versity.Faulty(t, versity.Start(t, fleetBucket)[0], 0.02)
	g := newGround(t)
	c := &trio{ground: g, clock: make([]time.Duration, 3), out: make([]atomic.Bool, 3), met: map[string]int{},
		twice: filepath.Join(g.dir, "twice")}
	// What runs holds a lock of the machine's for as long as any process of it is there: no agent has a say in it.
	job := fmt.Sprintf("exec 9>>%[1]s/lock; flock -n 9 || %[2]s; %[3]s; sleep %[4]g", g.dir,
		"ls -dt --time=birth $(dirname $PWD)/state/runs/job-*/output | head -n1 >>"+c.twice, g.signs("job"), trioTakes.Seconds())
	cron := fmt.Sprintf("cron:\n- {name: job, schedule: '@every %s', %s, command: '%s'}\n", trioEvery, keys, job)
	for i := range 3 {
		l := newWire(t, store)
		c.wires = append(c.wires, l)
		config := fmt.Sprintf("aws: {region: us-east-1, s3_endpoint: '%s'}\ncron: {claims: 's3://%s/alone'}\n", l.url, fleetBucket)
		g.add(config, cron, append(identity(t, i),
			"AWS_ACCESS_KEY_ID="+versity.AccessKey, "AWS_SECRET_ACCESS_KEY="+versity.SecretKey)...)
		c.turn(i, time.Duration(i-1)*trioEvery/2)
	}
	for _, h := range g.hosts {
		h.answers()
	}
	return c
}

// turn sets the clock of a host's scheduler.
func (c *trio) turn(i int, by time.Duration) {
	c.clock[i] = by
	c.hosts[i].write("clock", by.String())
}

// soak lets the trio live, and judges.
func (c *trio) soak(length time.Duration) {
	from := time.Now().Add(2 * trioEvery)
	long := length > 10*time.Minute
	for time.Since(from) < length {
		hosts := c.strike(long)
		<-time.After(rand.N(3 * time.Second * time.Duration(len(c.hosts)) / time.Duration(hosts))) // as often on each
	}
	c.lasting.Wait()
	for i, h := range c.hosts {
		c.wires[i].mend()
		c.turn(i, 0)
		h.answers()
	}
	c.judge(from, from.Add(length))
	for _, kind := range slices.Concat(blows, lastingBlows) {
		if long && c.met[kind] == 0 {
			c.t.Errorf("no host met %q", kind)
		}
	}
}

// Calamities of one host.
var (
	blows        = strings.Fields("kill kill stop stop cut cut cut restart supervisor clock clock nothing")
	lastingBlows = strings.Fields("long-stop long-cut death")
)

// strike visits a host that has no lasting calamity, and returns how many such there are. One always is.
func (c *trio) strike(long bool) (hosts int) {
	var free []int
	for i := range c.hosts {
		if !c.out[i].Load() {
			free = append(free, i)
		}
	}
	i := free[rand.IntN(len(free))]
	if c.strikes++; long && c.strikes%3 == 0 && len(free) > 1 {
		c.strikeForLong(i)
		return len(free) - 1
	}
	h, wire := c.hosts[i], c.wires[i]
	what := blows[rand.IntN(len(blows))]
	c.met[what]++
	short := rand.N(8 * time.Second)
	switch what {
	case "kill":
		h.killed()
		<-time.After(short / 4)
		h.start()
	case "stop":
		c.stop(h, short)
	case "cut":
		wire.cutFor(2 * short)
	case "restart":
		h.answers() // one that has not begun would not end in order
		h.end()
		h.start()
	case "supervisor":
		h.killSupervisor()
	case "clock":
		c.turn(i, rand.N(2*trioEvery)-trioEvery)
	}
	return len(free)
}

// strikeForLong returns at once.
func (c *trio) strikeForLong(i int) {
	h, wire := c.hosts[i], c.wires[i]
	n := 0
	for _, kind := range lastingBlows {
		n += c.met[kind]
	}
	what := lastingBlows[n%len(lastingBlows)]
	c.met[what]++
	if len(h.running()) > 0 {
		c.met[what+" with a run"]++
	}
	longer := 5*time.Minute + rand.N(2*time.Minute)
	c.t.Logf("%s %s: %s for %s", time.Now().UTC().Format(time.TimeOnly), h.name, what, longer.Round(time.Second))
	c.out[i].Store(true)
	c.lasting.Go(func() {
		defer c.out[i].Store(false)
		switch what {
		case "long-stop":
			c.stop(h, longer)
		case "long-cut":
			wire.cutFor(longer)
			<-time.After(longer)
		case "death":
			h.killed()
			h.killAll()
			<-time.After(longer)
			h.start()
		}
	})
}

func (c *trio) stop(h *host, d time.Duration) {
	h.cmd.Process.Signal(syscall.SIGSTOP)
	<-time.After(d)
	h.cmd.Process.Signal(syscall.SIGCONT)
}

// judge waits until all slots of the time are accounted for.
func (c *trio) judge(from, to time.Time) {
	every := map[string]time.Duration{"job": trioEvery}
	var b balance
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(time.Second) {
		if b = c.read(every).judge(every, from, to); len(b.doubles) > 0 || len(b.silent) == 0 {
			break
		}
	}
	c.t.Logf("%s: %s; met %v", to.Sub(from), b, c.met)
	if twice, _ := os.ReadFile(c.twice); len(twice) > 0 {
		c.t.Errorf("two runs at once:\n%s", twice)
	}
	if len(b.doubles)+len(b.silent) > 0 {
		c.t.Errorf("%d slots ran twice, %d were missed silently", len(b.doubles), len(b.silent))
	}
	if b.ran == 0 {
		c.t.Error("nothing ran")
	}
	if c.t.Failed() {
		for _, h := range c.hosts {
			text, _ := os.ReadFile(filepath.Join(h.dir, "log"))
			os.WriteFile(filepath.Join(c.t.ArtifactDir(), h.name+".log"), text, 0o600)
		}
	}
}

// killAll kills what runs the jobs, and the jobs.
func (h *host) killAll() {
	h.killSupervisor()
	for _, pid := range h.running() {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// running are the processes of the host's jobs.
func (h *host) running() (pids []int) {
	entries, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, cwd := range entries {
		if dir, err := os.Readlink(cwd); err == nil && strings.HasPrefix(dir, h.dir+"/") {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(cwd))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// A wire is a host's way to the store. While it is cut, requests get no answer; some take effect.
type wire struct {
	url  string
	from time.Time
	cut  atomic.Int64 // until so long after from
}

func newWire(t *testing.T, store string) *wire {
	t.Helper()
	target, err := url.Parse(store)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // is part of the signature
	}, ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }}
	l := &wire{from: time.Now()}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if time.Since(l.from) >= time.Duration(l.cut.Load()) {
			proxy.ServeHTTP(w, r)
			return
		}
		if rand.IntN(2) == 0 {
			proxy.ServeHTTP(httptest.NewRecorder(), r)
		}
		select {
		case <-r.Context().Done():
		case <-t.Context().Done():
		}
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(server.Close)
	l.url = server.URL
	return l
}

// cutFor cuts the wire for a while, and returns at once. It ends no cut that is there.
func (l *wire) cutFor(d time.Duration) {
	l.cut.Store(max(l.cut.Load(), int64(time.Since(l.from)+d)))
}

func (l *wire) mend() { l.cut.Store(0) }
