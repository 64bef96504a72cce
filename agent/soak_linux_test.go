package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// soakJobs are what a night's crontab has, an hour pressed into a minute: quick
// ones, some that outlast their period under each policy, one that fails, one
// that is late by its splay, one in a zone.
var soakJobs = map[string]struct {
	every time.Duration
	keys  string
	then  string
}{
	"tick":   {time.Second, "", "true"},
	"slow":   {2 * time.Second, "overlap: queue", "sleep 3"},
	"long":   {3 * time.Second, "overlap: skip", "sleep 4"},
	"both":   {2 * time.Second, "overlap: allow", "sleep 3"},
	"fails":  {4 * time.Second, "retries: 1, backoff: 1s", "exit 3"},
	"late":   {5 * time.Second, "splay: 3s", "true"},
	"locked": {3 * time.Second, "lock: db", "sleep 1"},
	"beside": {3 * time.Second, "lock: db", "sleep 1"},
}

func soakTable(g *ground) (string, map[string]time.Duration) {
	table, every := "cron:\n", map[string]time.Duration{}
	for name, j := range soakJobs {
		every[name] = j.every
		table += fmt.Sprintf("- {name: %s, schedule: '@every %s', command: '%s; %s', %s}\n", name, j.every, g.signs(), j.then, j.keys)
	}
	return strings.ReplaceAll(table, ", }", "}"), every
}

// One instance's life, compressed: the agent is killed, restarted, reloaded,
// stopped and continued, the tree is swapped while starts are held, the clock is
// set forward and back. Every slot that came due ran exactly once, or it is said
// by name why it did not. The long form takes five minutes:
// SOAK=5m go test -run TestSoak ./agent
func TestSoak(t *testing.T) {
	t.Parallel()
	length := 4 * time.Second
	if d, err := time.ParseDuration(os.Getenv("SOAK")); err == nil {
		length = d
	}
	g := newGround(t)
	table, every := soakTable(g)
	h := g.add("", table)
	h.answers()
	c := &calamity{host: h, table: table, met: map[string]int{}}
	from := time.Now().Add(time.Second)
	// A clock that was set back has slots to show for it only later.
	for until := time.Now().Add(length); time.Now().Before(until) || c.reached.Sub(from) < length; <-time.After(200*time.Millisecond + rand.N(800*time.Millisecond)) {
		c.strike(t)
		c.see()
	}
	h.answers()
	c.see()
	to := c.reached.Add(-2 * time.Second) // the last seconds are under way

	var ran int
	var named map[string]int
	var doubles, silent []string
	for deadline := time.Now().Add(45 * time.Second); time.Now().Before(deadline); <-time.After(200 * time.Millisecond) { // a clock set back catches up
		if ran, named, doubles, silent = g.read(every).judge(every, from, to); len(doubles) > 0 || len(silent) == 0 {
			break
		}
	}
	t.Logf("%d slots ran once, named %v, twice %v, silent %v; met %v", ran, named, doubles, silent, c.met)
	if len(doubles)+len(silent) > 0 {
		t.Errorf("%d slots ran twice, %d were missed silently", len(doubles), len(silent))
	}
	if ran == 0 {
		t.Error("nothing ran")
	}
}

// A calamity is what befalls one host.
type calamity struct {
	host  *host
	table string
	met   map[string]int

	clock   time.Duration // by which the scheduler's clock was set
	reached time.Time     // the latest that it showed
}

func (c *calamity) see() {
	if now := time.Now().Add(c.clock); now.After(c.reached) {
		c.reached = now
	}
}

func (c *calamity) strike(t *testing.T) {
	t.Helper()
	h := c.host
	switch what := []string{"kill", "restart", "reload", "deployment", "stop", "clock forward", "clock back", "nothing"}[rand.IntN(8)]; what {
	case "kill":
		h.killed()
		h.start()
		c.met[what]++
	case "restart":
		h.answers() // one that has not begun would not end in order
		h.end()
		h.start()
		c.met[what]++
	case "reload":
		h.cmd.Process.Signal(syscall.SIGCONT)
		if h.client().Post(t.Context(), "/v1/reload", nil, nil) == nil {
			c.met[what]++
		}
	case "deployment":
		c.deploy(t)
		c.met[what]++
	case "stop":
		h.cmd.Process.Signal(syscall.SIGSTOP)
		<-time.After(rand.N(3 * time.Second))
		h.cmd.Process.Signal(syscall.SIGCONT)
		c.met[what]++
	case "clock forward", "clock back":
		by := time.Duration(1+rand.IntN(8)) * time.Second
		if what == "clock back" {
			by = -by
		}
		if sum := c.clock + by; sum.Abs() > 15*time.Second {
			by = -by
		}
		c.see()
		c.clock += by
		h.write("clock", c.clock.String())
		c.met[what]++
	}
}

// deploy swaps the application's tree as the platform does, its hooks around it.
func (c *calamity) deploy(t *testing.T) {
	h := c.host
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	h.client().Post(ctx, "/v1/hold?limit=10s", nil, nil) // may fail: the agent may be starting
	app := filepath.Join(h.dir, "app")
	h.write("cron.yaml", c.table)
	os.RemoveAll(app + ".old")
	if err := os.Mkdir(app+".new", 0o755); err != nil {
		t.Error(err)
	}
	<-time.After(rand.N(time.Second))
	for _, move := range [][2]string{{filepath.Join(h.dir, "cron.yaml"), app + ".new/cron.yaml"}, {app, app + ".old"}, {app + ".new", app}} {
		if err := os.Rename(move[0], move[1]); err != nil {
			t.Error(err)
		}
	}
	h.client().Post(ctx, "/v1/release", nil, nil)
}
