package scheduler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestPausedJobOwesNothing(t *testing.T) {
	inBubble(t, "*/10 * * * * a\n", lasts(time.Second), Config{}, func(r *rig) {
		if err := r.s.Pause("a"); err != nil {
			t.Fatal(err)
		}
		r.after(35 * time.Minute)
		if st := r.state("a"); !st.Paused.Equal(midnight) || !st.Next.IsZero() {
			t.Errorf("got %+v", st)
		}
		if k := r.saved["a"]; !k.Paused.Equal(midnight) {
			t.Errorf("saved %+v, want paused", k)
		}
		if err := r.s.Resume("a"); err != nil {
			t.Fatal(err)
		}
		r.after(10 * time.Minute)
		r.want("40m0s a scheduled")
		if k := r.saved["a"]; !k.Paused.IsZero() {
			t.Errorf("saved %+v, want not paused", k)
		}
		if err := r.s.Pause("b"); !errors.Is(err, ErrUnknownJob) {
			t.Errorf("pausing b gave %v", err)
		}
	})
}

// A pause outlives the process, and the job's absence from a faulty deployment.
func TestPauseIsKept(t *testing.T) {
	cfg := Config{Saved: map[string]SavedJob{"a": {ScheduleKey: "*/10 * * * * UTC", Last: midnight.Add(-time.Hour), Paused: midnight.Add(-time.Hour)}}}
	inBubble(t, "*/10 * * * * a\n", lasts(time.Second), cfg, func(r *rig) {
		r.after(time.Hour)
		r.set("*/10 * * * * b\n")
		r.set("*/10 * * * * a\n")
		r.after(time.Hour)
		r.want()
		if st := r.state("a"); !st.Paused.Equal(midnight.Add(-time.Hour)) {
			t.Errorf("paused since %v", st.Paused)
		}
	})
}

// A triggered run takes the room of any other, and is the caller's to run and to wait for.
func TestTriggerStartsWhatIsGiven(t *testing.T) {
	file := "cron:\n- {name: a, schedule: '0 * * * *', command: x, retries: 3, enabled: false}\n- {name: b, schedule: '0 * * * *', command: x}\n"
	inBubble(t, file, lasts(time.Minute), Config{Limit: 1}, func(r *rig) {
		synctest.Wait()
		r.s.Hold(time.Hour)
		if err := r.s.Pause("a"); err != nil {
			t.Fatal(err)
		}
		var got Firing
		failed := errors.New("exit 3")
		err := r.s.Trigger("a", false, func(_ context.Context, f Firing) error {
			got = f
			time.Sleep(time.Minute)
			return failed
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := r.s.Trigger("a", false, lasts(0)); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "2000-01-01T00:00:00Z") {
			t.Errorf("a second start gave %v", err)
		}
		if err := r.s.Trigger("b", false, lasts(0)); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "room") {
			t.Errorf("a start beyond the limit gave %v", err)
		}
		r.after(30 * time.Minute)
		r.want() // no retry: a person looks at it
		if st := r.state("a"); st.Last.Err != failed || got.Reason != Manual || got.Job.Name != "a" {
			t.Errorf("got %+v, fired %+v", st, got)
		}
		if err := r.s.Trigger("c", false, lasts(0)); !errors.Is(err, ErrUnknownJob) {
			t.Errorf("triggering c gave %v", err)
		}
		if err := New(Config{}).Trigger("a", false, lasts(0)); !errors.Is(err, ErrNotRunning) {
			t.Errorf("triggering before Run gave %v", err)
		}
	})
}

// A run of an earlier process counts: for overlaps, the limit and the lock, and even when
// its job has left the table.
func TestAdoptedRunsCount(t *testing.T) {
	inBubble(t, "*/10 * * * * a\n*/10 * * * * b\n", lasts(time.Second), Config{Limit: 2}, func(r *rig) {
		until := func(d time.Duration) func(context.Context, Firing) error { return lasts(d) }
		r.s.Adopt(Firing{Job: Job{Name: "a"}, Due: midnight.Add(-time.Hour)}, until(15*time.Minute))
		r.s.Adopt(Firing{Job: Job{Name: "old", Location: time.UTC}, Due: midnight.Add(-time.Hour)}, until(12*time.Minute))
		r.after(time.Minute)
		if st := r.state("old"); !st.Gone || len(st.Running) != 1 || st.Running[0].Reason != Adopted {
			t.Errorf("got %+v", st)
		}
		r.after(24 * time.Minute)
		r.want("10m0s a overlapped 1", "10m0s b waiting 1", "12m0s b scheduled", "20m0s a scheduled", "20m0s b scheduled")
		if n := len(r.s.Snapshot()); n != 2 {
			t.Errorf("%d jobs known, want the two of the table", n)
		}
	})
}

