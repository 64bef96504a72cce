package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var midnight = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // when a bubble begins

// savedUpTo is what the previous process saved about the jobs a and b, some time ago.
func savedUpTo(spec string, ago time.Duration) map[string]SavedJob {
	k := SavedJob{ScheduleKey: spec, Last: midnight.Add(-ago)}
	return map[string]SavedJob{"a": k, "b": k}
}

// A slot that passed while the agent was down runs once, and says what it stands for.
func TestDownTimeIsCaughtUpOnce(t *testing.T) {
	cfg := Config{Saved: savedUpTo("*/10 * * * * UTC", 45*time.Minute)}
	inBubble(t, "*/10 * * * * a\n", lasts(time.Second), cfg, func(r *rig) {
		r.after(9 * time.Minute)
		r.want("0s a catch-up")
		f := r.starts[0]
		if f.Coalesced != 4 || !f.Due.Equal(midnight) || !strings.Contains(f.Why, "5 slots") || !strings.Contains(f.Why, notRunning) {
			t.Errorf("got due %v, %d coalesced, why %q", f.Due, f.Coalesced, f.Why)
		}
		if k := r.saved["a"]; !k.Last.Equal(midnight) {
			t.Errorf("saved %v as done, want %v", k.Last, midnight)
		}
	})
}

// What is older than catch_up is counted and reported, not run.
func TestTooOldIsToldAsMissed(t *testing.T) {
	file := "cron:\n- {name: a, schedule: '30 * * * *', command: x, catch_up: 20m}\n- {name: b, schedule: '30 * * * *', command: x, catch_up: false}\n"
	cfg := Config{Saved: savedUpTo("30 * * * * UTC", 2*time.Hour)}
	inBubble(t, file, lasts(time.Second), cfg, func(r *rig) {
		r.after(time.Minute)
		r.want("0s a missed 2", "0s b missed 2")
		for _, job := range []string{"a", "b"} {
			if c := r.state(job).Counts; c.Missed != 2 || !c.LastMissed.Equal(midnight.Add(-30*time.Minute)) || c.Overlapped != 0 {
				t.Errorf("%s: got %+v", job, c)
			}
			if k := r.saved[job]; !k.Last.Equal(midnight.Add(-30 * time.Minute)) {
				t.Errorf("%s: saved %v as done", job, k.Last)
			}
		}
	})
}

// A start less than a minute late is on time even where nothing is caught up.
func TestLateByLessThanAMinuteIsOnTime(t *testing.T) {
	file := "cron:\n- {name: a, schedule: '0 * * * *', command: x, catch_up: false}\n"
	cfg := Config{Saved: savedUpTo("0 * * * * UTC", time.Minute)}
	inBubble(t, file, lasts(time.Second), cfg, func(r *rig) { r.want("0s a scheduled") })

	// Those before it are missed, and it is not one of them, however many they are.
	for _, hours := range []int{3, 3000} {
		cfg.Saved = savedUpTo("0 * * * * UTC", time.Duration(hours)*time.Hour)
		inBubble(t, file, lasts(time.Second), cfg, func(r *rig) {
			r.want("0s a scheduled", fmt.Sprintf("0s a missed %d", min(hours-1, 1000)))
			if c := r.state("a").Counts; !c.LastMissed.Equal(midnight.Add(-time.Hour)) {
				t.Errorf("%d hours: the last missed is %v", hours, c.LastMissed)
			}
		})
	}
}

// Nothing is owed of the time before a job was first seen, or had its schedule.
func TestNewScheduleOwesNothing(t *testing.T) {
	cfg := Config{Saved: savedUpTo("*/5 * * * * UTC", 45*time.Minute)}
	inBubble(t, "*/10 * * * * a\n*/10 * * * * c\n", lasts(time.Second), cfg, func(r *rig) {
		r.after(15 * time.Minute)
		r.want("0s a dropped 0", "10m0s a scheduled", "10m0s c scheduled")
		r.s.Hold(time.Hour)
		r.after(10 * time.Minute) // 20m is owed to both
		r.set("*/10 * * * * a\n*/4 * * * * c\n")
		r.s.Release()
		r.after(4 * time.Minute)
		r.want("25m0s a catch-up", "25m0s c missed 1", "28m0s c scheduled")
	})
}

