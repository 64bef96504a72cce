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

// soakJobs are what a busy hour's crontab has, as the hour has it: quick jobs, some
// that outlast their period under each policy, one that fails, one that is late by
// its splay, two that share a lock, one that lets what is missed go.
var soakJobs = map[string]struct {
	every time.Duration
	keys  string // %s: a length of the hour that at gives
	at    time.Duration
	takes time.Duration
	exit  int
}{
	"often":    {every: 10 * time.Second},
	"minutely": {every: time.Minute},
	"slow":     {every: 2 * time.Minute, keys: "overlap: queue", takes: 3 * time.Minute},
	"both":     {every: 2 * time.Minute, keys: "overlap: allow", takes: 3 * time.Minute},
	"long":     {every: 3 * time.Minute, keys: "overlap: skip", takes: 4 * time.Minute},
	"newer":    {every: 3 * time.Minute, keys: "overlap: replace", takes: 4 * time.Minute},
	"locked":   {every: 3 * time.Minute, keys: "lock: db", takes: time.Minute},
	"beside":   {every: 3 * time.Minute, keys: "lock: db", takes: time.Minute},
	"fails":    {every: 4 * time.Minute, keys: "retries: 1, backoff: %s", at: time.Minute, exit: 3},
	"late":     {every: 5 * time.Minute, keys: "splay: %s", at: 3 * time.Minute},
	"forgets":  {every: 5 * time.Minute, keys: "catch_up: false"},
	"quarter":  {every: 15 * time.Minute, takes: 10 * time.Minute},
	"half":     {every: 30 * time.Minute},
	"hourly":   {every: time.Hour},
}

// soakTable presses the hour by that factor. What would be due more often than each
// second, which is as often as a job can be, is due then.
func soakTable(g *ground, factor time.Duration) (table string, every map[string]time.Duration) {
	table, every = "cron:\n", map[string]time.Duration{}
	for name, j := range soakJobs {
		every[name] = max(j.every/factor, time.Second)
		keys := j.keys
		if j.at > 0 {
			keys = fmt.Sprintf(keys, max(j.at/factor, time.Second))
		}
		table += fmt.Sprintf("- {name: %s, schedule: '@every %s', command: '%s; sleep %.1f; exit %d', %s}\n",
			name, every[name], g.signs(name), (j.takes / factor).Seconds(), j.exit, keys)
	}
	return strings.ReplaceAll(table, ", }", "}"), every
}

// One instance's hour, compressed: the agent is killed, restarted, reloaded, stopped
// and continued, its supervisor killed, the tree swapped while starts are held, the
// table made faulty, the clock set forward and back. Every slot that came due ran
// exactly once, or it is said by name why it did not. The whole hour of the table
// above takes six minutes, of which the machine is mostly idle:
// SOAK=hour go test -run TestSoak -v ./agent
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 10 s")
	}
	t.Parallel()
	length, factor, pause := 4*time.Second, time.Duration(60), 200*time.Millisecond
	if os.Getenv("SOAK") == "hour" {
		length, factor, pause = 6*time.Minute, 10, 800*time.Millisecond
	}
	g := newGround(t)
	table, every := soakTable(g, factor)
	h := g.add("", table)
	h.answers()
	c := &calamity{host: h, table: table, met: map[string]int{}}
	from := time.Now().Add(time.Second)
	// A clock that was set back has slots to show for it only later.
	for until := time.Now().Add(length); time.Now().Before(until) || c.reached.Sub(from) < length; <-time.After(pause + rand.N(4*pause)) {
		c.strike(t)
		c.see()
	}
	h.answers()
	c.see()
	to := c.reached.Add(-2 * time.Second) // the last seconds are under way
	if end := from.Add(length); to.After(end) {
		to = end
	}

	var b balance
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); <-time.After(200 * time.Millisecond) { // a clock set back catches up
		if b = g.read(every).judge(every, from, to); len(b.doubles) > 0 || len(b.silent) == 0 {
			break
		}
	}
	t.Logf("%s from %s: %s; met %v", to.Sub(from).Round(time.Second), from.UTC().Format(time.TimeOnly), b, c.met)
	if len(b.doubles)+len(b.silent) > 0 {
		t.Errorf("%d slots ran twice, %d were missed silently", len(b.doubles), len(b.silent))
	}
	if len(g.read(every).ran) == 0 {
		t.Error("nothing ran at all")
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

// calamities, as often as each is here; a supervisor is killed now and then.
var calamities = strings.Fields("kill kill kill restart restart reload reload deployment deployment deployment-with-kill " +
	"stop stop forward forward back back faulty faulty nothing nothing supervisor")

func (c *calamity) strike(t *testing.T) {
	t.Helper()
	h := c.host
	what := calamities[rand.IntN(len(calamities))]
	c.met[what]++
	switch what {
	case "kill":
		h.killed()
		h.start()
	case "restart":
		h.answers() // one that has not begun would not end in order
		h.end()
		h.start()
	case "reload":
		h.client().Post(t.Context(), "/v1/reload", nil, nil) // may fail: the agent may be starting
	case "deployment", "deployment-with-kill":
		c.deploy(t, what != "deployment")
	case "stop":
		h.cmd.Process.Signal(syscall.SIGSTOP)
		<-time.After(rand.N(3 * time.Second))
		h.cmd.Process.Signal(syscall.SIGCONT)
	case "forward", "back":
		by := time.Duration(1+rand.IntN(12)) * time.Second
		if what == "back" {
			by = -by
		}
		if sum := c.clock + by; sum.Abs() > 20*time.Second {
			by = -by
		}
		c.see()
		c.clock += by
		h.write("clock", c.clock.String())
	case "faulty":
		h.write("app/cron.yaml", c.table+"- {name: one more, schedule: '61 * * * *', command: 'true'}\n")
		h.client().Post(t.Context(), "/v1/reload", nil, nil)
		<-time.After(rand.N(2 * time.Second))
		h.write("app/cron.yaml", c.table)
	case "supervisor":
		h.killSupervisor()
	}
}

// deploy swaps the application's tree as the platform does, its hooks around it.
func (c *calamity) deploy(t *testing.T, kill bool) {
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
	for i, move := range [][2]string{{filepath.Join(h.dir, "cron.yaml"), app + ".new/cron.yaml"}, {app, app + ".old"}, {app + ".new", app}} {
		if i == 2 { // the old tree takes its time to go, and between the two there is no application
			<-time.After(rand.N(time.Second))
			if kill {
				h.killed()
				h.start()
			}
		}
		if err := os.Rename(move[0], move[1]); err != nil {
			t.Error(err)
		}
	}
	<-time.After(rand.N(time.Second))
	h.client().Post(ctx, "/v1/release", nil, nil)
}
