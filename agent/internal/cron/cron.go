// Package cron is all that happens to a job's slot: due, claimed, started, its end noted and reported.
//
//	cron file → watcher → scheduler → fire → fleet.claim → Config.Begin → supervisor
//	                                  fire → outcomes → register in S3
//	                        supervisor → runEvents → onStart, onEnd → notices
//
// The scheduler says when, the supervisor says what became of a run, and the fleet says which instance runs it.
package cron

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/notify"
	"beanstalk-agent/scheduler"
)

// Cron runs the application's scheduled jobs. Its methods are safe for concurrent use.
type Cron struct {
	cfg     Config
	log     *slog.Logger
	sched   *scheduler.Scheduler
	watcher *watcher
	fleet   *fleet
	doubles *doubles
	notices *notices
	poster  poster
	counts  counters
}

// New makes a Cron that runs nothing yet.
func New(cfg Config) (*Cron, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Location == nil {
		cfg.Location = time.UTC
	}
	c := &Cron{cfg: cfg, log: cfg.Log, fleet: newFleet(cfg), poster: newPoster(cfg.App)}
	var err error
	if c.notices, err = newNotices(cfg, c.recipients); err != nil {
		return nil, err
	}
	saved, err := openStore(filepath.Join(cfg.StateDir, "cron.json"))
	if err != nil {
		cfg.Log.Error("scheduler's memory", "err", err)
	}
	host, _ := os.Hostname() // only spreads starts; empty is fine
	c.sched = scheduler.New(scheduler.Config{
		Runner: runnerFunc(c.fire), OnEvent: c.onEvent, Saved: saved.Kept(), Save: freeAfterLargeSave(saved.Save),
		HostName: host, Limit: limit(cfg.Limit, runtime.NumCPU()), Now: cfg.Now, Sleep: sleepPrecise,
		Host: func() scheduler.Host { return hostConditions(cfg.App) },
	})
	c.watcher = &watcher{Dir: cfg.App.Facts().AppDir, Files: cfg.Files, Log: cfg.Log,
		Where: func() string {
			kind, err := cfg.App.ProcessType(context.Background())
			return fmt.Sprint(cfg.App.Facts().EnvironmentName, "\n", kind, err != nil)
		},
		Held:   func() bool { return !c.sched.HeldUntil().IsZero() },
		Writer: cfg.App.Env().Writer,
		Judged: c.judged,
		Apply: func(t scheduler.Table) {
			c.sched.SetTable(t)
			debug.FreeOSMemory() // of the parser's garbage, which can be a hundred times the file
		},
		Options: func() scheduler.ParseOptions {
			return scheduler.ParseOptions{Location: cfg.Location, CheckCommand: cfg.App.Commands(context.Background())}
		}}
	c.fleet.group, c.fleet.losses.report, c.fleet.losses.missed = c.group, c.reportLost, c.reportMissed
	c.doubles = &doubles{open: c.fleet.open, jobs: c.jobsOnHere, log: cfg.Log,
		own: func() string { return cfg.App.Facts().EnvironmentName }, notify: c.reportDouble}
	c.keepHold()
	return c, nil
}

type runnerFunc func(context.Context, scheduler.Firing) error

func (f runnerFunc) Run(ctx context.Context, firing scheduler.Firing) error { return f(ctx, firing) }

// Run takes up what an earlier process left running, then starts what is due until ctx is done. It returns once the
// ends of this process's runs are in their registers, or after drainLimit.
func (c *Cron) Run(ctx context.Context) error {
	table := c.watcher.Reload().Table
	c.adoptLive(ctx, table)
	c.adoptFailed(ctx, table)
	var watch sync.WaitGroup
	defer watch.Wait()
	watch.Go(func() {
		c.fleet.releaseLocks(ctx)
		for _, j := range atStart(table) {
			c.fleet.leftoversOf(ctx, j)
			c.fleet.losses.lookIn(j, 0)
		}
		c.fleet.losses.watch(ctx, c.rerun)
	})
	watch.Go(func() { c.doubles.watch(ctx, c.cfg.App.Name()) })
	err := c.sched.Run(ctx)
	c.fleet.outcomes.close(drainLimit)
	return err
}

// WatchFile follows the cron file until ctx is done.
func (c *Cron) WatchFile(ctx context.Context) error { return c.watcher.Run(ctx) }

// SendNotices sends until ctx is done, and then for a moment what waits.
func (c *Cron) SendNotices(ctx context.Context) error { return c.notices.Run(ctx) }

// Reload reads the cron file again, changed or not.
func (c *Cron) Reload() { c.watcher.Reload() }

// group is the group of the cron file, else that of the configuration.
func (c *Cron) group() (string, error) {
	name, err := hostConditions(c.cfg.App).Group(c.watcher.State().Table.Group)
	return cmp.Or(name, c.cfg.Group), err
}