// What was owed when the agent was ended is not dropped in silence by a later slot's run
// that goes on, as overlap: allow lets it, nor at all by one that somebody typed.
func TestAdoptedRunsLeaveWhatWasOwed(t *testing.T) {
	file := "cron:\n- {name: a, schedule: '*/10 * * * *', command: x, retries: 1, overlap: allow}\n"
	for name, c := range map[string]struct {
		adopt Firing
		want  []string
	}{
		"of a later slot": {Firing{Job: Job{Name: "a"}, Due: midnight.Add(-10 * time.Minute)}, []string{"0s a dropped 2", "1s a scheduled", "1s a gave-up 1"}},
		"typed":           {Firing{Job: Job{Name: "a"}, Due: midnight.Add(-5 * time.Minute), Reason: Manual}, []string{"1s a catch-up"}}, // and is not tried again
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, "", lasts(time.Second), Config{Saved: savedUpTo("*/10 * * * * UTC", 40*time.Minute)}, func(r *rig) {
				r.after(0)
				r.s.Hold(time.Hour) // else the loop may be faster than the next lines
				r.set(file)
				r.s.Adopt(c.adopt, func(context.Context, Firing) error { return errors.New("exit 3") })
				r.after(time.Second)
				r.s.Release()
				r.after(time.Minute)
				r.want(c.want...)
			})
		})
	}
}

// An agent that is restarted while a deployment swaps the tree finds runs and no table. The
// job that comes back with the table is where it was kept.
func TestAdoptedBeforeThereIsATable(t *testing.T) {
	file := "*/10 * * * * a\n*/10 * * * * b\n"
	for name, c := range map[string]struct {
		takes time.Duration // the run
		want  []string
	}{
		"and runs still": {time.Hour, []string{"5m0s a overlapped 3"}},
		"and is over":    {time.Minute, []string{"5m0s a catch-up"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Saved: savedUpTo("*/10 * * * * UTC", 35*time.Minute)}
			cfg.Saved["b"] = SavedJob{ScheduleKey: "*/10 * * * * UTC", Last: midnight, Paused: midnight}
			inBubble(t, "", lasts(time.Second), cfg, func(r *rig) {
				for _, job := range []string{"a", "b"} {
					r.s.Adopt(Firing{Job: Job{Name: job, Location: time.UTC}, Due: midnight.Add(-30 * time.Minute)}, lasts(c.takes))
				}
				r.after(5 * time.Minute)
				if k, ok := r.saved["a"]; ok {
					t.Errorf("saved %+v of a job that was never seen", k)
				}
				r.set(file)
				r.after(time.Minute)
				r.want(c.want...)
				if st := r.state("b"); st.Paused.IsZero() {
					t.Error("b is not paused any more")
				}
			})
		})
	}
}

func TestLimitLetsStartsWaitInOrder(t *testing.T) {
	inBubble(t, "0 * * * * a\n1 * * * * b\n2 * * * * c\n2-59/10 * * * * d\n", lasts(25*time.Minute), Config{Limit: 1}, func(r *rig) {
		r.after(61 * time.Minute)
		r.want("1m0s b scheduled", "2m0s c waiting 1", "2m0s d waiting 1", "8m0s c overdue 1", "8m0s d overdue 1",
			"26m0s c scheduled", "51m0s d scheduled", "52m0s d overlapped 1", "1h0m0s a waiting 1", "1h1m0s b waiting 1")
	})
}

// A start that waits stands for the slots that come due meanwhile.
func TestWaitingStartCoalesces(t *testing.T) {
	inBubble(t, "0 1 * * * long\n*/10 1-2 * * * a\n", lasts(55*time.Minute), Config{Limit: 1}, func(r *rig) {
		r.after(time.Hour - time.Second)
		if err := r.s.Pause("a"); err != nil {
			t.Fatal(err)
		}
		r.after(2 * time.Second)
		if err := r.s.Resume("a"); err != nil {
			t.Fatal(err)
		}
		r.after(50 * time.Minute)
		if w := r.state("a").Waiting; w == nil || w.Slots != 5 || !strings.Contains(w.For, "room") {
			t.Errorf("got %+v", w)
		}
		r.after(10 * time.Minute)
		f := r.last("a")
		if f.Coalesced != 4 || !f.Due.Equal(midnight.Add(110*time.Minute)) || !strings.Contains(f.Why, "waited 45m0s for room") {
			t.Errorf("got %+v", f)
		}
	})
}

