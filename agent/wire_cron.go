package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/cron"
	"beanstalk-agent/agent/internal/launch"
	"beanstalk-agent/agent/internal/notify"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/agent/internal/supervisor"
	"beanstalk-agent/collectors"
	"beanstalk-agent/scheduler"
)

// cronParts connects the cron file, the scheduler and the supervisor's runs.
type cronParts struct {
	watcher  *cron.Watcher
	sched    *scheduler.Scheduler
	launcher *launch.Launcher
	runs     *supervisor.Client
	who      *claims
	people   *notices
	held     string // the file that says until when starts are held
	log      *slog.Logger

	// since the last time they were published
	ran, failed, missed, overlapped, overdue, typed atomic.Int64
}

// wallClock is what the scheduler goes by. Tests of clocks that differ, or are
// set, replace it.
var wallClock = time.Now

// nap is a wait that the kernel times, not the runtime, which is up to a
// millisecond late. A signal ends it early.
func nap(d time.Duration) {
	tv := unix.NsecToTimeval(max(d, 0).Nanoseconds())
	_, _ = unix.Select(0, nil, nil, nil, &tv)
}

func newCron(cfg config.Config, a *app.App, l *launch.Launcher, runs *supervisor.Client, who *claims, people *notices, log *slog.Logger) *cronParts {
	inst, env := a.Instance(), a.Env()
	c := &cronParts{launcher: l, runs: runs, who: who, people: people, log: log,
		held: strings.TrimSuffix(cfg.Socket, ".sock") + "-held"}
	store, err := cron.OpenStore(filepath.Join(cfg.StateDir, "cron.json"))
	if err != nil {
		log.Error("scheduler's memory", "err", err)
	}
	f := inst.Facts()
	host, _ := os.Hostname() // only spreads starts; empty is fine
	c.sched = scheduler.New(scheduler.Config{
		Runner: c, OnEvent: c.tell, Saved: store.Kept(), Save: frugal(store.Save), HostName: host, Limit: limit(cfg.Cron.Limit, runtime.NumCPU()), Now: wallClock, Sleep: nap,
		Host: func() scheduler.Host { return here(inst.Facts(), env) },
	})
	c.holdOn()
	var table atomic.Pointer[scheduler.Table] // and not the watcher's, which may hold its lock while events are told
	table.Store(&scheduler.Table{})
	people.to = func(job string) []string {
		j, _ := table.Load().Job(job)
		return j.Notify
	}
	files := []string{cfg.Cron.File}
	if cfg.Cron.File == config.Default().Cron.File {
		files = append(files, "crontab")
	}
	zone, _ := time.LoadLocation(cfg.Cron.Timezone) // checked by config
	c.watcher = &cron.Watcher{Dir: f.AppDir, Files: files, Log: log,
		Where: func() string { return inst.Facts().EnvironmentName },
		Held:  func() bool { return !c.sched.HeldUntil().IsZero() },
		Apply: func(t scheduler.Table) {
			table.Store(&t)
			c.sched.SetTable(t)
			debug.FreeOSMemory() // of the parser's garbage, which can be a hundred times the file
		},
		Options: func() scheduler.ParseOptions {
			return scheduler.ParseOptions{Location: zone, CheckCommand: a.Commands(context.Background())}
		}}
	return c
}

// here is as much as is known by now: an agent may be older than the first
// deployment, and the environment not to be read in the middle of one.
func here(f platform.Facts, env *appenv.Resolver) scheduler.Host {
	read := sync.OnceValues(func() (*appenv.Env, error) { return env.Resolve(context.Background()) }) // most tables do not ask
	return scheduler.Host{Environment: f.EnvironmentName, Worker: f.Worker,
		Getenv: func(name string) (string, bool) {
			e, err := read()
			if err != nil {
				return "", false
			}
			return e.Lookup(name)
		},
		Unread: func() bool { _, err := read(); return err != nil }}
}

// limit is how many jobs run at once: as configured, else eight for each processor,
// since most wait for a database or a network, and enough for a small instance.
func limit(configured, processors int) int { return cmp.Or(configured, max(16, 8*processors)) }

// frugal gives the memory back that writing a whole table took, which a table of
// ten thousand jobs would else keep for minutes.
func frugal(save func(map[string]scheduler.SavedJob) error) func(map[string]scheduler.SavedJob) error {
	return func(changed map[string]scheduler.SavedJob) error {
		err := save(changed)
		if len(changed) > 1000 {
			debug.FreeOSMemory()
		}
		return err
	}
}

// run takes up what an earlier agent left running, then fires until ctx is done.
func (c *cronParts) run(ctx context.Context) error {
	table := c.watcher.Reload().Table
	live, err := c.runs.List(ctx, supervisor.Filter{Live: true, Kind: "cron"})
	if err != nil && ctx.Err() == nil {
		c.log.Error("running jobs are not known", "err", err)
	}
	for _, r := range slices.Backward(live) { // the oldest first
		job, ok := table.Job(r.Name)
		if !ok {
			job = scheduler.Job{Name: r.Name, Location: time.UTC}
		}
		c.sched.Adopt(scheduler.Firing{Job: job, Due: r.Slot, Attempt: r.Attempt, Reason: scheduler.Reason(r.Reason)}, c.launcher.Await(r.ID))
	}
	c.takeUp(ctx, table)
	return c.sched.Run(ctx)
}

