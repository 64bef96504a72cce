package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// runnerFunc is a Runner for tests: time is the bubble's, so what a run does is to wait.
type runnerFunc func(context.Context, Firing) error

func (f runnerFunc) Run(ctx context.Context, x Firing) error { return f(ctx, x) }

// lasts makes a Runner whose runs are recorded at once and take so long, unless they are cancelled.
func lasts(d time.Duration) runnerFunc {
	return func(ctx context.Context, f Firing) error {
		f.Begun()
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// A rig drives one Scheduler in a synctest bubble and notes what it did. A bubble begins
// at midnight of 2000-01-01 UTC; times are noted as what passed since.
type rig struct {
	t     *testing.T
	s     *Scheduler
	begun time.Time
	step  atomic.Int64 // how far the wall clock was set
	end   func() error

	mu     sync.Mutex
	starts []Firing
	log    []string // every start and event, with when it happened
	saved  map[string]SavedJob
}

// newRig starts a Scheduler over a crontab or a YAML list of jobs.
func newRig(t *testing.T, file string, run runnerFunc, cfg Config) *rig {
	t.Helper()
	r := &rig{t: t, begun: time.Now(), saved: map[string]SavedJob{}}
	cfg.Runner = runnerFunc(func(ctx context.Context, f Firing) error {
		r.note(fmt.Sprintf("%s %s", f.Job.Name, f.Reason), func() { r.starts = append(r.starts, f) })
		return run(ctx, f)
	})
	cfg.OnEvent = func(e Event) { r.note(strings.TrimSpace(fmt.Sprintf("%s %s %d", e.Job, e.Kind, e.Count)), nil) }
	cfg.Now = func() time.Time { return time.Now().Add(time.Duration(r.step.Load())) }
	cfg.Save = func(k map[string]SavedJob) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		for name, v := range k {
			r.saved[name] = v
		}
		return nil
	}
	r.s = New(cfg)
	r.set(file)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.s.Run(ctx) }()
	r.end = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { r.end() })
	return r
}

func (r *rig) note(line string, also func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, fmt.Sprintf("%s %s", time.Since(r.begun), line))
	if also != nil {
		also()
	}
}

func (r *rig) set(file string) {
	r.t.Helper()
	name := "cron.yaml"
	if !strings.HasPrefix(file, "cron:") {
		name = "crontab"
	}
	r.s.SetTable(mustParse(r.t, name, file))
}

// after lets time pass.
func (r *rig) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// want compares what happened since the last want. Runs that start in the same instant
// are goroutines, so their order is none.
func (r *rig) want(lines ...string) {
	r.t.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.Sort(r.log)
	slices.Sort(lines)
	if got, want := strings.Join(r.log, "\n"), strings.Join(lines, "\n"); got != want {
		r.t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	r.log = nil
}

// last gives the latest start of a job.
func (r *rig) last(job string) Firing {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range slices.Backward(r.starts) {
		if f.Job.Name == job {
			return f
		}
	}
	r.t.Fatalf("job %q was not started", job)
	return Firing{}
}

func (r *rig) state(job string) JobState {
	r.t.Helper()
	for _, st := range r.s.Snapshot() {
		if st.Job.Name == job {
			return st
		}
	}
	r.t.Fatalf("no job %q in the snapshot", job)
	return JobState{}
}

// inBubble runs f with a rig that is stopped at its end.
func inBubble(t *testing.T, file string, run runnerFunc, cfg Config, f func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newRig(t, file, run, cfg)) })
}

func TestJobsStartOnTheirSlot(t *testing.T) {
	inBubble(t, "*/20 * * * * a\n30 * * * * b\n", lasts(time.Second), Config{}, func(r *rig) {
		r.after(time.Hour)
		r.want("20m0s a scheduled", "30m0s b scheduled", "40m0s a scheduled", "1h0m0s a scheduled")
		if f := r.starts[3]; !f.Due.Equal(r.begun.Add(time.Hour)) || f.Attempt != 1 || f.Coalesced != 0 {
			t.Errorf("got %+v", f)
		}
		if st := r.state("a"); st.Counts.Runs != 2 || !st.Next.Equal(r.begun.Add(80*time.Minute)) || !st.Last.Due.Equal(r.begun.Add(40*time.Minute)) {
			t.Errorf("got %+v", st)
		}
	})
}

func overlapping(policy string) string {
	return "cron:\n- {name: a, schedule: '*/10 * * * *', command: x, overlap: " + policy + "}\n"
}

func TestOverlapPolicies(t *testing.T) {
	for policy, want := range map[string][]string{
		"skip":    {"10m0s a scheduled", "20m0s a overlapped 1", "30m0s a overlapped 1", "40m0s a scheduled"},
		"queue":   {"10m0s a scheduled", "20m0s a waiting 1", "35m0s a scheduled", "40m0s a waiting 1"},
		"replace": {"10m0s a scheduled", "20m0s a replaced 1", "20m0s a waiting 1", "20m0s a scheduled", "30m0s a replaced 1", "30m0s a waiting 1", "30m0s a scheduled", "40m0s a replaced 1", "40m0s a waiting 1", "40m0s a scheduled"},
		"allow":   {"10m0s a scheduled", "20m0s a scheduled", "30m0s a scheduled", "40m0s a scheduled"},
	} {
		t.Run(policy, func(t *testing.T) {
			inBubble(t, overlapping(policy), lasts(25*time.Minute), Config{}, func(r *rig) {
				r.after(41 * time.Minute)
				r.want(want...)
			})
		})
	}
}

func TestRetriesBackOff(t *testing.T) {
	fail := func(context.Context, Firing) error { return errors.New("exit 1") }
	file := "cron:\n- {name: a, schedule: '0 * * * *', command: x, retries: 2, backoff: 1m}\n"
	inBubble(t, file, fail, Config{}, func(r *rig) {
		r.after(110 * time.Minute)
		r.want("1h0m0s a scheduled", "1h1m0s a retry", "1h3m0s a retry")
		if f := r.starts[2]; !f.Final() || f.Attempt != 3 || !f.Due.Equal(r.begun.Add(time.Hour)) {
			t.Errorf("got %+v", f)
		}
	})
}

func TestHeldStartsRunOnceAfterRelease(t *testing.T) {
	inBubble(t, "*/10 * * * * a\n5 * * * * b\n", lasts(time.Second), Config{}, func(r *rig) {
		r.s.Hold(time.Hour)
		r.after(35 * time.Minute)
		r.want()
		r.s.Release()
		r.want("35m0s b catch-up", "35m0s a catch-up")
		if f := r.last("a"); f.Coalesced != 2 || !strings.Contains(f.Why, "starts were held") {
			t.Errorf("got %+v", f)
		}
		r.s.Hold(time.Hour)
		r.after(time.Hour)
		r.want("1h35m0s hold-ended 0", "1h35m0s a catch-up", "1h35m0s b catch-up")
	})
}

func TestStopWaitsForGraceThenCancels(t *testing.T) {
	inBubble(t, "0 * * * * a\n", lasts(time.Hour), Config{Grace: 10 * time.Minute}, func(r *rig) {
		r.after(time.Hour)
		begun := time.Now()
		if err := r.end(); err != nil {
			t.Errorf("Run gave %v", err)
		}
		if took := time.Since(begun); took != 10*time.Minute {
			t.Errorf("stopping took %s, want the grace of 10m", took)
		}
	})
}