func TestLockKeepsJobsApart(t *testing.T) {
	file := "cron:\n- {name: a, schedule: '0 * * * *', command: x, lock: db}\n- {name: b, schedule: '5 * * * *', command: x, lock: db}\n- {name: c, schedule: '5 * * * *', command: x}\n"
	inBubble(t, file, lasts(7*time.Minute), Config{}, func(r *rig) {
		r.after(70 * time.Minute)
		r.want("5m0s b scheduled", "5m0s c scheduled", "1h0m0s a scheduled", "1h5m0s b waiting 1", "1h5m0s c scheduled", "1h7m0s b scheduled")
	})
}

// A reload lets run what runs, and a job that comes back finds its old run in its way.
func TestReloadLeavesRunsAlone(t *testing.T) {
	inBubble(t, "*/10 * * * * a\n*/10 * * * * b\n", lasts(25*time.Minute), Config{}, func(r *rig) {
		r.after(11 * time.Minute)
		r.set("*/10 * * * * b\n")
		if st := r.state("a"); !st.Gone || len(st.Running) != 1 {
			t.Errorf("got %+v", st)
		}
		r.after(10 * time.Minute)
		r.set("*/10 * * * * a\n*/10 * * * * b\n")
		r.after(10 * time.Minute)
		r.want("10m0s a scheduled", "10m0s b scheduled", "20m0s b overlapped 1", "30m0s a overlapped 1", "30m0s b overlapped 1")
		r.set("")
		r.after(10 * time.Minute)
		if n := len(r.s.Snapshot()); n != 0 {
			t.Errorf("%d jobs known of an empty table", n)
		}
		if k, ok := r.saved["a"]; !ok || k != (SavedJob{}) {
			t.Errorf("saved %+v, want a to be forgotten", k)
		}
	})
}