// takeUp has what failed before this agent began tried again, as its job says: it may
// have ended while there was no agent, or the pause before its retry was under way.
// What is older than a missed slot may be, or than the host's last hundreds of runs,
// is left to the history.
func (c *cronParts) takeUp(ctx context.Context, t scheduler.Table) {
	if !slices.ContainsFunc(t.Jobs, func(j scheduler.Job) bool { return j.Retries > 0 || j.RetryOnLoss }) {
		return
	}
	runs, err := c.runs.List(ctx, supervisor.Filter{Kind: "cron", Limit: 500})
	if err != nil && ctx.Err() == nil {
		c.log.Error("runs to be tried again are not known", "err", err)
	}
	seen := map[string]bool{}
	for _, r := range runs { // newest first
		if r.Reason == string(scheduler.Manual) || seen[r.Name] {
			continue
		}
		seen[r.Name] = true
		if job, ok := t.Job(r.Name); ok && triedAgain(job, r) && wallClock().Sub(r.Slot) <= max(job.CatchUp, scheduler.DefaultCatchUp) {
			c.sched.Adopt(scheduler.Firing{Job: job, Due: r.Slot, Attempt: r.Attempt}, c.launcher.Await(r.ID))
		}
	}
}

// triedAgain reports whether a run that has ended is followed by another attempt.
func triedAgain(job scheduler.Job, r supervisor.Run) bool {
	limit := job.Retries
	switch {
	case r.Live(), r.ExitCode == 0, r.Attempt < 1, r.Reason == string(scheduler.Manual):
		return false
	case r.State == supervisor.StateLost && !job.RetryOnLoss:
		return false
	case r.State == supervisor.StateLost:
		limit = max(limit, 1)
	}
	return r.Attempt <= limit
}

func (c *cronParts) reload(context.Context) error {
	c.watcher.Reload()
	return nil
}

// Run is the scheduler's Runner. What did not begin is told here: there is no run
// whose end would tell it.
func (c *cronParts) Run(ctx context.Context, f scheduler.Firing) error {
	begun, note := false, f.Begun
	f.Begun = func() { begun = true; note() }
	err := c.launcher.Run(ctx, f)
	switch {
	case begun, f.Reason == scheduler.Manual:
	case errors.Is(context.Cause(ctx), scheduler.ErrStopping): // the next life owes it
	case !errors.Is(err, scheduler.ErrElsewhere):
		c.notStarted(f, err)
	case f.Coalesced > 0:
		c.log.Info("slots left to other instances", "job", f.Job.Name, "due", f.Due, "count", 1+f.Coalesced, "why", f.Why)
	}
	return err
}

// notStarted counts and tells a slot that nobody runs here, or one attempt at it.
func (c *cronParts) notStarted(f scheduler.Firing, err error) {
	kind, n, why := notify.Failed, &c.failed, err
	if _, ok := errors.AsType[unclaimed](err); ok {
		kind, n = notify.Overdue, &c.overdue
	}
	if errors.Is(err, claim.ErrDenied) {
		why = claim.ErrDenied // the store has told it in full, once
	}
	c.log.Warn("job not started", "job", f.Job.Name, "due", f.Due, "count", 1+f.Coalesced, "attempt", f.Attempt, "err", why)
	if errors.Is(err, scheduler.ErrReplaced) { // as its job wants it
		return
	}
	n.Add(1)
	if f.Final() {
		c.people.send(notify.Event{Job: f.Job.Name, Kind: kind, At: time.Now(), Reason: "not started: " + err.Error()})
	}
}

// tell is where the scheduler says what no run can.
func (c *cronParts) tell(e scheduler.Event) {
	switch e.Kind {
	case scheduler.Missed:
		c.missed.Add(int64(e.Count))
	case scheduler.Overlapped:
		c.overlapped.Add(int64(e.Count))
	case scheduler.Overdue:
		c.overdue.Add(1)
	}
	c.people.event(e)
	level := slog.LevelWarn
	if e.Kind == scheduler.Waiting || e.Kind == scheduler.ClockStep || e.Kind == scheduler.Owed {
		level = slog.LevelInfo
	}
	c.log.Log(context.Background(), level, "cron: "+string(e.Kind), "job", e.Job, "due", e.Due, "count", e.Count, "what", e.Text, "err", e.Err)
}

// began tells of a run's start.
func (c *cronParts) began(r supervisor.Run) {
	if r.Kind == "cron" {
		c.people.send(notify.Event{Job: r.Name, Kind: notify.Started, At: r.Started, Run: r.ID})
	}
}

// ended counts a run that ended, told once for each.
func (c *cronParts) ended(r supervisor.Run) {
	if r.Kind != "cron" {
		c.typed.Add(1)
		return
	}
	c.ran.Add(1)
	if r.ExitCode != 0 || r.State == supervisor.StateLost {
		c.failed.Add(1)
	}
	if job, ok := c.watcher.State().Table.Job(r.Name); ok && triedAgain(job, r) {
		return // people hear of the last attempt, or that there is none
	}
	c.people.ended(r, c.who.told(r.Name))
}

func (c *cronParts) samples(out []collectors.Sample) []collectors.Sample {
	if n := c.typed.Swap(0); n > 0 { // only then: most environments see one in a month
		out = append(out, collectors.Sample{Name: "exec_runs", Unit: collectors.Count, Value: float64(n)})
	}
	before := len(out)
	out = c.counters(out)
	if len(c.watcher.State().Table.Jobs) == 0 && !slices.ContainsFunc(out[before:], func(s collectors.Sample) bool { return s.Value != 0 }) {
		return out[:before] // five series that are always 0 are five series paid for
	}
	return out
}

// counters takes what was counted since the last time.
func (c *cronParts) counters(out []collectors.Sample) []collectors.Sample {
	count := func(name string, n *atomic.Int64) collectors.Sample {
		return collectors.Sample{Name: name, Unit: collectors.Count, Value: float64(n.Swap(0))}
	}
	return append(out, count("cron_runs", &c.ran), count("cron_failed", &c.failed),
		count("cron_missed", &c.missed), count("cron_overlapped", &c.overlapped), count("cron_overdue", &c.overdue))
}