// A slot that came while starts were held and that is not started after all is reported:
// the deployment that held it may have changed its job, or taken it out.
func TestHeldSlotsThatWillNotRunAreTold(t *testing.T) {
	file := "cron:\n- {name: a, schedule: '*/10 * * * *', command: x, enabled: '${ON}'}\n"
	var off atomic.Bool
	cfg := Config{Host: func() Host {
		return Host{Getenv: func(name string) (string, bool) { return fmt.Sprint(!off.Load()), name != "PROCESS_TYPE" }}
	}}
	for name, do := range map[string]func(*rig){
		"paused":      func(r *rig) { r.s.Pause("a") },
		"removed":     func(r *rig) { r.set("") },
		"rescheduled": func(r *rig) { r.set("*/7 * * * * a\n") },
		"off here":    func(r *rig) { off.Store(true); r.set(file) },
	} {
		t.Run(name, func(t *testing.T) {
			off.Store(false)
			inBubble(t, file, lasts(time.Second), cfg, func(r *rig) {
				r.after(time.Minute)
				r.s.Hold(time.Hour)
				r.after(24 * time.Minute)
				do(r)
				do(r)
				r.s.Release()
				r.after(time.Minute)
				r.want("25m0s a missed 2")
			})
		})
	}
}

// "Still running" is not "missed": an hour of skipped slots is counted as overlaps, and
// the next free slot is on time.
func TestStillRunningIsNotMissed(t *testing.T) {
	inBubble(t, "* * * * * a\n", lasts(60*time.Minute+30*time.Second), Config{}, func(r *rig) {
		r.after(60*time.Minute + time.Second) // the run began at 1m
		c := r.state("a").Counts
		if c.Overlapped != 59 || c.Missed != 0 || !c.Since.Equal(midnight.Add(2*time.Minute)) {
			t.Errorf("got %+v", c)
		}
		r.after(2 * time.Minute)
		if st := r.state("a"); !st.Counts.Since.IsZero() || len(r.starts) != 2 || r.starts[1].Reason != Scheduled {
			t.Errorf("got %+v", st.Counts)
		}
	})
}

// A machine that sleeps for a night wakes to one run a job, whatever it slept through.
func TestSuspendRunsEachJobOnce(t *testing.T) {
	file := "cron:\n- {name: a, schedule: '* * * * *', command: x}\n- {name: b, schedule: '0 3 * * *', command: x, catch_up: 12h}\n- {name: c, schedule: '0 3 * * *', command: x}\n"
	inBubble(t, file, lasts(time.Second), Config{}, func(r *rig) {
		r.after(30 * time.Second)
		r.step.Store(int64(8 * time.Hour))
		r.after(30 * time.Second)
		r.want("1m0s clock-step 0", "1m0s b catch-up", "1m0s c missed 1", "1m0s a catch-up")
		if f := r.last("a"); f.Coalesced != 480 || !strings.Contains(f.Why, "clock went forward by 8h0m0s") {
			t.Errorf("got %d coalesced, why %q", f.Coalesced, f.Why)
		}
	})
}

// After a year away the loop is not stuck in counting, and the count says where it ended.
func TestAYearAwayIsOneRun(t *testing.T) {
	cfg := Config{Saved: map[string]SavedJob{"a": {ScheduleKey: "seconds * * 1-5 * * * UTC", Last: midnight.AddDate(-1, 0, 0)}}}
	file := "cron:\n- {name: a, schedule: '* * 1-5 * * *', seconds: true, command: x, catch_up: true}\n"
	inBubble(t, file, lasts(time.Second), cfg, func(r *rig) {
		r.want("0s a catch-up")
		if f := r.starts[0]; !f.Due.Equal(midnight.Add(-18*time.Hour-time.Second)) || f.Coalesced != 1000 {
			t.Errorf("got due %v, %d coalesced", f.Due, f.Coalesced)
		}
	})
}

// A slot that has run does not run again when the clock goes back over it; a job that
// follows elapsed time is not silent for long; and a clock that was far wrong is believed
// when it is set right.
func TestClockGoesBack(t *testing.T) {
	file := "30 1 * * * daily\n0 * * * * hourly\n* * * * * minutely\n"
	only := func(r *rig, job string) (n int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, f := range r.starts {
			if f.Job.Name == job {
				n++
			}
		}
		r.log = nil
		return n
	}
	for _, c := range []struct {
		back                    time.Duration
		daily, hourly, minutely int // runs until the wall shows 02:00 again, and an hour more
	}{
		{2 * time.Minute, 1, 3, 180},  // waits: as if nothing had been
		{2 * time.Hour, 1, 5, 299},    // elapsed time goes on, a wall clock time ran already
		{25 * time.Hour, 3, 28, 1679}, // a day is lived twice
	} {
		t.Run(c.back.String(), func(t *testing.T) {
			inBubble(t, file, lasts(time.Second), Config{}, func(r *rig) {
				r.after(2*time.Hour + 30*time.Second)
				r.step.Store(int64(-c.back))
				r.after(c.back + time.Hour)
				if d, h, m := only(r, "daily"), only(r, "hourly"), only(r, "minutely"); d != c.daily || h != c.hourly || m != c.minutely {
					t.Errorf("ran %d, %d and %d times, want %d, %d and %d", d, h, m, c.daily, c.hourly, c.minutely)
				}
			})
		})
	}
}