func TestOffHere(t *testing.T) {
	tab := mustParse(t, "cron.yaml", `
environments: [prod-*]
cron:
- {name: all, schedule: '0 * * * *', command: x, environments: ['*']}
- {name: prod, schedule: '0 * * * *', command: x}
- {name: switch, schedule: '0 * * * *', command: x, environments: ['*'], enabled: '${CRON:-true}'}
- {name: unset, schedule: '0 * * * *', command: x, environments: ['*'], enabled: '${NOT_SET}'}
- {name: odd, schedule: '0 * * * *', command: x, environments: ['*'], enabled: '${SECRET}'}
- {name: off, schedule: '0 * * * *', command: x, environments: ['*'], enabled: false}
- {name: post, schedule: '0 * * * *', url: /x, environments: ['*']}
`)
	env := map[string]string{"CRON": "off", "SECRET": "planted-5c1e"}
	here := Host{Environment: "staging", Worker: true, Getenv: func(n string) (string, bool) { v, ok := env[n]; return v, ok }}
	for name, want := range map[string]string{
		"all": "", "prod": "environment is staging", "switch": "enabled: ${CRON:-true} is not true",
		"unset": "enabled: ${NOT_SET} is not true", "odd": "enabled: ${SECRET} is neither true nor false",
		"off": "enabled: false", "post": "on a worker tier Beanstalk's own daemon posts /x",
	} {
		j, _ := tab.Job(name)
		if got := j.OffReason(here); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	delete(env, "CRON")
	j, _ := tab.Job("switch")
	if got := j.OffReason(here); got != "" {
		t.Errorf("switch without CRON: %q, want it on", got)
	}
}

// The application's environment turns jobs on and off with the next SetTable, and a job
// turned on owes nothing of before.
func TestEnvironmentTurnsJobsOnAndOff(t *testing.T) {
	var on sync.Map
	cfg := Config{Host: func() Host {
		return Host{Getenv: func(name string) (string, bool) { _, ok := on.Load("x"); return fmt.Sprint(ok), name == "ON" }}
	}}
	file := "cron:\n- {name: a, schedule: '*/10 * * * *', command: x, enabled: '${ON}'}\n"
	inBubble(t, file, lasts(time.Second), cfg, func(r *rig) {
		r.after(35 * time.Minute)
		on.Store("x", true)
		r.set(file)
		r.after(10 * time.Minute)
		on.Delete("x")
		r.set(file)
		r.after(10 * time.Minute)
		r.want("40m0s a scheduled")
		if st := r.state("a"); st.Off == "" || !st.Next.IsZero() {
			t.Errorf("got %+v", st)
		}
	})
}

// An unknown condition decides nothing: a job that runs goes on to, and one that is off
// until then owes what passed. What is known and changes owes nothing.
func TestUnsureWhereThisIs(t *testing.T) {
	unread := func(variable string) func(string) Host {
		return func(name string) Host {
			return Host{Getenv: func(n string) (string, bool) { return name, n == variable && name != "" },
				Unread: func() bool { return name == "" }}
		}
	}
	for file, where := range map[string]func(string) Host{
		"cron:\n- {name: a, schedule: '*/10 * * * *', command: x, environments: [yes]}\n":  func(name string) Host { return Host{Environment: name} },
		"cron:\n- {name: a, schedule: '*/10 * * * *', command: x, enabled: '${PROD}'}\n":   unread("PROD"),
		"cron:\n- {name: a, schedule: '*/10 * * * *', command: x, process_types: 'yes'}\n": unread("PROCESS_TYPE"),
	} {
		var here atomic.Value
		cfg := Config{Host: func() Host { return where(here.Load().(string)) }, Saved: savedUpTo("*/10 * * * * UTC", 15*time.Minute)}
		turn := func(r *rig, name string) {
			here.Store(name)
			r.set(file)
		}
		here.Store("")
		inBubble(t, file, lasts(time.Second), cfg, func(r *rig) {
			r.after(5 * time.Minute)
			if st := r.state("a"); st.Off == "" {
				t.Error("it is on before it is known where this is")
			}
			turn(r, "yes")
			r.after(10 * time.Minute)
			r.want("5m0s a catch-up", "10m0s a scheduled")
			if f := r.starts[0]; f.Coalesced != 1 {
				t.Errorf("it stands for %d slots besides its own, want one", f.Coalesced)
			}
			turn(r, "")
			r.after(10 * time.Minute)
			r.want("20m0s a scheduled")
			turn(r, "no")
			turn(r, "")
			r.after(10 * time.Minute)
			turn(r, "yes")
			r.after(10 * time.Minute)
			r.want("40m0s a scheduled")
		})
	}
}

// Splay is a property of host and job: the same each time, below the limit, and spread.
func TestSplayIsStableAndSpread(t *testing.T) {
	var hits [10]int
	for i := range 1000 {
		j := Job{Name: fmt.Sprint("job-", i), Splay: 10 * time.Minute}
		d := time.Duration(splayFor("host-1", &j))
		if d != time.Duration(splayFor("host-1", &j)) || d < 0 || d >= j.Splay {
			t.Fatalf("%s: splay %v", j.Name, d)
		}
		hits[d/time.Minute]++
	}
	for minute, n := range hits {
		if n < 60 || n > 140 {
			t.Errorf("%d of 1000 jobs start in minute %d, want about 100", n, minute)
		}
	}
	file := "cron:\n- {name: a, schedule: '0 * * * *', command: x, splay: 30m}\n"
	for _, host := range []string{"h1", "h2"} {
		inBubble(t, file, lasts(time.Second), Config{HostName: host}, func(r *rig) {
			want := time.Hour + time.Duration(splayFor(host, &Job{Name: "a", Splay: 30 * time.Minute}))
			r.after(95 * time.Minute)
			r.want(want.String() + " a scheduled")
			if f := r.last("a"); !f.Due.Equal(midnight.Add(time.Hour)) {
				t.Errorf("the slot is %v, want it without splay", f.Due)
			}
		})
	}
}

func TestWhatIsRetried(t *testing.T) {
	for _, c := range []struct {
		name, keys string
		err        error
		starts     int
	}{
		{"failure", "retries: 2", errors.New("exit 1"), 3},
		{"elsewhere", "retries: 2", fmt.Errorf("claim: %w", ErrElsewhere), 1},
		{"lost", "retries: 2", fmt.Errorf("run 7: %w", ErrLost), 1},
		{"lost, to be retried", "retry_on_loss: true", ErrLost, 2},
		{"success", "retries: 2", nil, 1},
		{"panic", "retries: 1", errors.New("panic"), 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			run := func(context.Context, Firing) error {
				if c.name == "panic" {
					panic("a bug")
				}
				return c.err
			}
			file := "cron:\n- {name: a, schedule: '0 1 * * *', command: x, " + c.keys + "}\n"
			inBubble(t, file, run, Config{}, func(r *rig) {
				r.after(3 * time.Hour)
				st := r.state("a")
				if len(r.starts) != c.starts {
					t.Errorf("started %d times, want %d", len(r.starts), c.starts)
				}
				if c.name == "elsewhere" && (st.Counts.Elsewhere != 1 || st.Counts.Runs != 0) {
					t.Errorf("got %+v", st.Counts)
				}
				if c.name == "panic" && (st.Counts.Failed != 2 || !strings.Contains(st.Last.Err.Error(), "a bug")) {
					t.Errorf("got %+v", st)
				}
				if reported := slices.Contains(r.log, "1h0m0s a panicked 1"); reported != (c.name == "panic") {
					t.Errorf("reported %q", r.log)
				}
			})
		})
	}
}

