package cron

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/versity"
	"beanstalk-agent/scheduler"
)

func reload(t *testing.T, a *agentIn, file string) {
	put(t, filepath.Join(a.watcher.Dir, "cron.yaml"), file)
	a.Reload()
}

// A start that waits for another instance's run obeys a hold, a pause of this instance and the cron file of now: in a
// deployment it must not start in the old tree, nor with the old command in the new one.
func TestStartThatWaitsForAnInstanceObeys(t *testing.T) {
	t.Parallel()
	const waits, held, gone = "runs it since", "the end of a hold", ""
	for name, c := range map[string]struct {
		do     func(a *agentIn, file string)
		now    string // what it waits for then
		starts string // of the commands, once the other's run has ended and no hold is
	}{
		"a hold":        {func(a *agentIn, _ string) { a.Hold(time.Hour) }, held, "old"},
		"a pause here":  {func(a *agentIn, _ string) { a.sched.Pause("job") }, gone, ""},
		"no such job":   {func(a *agentIn, file string) { reload(t, a, strings.Replace(file, "name: job", "name: other", 1)) }, gone, ""},
		"a new command": {func(a *agentIn, file string) { reload(t, a, strings.Replace(file, "old", "new", 1)) }, waits, "new"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, started := versity.Start(t, "bucket")[0], filepath.Join(t.TempDir(), "runs")
			b := storeOf(t, store, "prod", "")
			o, err := b.Claim(t.Context(), claim.Request{Job: "job", Manual: true, Window: 10 * time.Second})
			if err != nil || o.State != claim.Won {
				t.Fatal(o, err)
			}
			file := "cron:\n- {name: job, schedule: '*/2 * * * * *', seconds: true, overlap: queue, command: " + writes(started, "old", 300) + "}\n"
			a := startAgent(t, store, "prod", ours, "", file)
			waitsFor := func(what string) func() bool {
				return func() bool {
					for _, j := range a.sched.Snapshot() {
						if j.Job.Name == "job" && len(j.Running) > 0 {
							return what != gone && strings.Contains(j.Running[0].Waits, what)
						}
					}
					return what == gone
				}
			}
			until(t, "it waits", waitsFor(waits))
			c.do(a, file)
			until(t, "it waits no more, or for "+c.now, waitsFor(c.now))
			if err := b.Finish(t.Context(), "job", o.Run.Slot, claim.Result{Outcome: "exit 0"}); err != nil {
				t.Fatal(err)
			}
			if n := intervals(t, started); c.now == held && len(n) > 0 {
				t.Errorf("it starts in a hold")
			}
			a.Release()
			if c.starts == "" {
				return
			}
			until(t, "it starts", func() bool { return len(intervals(t, started)) > 0 })
			if n := intervals(t, started); n[0].job != c.starts {
				t.Errorf("%s starts", n[0].job)
			}
		})
	}
}

// So does one that waits for a lock: the supervisor's is taken back while it must not start. Its slot is claimed, so it
// is not tried anew when its job has changed.
func TestStartThatWaitsForALockObeys(t *testing.T) {
	t.Parallel()
	for _, scope := range []scheduler.LockScope{scheduler.LockHost, scheduler.LockEnvironment} {
		for _, want := range []error{nil, scheduler.ErrDropped, scheduler.ErrChanged} {
			store := versity.Start(t, "bucket")[0]
			f, h, _, _ := heldAt(t, store, ours, func(*scheduler.Job) {})
			job := firing(t, func(j *scheduler.Job) { j.Lock, j.LockScope, j.CatchUp = "db", scope, time.Hour })
			other := fleetAt(t, store, "i-0fedcba9876543210")
			lock, err := other.lock(t.Context(), job) // which the other instance has, if it is of the environment
			if err != nil {
				t.Fatal(err)
			}
			asked, calls, hold := 0, 0, func() {}
			parts := newCron(t, io.Discard, func(cfg *Config) {
				cfg.Runs = &answers{get: runs.ErrUnknown}
				cfg.Begin = func(ctx context.Context, o appenv.ProfileOptions, r runs.Request) (runs.Run, func() (runs.Run, error), error) {
					if asked++; asked == 1 && scope == scheduler.LockHost { // the supervisor keeps it for its lock
						hold()
						<-ctx.Done()
						return runs.Run{}, nil, context.Cause(ctx)
					}
					return runs.Run{ID: r.ID}, func() (runs.Run, error) { return runs.Run{State: runs.StateExited}, nil }, nil
				}
			})
			parts.fleet = f
			job.Due, job.Begun = h.slot, func() {}
			job.MayStart = func(ctx context.Context) (context.Context, error) {
				switch calls++; calls {
				case 1:
					ctx, hold = context.WithCancel(ctx)
					if scope == scheduler.LockEnvironment {
						hold() // while it waits for the other
					}
					return ctx, nil
				case 2: // after the hold
					other.unlock(lock)
					other.outcomes.writers.Wait()
					return ctx, want
				}
				return ctx, nil
			}
			err = parts.run(t.Context(), "run", job, h, func(runs.Run) {})
			f.outcomes.writers.Wait()
			r, readErr := h.store.Read(t.Context(), "job")
			outcome := map[bool]string{true: runs.Good, false: "not started"}[want == nil]
			if readErr != nil || r.Runs[0].Outcome != outcome || want != nil && !errors.Is(err, scheduler.ErrDropped) || want == nil && err != nil {
				t.Errorf("%s, %v: %v, the register says %q, %v", scope, want, err, r.Runs[0].Outcome, readErr)
			}
		}
	}
}