// jobsOnHere are the jobs whose slots this instance claims.
func (c *Cron) jobsOnHere() []scheduler.Job {
	here := hostConditions(c.cfg.App)
	return slices.DeleteFunc(slices.Clone(c.watcher.State().Table.Jobs), func(j scheduler.Job) bool {
		return j.On == scheduler.OnAll || j.OffReason(here) != ""
	})
}

// recipients are the targets that a job's notices go to, as the cron file says.
func (c *Cron) recipients(job string) []string {
	j, _ := c.watcher.State().Table.Job(job)
	return j.Notify
}

// hostConditions are as much as is known now: an agent may be older than the first deployment, and the environment
// cannot be read in the middle of one.
func hostConditions(a *app.App) scheduler.Host {
	read := sync.OnceValues(func() (*appenv.Env, error) { // most tables do not ask
		return a.Env().Resolve(context.Background())
	})
	f := a.Facts()
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

// limit is how many jobs run at once: as configured, else eight for each processor, since most wait for a database or
// a network, and enough for a small instance.
func limit(configured, processors int) int { return cmp.Or(configured, max(16, 8*processors)) }

// freeAfterLargeSave returns the memory that writing a whole table took, which a table of ten thousand jobs would keep
// for minutes otherwise.
func freeAfterLargeSave(save func(map[string]scheduler.SavedJob) error) func(map[string]scheduler.SavedJob) error {
	return func(changed map[string]scheduler.SavedJob) error {
		err := save(changed)
		if len(changed) > 1000 {
			debug.FreeOSMemory()
		}
		return err
	}
}

// sleepPrecise is timed by the kernel, not by the runtime, which is up to a millisecond late. A signal ends it early.
func sleepPrecise(d time.Duration) {
	tv := unix.NsecToTimeval(max(d, 0).Nanoseconds())
	_, _ = unix.Select(0, nil, nil, nil, &tv)
}

// onEvent logs, counts and reports what no run can report.
func (c *Cron) onEvent(e scheduler.Event) {
	c.counts.event(e)
	c.notices.event(e)
	level := slog.LevelWarn
	if e.Kind == scheduler.Waiting || e.Kind == scheduler.ClockStep || e.Kind == scheduler.Owed {
		level = slog.LevelInfo
	}
	var attrs []slog.Attr
	if e.Job != "" {
		attrs = append(attrs, slog.String("job", e.Job))
	}
	if !e.Due.IsZero() {
		attrs = append(attrs, slog.Time("due", e.Due), slog.Int("count", e.Count))
	}
	attrs = append(attrs, slog.String("what", e.Text))
	if e.Err != nil {
		attrs = append(attrs, slog.Any("err", e.Err))
	}
	c.log.LogAttrs(context.Background(), level, "cron: "+string(e.Kind), attrs...)
}

// reportLost reports a run whose instance is gone: no run of this instance will.
func (c *Cron) reportLost(job string, r claim.Run) {
	c.log.Warn("a run was lost with its instance", "job", job, "due", r.Slot, "owner", r.Owner, "outcome", r.Outcome)
	if strings.HasPrefix(job, lockRegister("")) {
		return
	}
	c.counts.failed.Add(1)
	c.notices.send(notify.Event{Job: job, Kind: notify.Failed, At: time.Now(), Reason: printable(r.Outcome)})
}

// reportDouble reports who runs jobs of this environment too.
func (c *Cron) reportDouble(who string, jobs []string) {
	c.notices.send(notify.Event{Job: who, Kind: notify.Doubled, At: time.Now(), Jobs: jobs,
		Reason: firstNames(jobs) + "; " + doubleHint})
}

// reportMissed reports an interrupted run whose slot is not run again on any instance.
func (c *Cron) reportMissed(job string, r claim.Run, why string) {
	c.log.Warn("an interrupted slot is not run again", "job", job, "due", r.Slot, "outcome", r.Outcome, "why", why)
	c.counts.missed.Add(1)
	c.notices.send(notify.Event{Job: job, Kind: notify.Missed, At: time.Now(),
		Reason: printable(r.Outcome) + "; it is not run again: " + why})
}

// judged reports what is wrong with the cron file, once for each state of it, and that it is mended.
func (c *Cron) judged(file string, err error) {
	e := notify.Event{Job: file, Kind: notify.Succeeded, At: time.Now()}
	if err != nil {
		c.counts.failed.Add(1)
		first, _, more := strings.Cut(err.Error(), "\n")
		if e.Kind, e.Reason = notify.Failed, first; more {
			e.Reason += " (agent cron check shows all that is wrong)"
		}
	}
	c.notices.send(e)
}