// The next slot makes a fresh start of its own; a retry of the slot before would only
// double it.
func TestNextSlotDropsRetry(t *testing.T) {
	file := "cron:\n- {name: a, schedule: '*/10 * * * *', command: x, retries: 5, backoff: 4m}\n"
	fail := func(context.Context, Firing) error { return errors.New("exit 1") }
	inBubble(t, file, fail, Config{}, func(r *rig) {
		r.after(25 * time.Minute)
		r.want("10m0s a scheduled", "14m0s a retry", "20m0s a gave-up 1", "20m0s a scheduled", "24m0s a retry")
	})
}

// Also when the retry waits for room: the slot that takes its place is no second attempt.
func TestNextSlotDropsWaitingRetry(t *testing.T) {
	file := "cron:\n- {name: a, schedule: '*/10 * * * *', command: x, retries: 5, backoff: 4m}\n- {name: b, schedule: '11 * * * *', command: x}\n"
	run := func(_ context.Context, f Firing) error {
		if f.Job.Name == "b" {
			time.Sleep(10 * time.Minute)
			return nil
		}
		return errors.New("exit 1")
	}
	inBubble(t, file, run, Config{Limit: 1}, func(r *rig) {
		r.after(22 * time.Minute)
		r.want("10m0s a scheduled", "11m0s b scheduled", "14m0s a waiting 1", "20m0s a overdue 1", "20m0s a gave-up 1", "21m0s a scheduled")
		if f := r.last("a"); f.Attempt != 1 || !f.Due.Equal(midnight.Add(20*time.Minute)) {
			t.Errorf("attempt %d of %v", f.Attempt, f.Due)
		}
	})
}

func TestReplacedRunIsNoFailure(t *testing.T) {
	inBubble(t, overlapping("replace"), lasts(25*time.Minute), Config{}, func(r *rig) {
		r.after(21 * time.Minute)
		st := r.state("a")
		if st.Counts.Replaced != 1 || st.Counts.Failed != 0 || !errors.Is(st.Last.Err, ErrReplaced) {
			t.Errorf("got %+v, last %+v", st.Counts, st.Last)
		}
	})
}

// A run beyond its time limit, which the Runner should have ended, is reported once.
func TestOverdueIsToldOnce(t *testing.T) {
	file := "cron:\n- {name: a, schedule: '0 1 * * *', command: x, timeout: 10m}\n"
	inBubble(t, file, lasts(3*time.Hour), Config{}, func(r *rig) {
		r.after(4 * time.Hour)
		r.want("1h0m0s a scheduled", "1h16m0s a overdue 1")
	})
}

func TestRefusedSaveIsOfferedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reported []EventKind
		var offered []int
		s := New(Config{
			Runner:  lasts(0),
			OnEvent: func(e Event) { reported = append(reported, e.Kind) },
			Save: func(k map[string]SavedJob) error {
				offered = append(offered, len(k))
				if len(offered) < 4 {
					return errors.New("disk full")
				}
				return nil
			},
		})
		s.SetTable(mustParse(t, "crontab", "0 5 * * * a\n0 5 * * * b\n"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		s.Run(ctx)
		if fmt.Sprint(offered) != "[2 2 2 2]" || fmt.Sprint(reported) != "[save-failed]" {
			t.Errorf("offered %v, reported %v", offered, reported)
		}
	})
}