// A run that is only about to start, waiting for a claim or a lock, is not on record
// anywhere: whatever ends the process then, the next process owes the slot. From the moment
// it is recorded, and when it turned out not to start, nothing is owed.
func TestASlotIsOwedUntilItsRunIsRecorded(t *testing.T) {
	for name, c := range map[string]struct {
		then runnerFunc // after 35 minutes
		want time.Time
	}{
		"stopped before": {lasts(time.Hour), midnight},
		"recorded":       {lasts(time.Hour), midnight.Add(time.Hour)},
		"refused":        {func(context.Context, Firing) error { return errors.New("no such directory") }, midnight.Add(time.Hour)},
	} {
		run := func(ctx context.Context, f Firing) error {
			select {
			case <-time.After(35 * time.Minute):
				return c.then(ctx, f)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		t.Run(name, func(t *testing.T) {
			inBubble(t, "0 * * * * a\n", run, Config{}, func(r *rig) {
				check := func(when string, want time.Time) {
					t.Helper()
					synctest.Wait()
					r.mu.Lock()
					defer r.mu.Unlock()
					if got := r.saved["a"].Last; !got.Equal(want) {
						t.Errorf("%s: done up to %v, want %v", when, got, want)
					}
				}
				r.after(90 * time.Minute)
				check("before the run is recorded", midnight)
				if name != "stopped before" {
					r.after(10 * time.Minute)
					check("after", c.want)
				}
				r.end()
				check("in the next process", c.want)
				if reported := slices.Contains(r.log, "1h30m0s a owed 1"); reported != (name == "stopped before") {
					t.Errorf("reported %v", r.log)
				}
			})
		})
	}
}

// A job that nothing is known of begins now. Where that is must be on record before its
// first slot comes, however slow the disk: killed then, the next process would begin anew.
func TestWhereAJobBeginsIsSavedBeforeItStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var saved atomic.Bool
		started := make(chan bool, 100)
		s := New(Config{
			Save: func(map[string]SavedJob) error { time.Sleep(90 * time.Second); saved.Store(true); return nil },
			Runner: runnerFunc(func(_ context.Context, f Firing) error {
				f.Begun()
				started <- saved.Load()
				return nil
			}),
		})
		s.SetTable(mustParse(t, "crontab", "* * * * * a\n"))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		if !<-started {
			t.Error("it started, and nothing is saved")
		}
		cancel()
		<-done
	})
}

// An event is delivered before it is saved as done: killed in between, the next process
// delivers it again; in the other order it would be lost.
func TestToldBeforeSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reported := false
		s := New(Config{Runner: lasts(time.Hour), Saved: savedUpTo("30 * * * * UTC", 3*time.Hour),
			OnEvent: func(Event) { time.Sleep(10 * time.Second); reported = true },
			Save: func(k map[string]SavedJob) error {
				if len(k) > 0 && !reported {
					t.Errorf("saved %v first", k)
				}
				return nil
			}})
		s.SetTable(mustParse(t, "cron.yaml", "cron:\n- {name: a, schedule: '30 * * * *', command: x, catch_up: false}\n"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s.Run(ctx)
	})
}

// What waited when the agent stopped is still owed, and the next process runs it.
func TestWaitingStartsSurviveARestart(t *testing.T) {
	var kept map[string]SavedJob
	file := "0 * * * * a\n0 * * * * b\n"
	inBubble(t, file, lasts(3*time.Hour), Config{Limit: 1}, func(r *rig) {
		r.after(90 * time.Minute)
		r.want("1h0m0s b waiting 1", "1h0m0s a scheduled", "1h6m0s b overdue 1")
		r.s.Hold(time.Hour)
		r.after(45 * time.Minute) // two o'clock is held
		r.end()
		r.want("2h15m0s a owed 1", "2h15m0s b owed 2")
		r.mu.Lock()
		kept = r.saved
		r.mu.Unlock()
	})
	if a, b := kept["a"].Last, kept["b"].Last; !a.Equal(midnight.Add(time.Hour)) || !b.Equal(midnight) {
		t.Errorf("done: a %v, b %v; b has not run at one o'clock", a, b)
	}
	for name, k := range kept { // the second process's bubble begins at midnight too
		k.Last = k.Last.Add(-135 * time.Minute)
		kept[name] = k
	}
	inBubble(t, file, lasts(time.Second), Config{Saved: kept}, func(r *rig) {
		r.want("0s a catch-up", "0s b catch-up")
	})
}