// From when the slots of a job are owed that a reload brings is kept before SetTable returns.
func TestReloadIsSavedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := map[string]SavedJob{}
		s := New(Config{Runner: lasts(0), Save: func(k map[string]SavedJob) error { maps.Copy(kept, k); return nil }})
		ctx, cancel := context.WithCancel(t.Context())
		go s.Run(ctx)
		time.Sleep(90 * time.Minute)
		s.SetTable(mustParse(t, "crontab", "0 5 * * * new\n"))
		if k := kept["new"]; !k.Last.Equal(time.Now()) {
			t.Errorf("kept %v of it, want that it began now", k)
		}
		cancel()
		synctest.Wait()
	})
}

// Whoever was told that a job is paused, or not any more, finds it so although the process is killed at once.
func TestPauseIsSavedBeforeItIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept, full := map[string]SavedJob{}, false
		s := New(Config{Runner: lasts(0), Save: func(k map[string]SavedJob) error {
			if full {
				return errors.New("no space left")
			}
			maps.Copy(kept, k)
			return nil
		}})
		s.SetTable(mustParse(t, "crontab", "*/10 * * * * a\n"))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.Run(ctx)
		synctest.Wait()
		s.Pause("a") // the loop saves at most once a second
		if err := s.Resume("a"); err != nil || !kept["a"].Paused.IsZero() {
			t.Errorf("resumed with %v, kept %+v", err, kept["a"])
		}
		if err := s.Pause("a"); err != nil || kept["a"].Paused.IsZero() {
			t.Errorf("paused with %v, kept %+v", err, kept["a"])
		}
		full = true
		if err := s.Resume("a"); err == nil || !strings.Contains(err.Error(), "a restart would undo it: no space left") {
			t.Errorf("resumed on a full disk with %v", err)
		}
	})
}

// A save writes a whole table: runs that begin one after the other share one.
func TestSavesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		saves := 0
		s := New(Config{
			Runner: runnerFunc(func(_ context.Context, f Firing) error {
				time.Sleep(time.Duration(f.Job.Line) * 100 * time.Millisecond)
				f.Begun()
				return nil
			}),
			Save: func(map[string]SavedJob) error { saves++; return nil },
		})
		s.SetTable(mustParse(t, "crontab", "@every 1s a\n@every 1s b\n@every 1s c\n"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s.Run(ctx)
		if saves < 50 || saves > 62 {
			t.Errorf("saved %d times in a minute, want once a second", saves)
		}
	})
}

// Everything at once, for the race detector and for deadlocks: what is started is ended,
// and nothing is left running.
func TestConcurrentUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		started, ended := 0, 0
		run := runnerFunc(func(ctx context.Context, f Firing) error {
			mu.Lock()
			started++
			mu.Unlock()
			err := lasts(time.Duration(rand.IntN(100))*time.Second)(ctx, f)
			mu.Lock()
			ended++
			mu.Unlock()
			return err
		})
		r := newRig(t, "", run, Config{Limit: 5, Grace: time.Second})
		policies := []string{"skip", "queue", "replace", "allow"}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 50 {
					time.Sleep(time.Duration(rand.IntN(60_000)) * time.Millisecond)
					job := fmt.Sprint("j", rand.IntN(8))
					switch rand.IntN(7) {
					case 0:
						file := "cron:\n"
						for i := range rand.IntN(8) + 1 {
							file += fmt.Sprintf("- {name: j%d, schedule: '* * * * *', command: x, overlap: %s, lock: l%d, retries: 1}\n", i, policies[rand.IntN(4)], i%4)
						}
						r.set(file)
					case 1:
						r.s.Pause(job)
					case 2:
						r.s.Resume(job)
					case 3:
						r.s.Trigger(job, false, run)
					case 4:
						r.s.Hold(time.Minute)
					case 5:
						r.s.Release()
					case 6:
						r.step.Store(int64(rand.IntN(20000)-10000) * int64(time.Second))
					}
					r.s.Snapshot()
				}
			})
		}
		wg.Wait()
		r.end()
		mu.Lock()
		defer mu.Unlock()
		if started != ended || started < 30 {
			t.Errorf("%d started, %d ended", started, ended)
		}
		for _, st := range r.s.Snapshot() {
			if len(st.Running) > 0 {
				t.Errorf("%s still runs", st.Job.Name)
			}
		}
		if s := r.s; s.running != 0 || len(s.locks) != 0 || len(s.busy) > len(s.entries) {
			t.Errorf("%d running, locks %v, %d busy", s.running, s.locks, len(s.busy))
		}
	})
}
