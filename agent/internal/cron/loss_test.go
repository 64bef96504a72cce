package cron

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/notify"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/versity"
	"beanstalk-agent/scheduler"
)

// late is a store whose clock can be put forward.
func late(t *testing.T, target string, ahead *atomic.Int64) string {
	t.Helper()
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		out, _ := http.NewRequestWithContext(r.Context(), r.Method, target+r.URL.RequestURI(), bytes.NewReader(body))
		out.Header, out.Host = r.Header.Clone(), r.Host // the host is part of the signature
		resp, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer resp.Body.Close()
		for k, v := range resp.Header {
			w.Header()[k] = v
		}
		w.Header().Set("Date", time.Now().Add(time.Duration(ahead.Load())).UTC().Format(http.TimeFormat))
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body)
	}))
	t.Cleanup(h.Close)
	return h.URL
}

// An instance is gone in the middle of a run. Once its lease is over, exactly one of the others reports it; a job that
// says so runs again, once.
func TestRunOfADeadInstanceIsReportedOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	var ahead atomic.Int64
	store, file := late(t, versity.Start(t, "bucket")[0], &ahead), filepath.Join(t.TempDir(), "runs")
	table := "cron:\n"
	for _, policy := range []string{"report", "rerun"} { // once, in two seconds; and then in a year
		at := time.Now().Add(4 * time.Second).UTC()
		table += fmt.Sprintf("- {name: %s, schedule: '%s', seconds: true, on_owner_loss: %[1]s, command: %[3]s}\n", policy,
			at.Format("5 4 15 2 1 *"), writes(file, policy, 300))
	}
	var all []*agentIn
	for i := range 3 {
		all = append(all, startAgent(t, store, "prod", fmt.Sprintf("i-%017d", i), "", table))
	}
	until(t, "both run", func() bool { return len(intervals(t, file)) == 2 })
	s, err := all[0].fleet.open()
	if err != nil {
		t.Fatal(err)
	}
	dead := map[string]bool{}
	for _, job := range []string{"report", "rerun"} {
		r, err := s.Read(t.Context(), job)
		if err != nil || len(r.Runs) != 1 {
			t.Fatalf("%s: %+v, %v", job, r, err)
		}
		dead[r.Runs[0].Owner] = true
	}
	var others []*agentIn
	for _, a := range all {
		if dead[a.cfg.App.Name()] {
			a.stop()
			for _, h := range a.hands.all {
				h.cmd.Process.Kill()
			}
		} else {
			others = append(others, a)
		}
	}
	others = append(others, startAgent(t, store, "prod", "i-00000000000000009", "", table)) // that comes in its place
	ahead.Store(int64(10 * time.Minute))
	look := func() {
		var at sync.WaitGroup
		for _, a := range others {
			for _, j := range a.watcher.State().Table.Jobs {
				at.Go(func() { a.fleet.losses.look(t.Context(), j, a.rerun) })
			}
		}
		at.Wait()
	}
	look() // all at once; none waits for its own look, in ten minutes
	count := func(text string) (n int) {
		for _, a := range others {
			n += strings.Count(a.log.String(), text)
		}
		return n
	}
	until(t, "both are reported, and one runs again", func() bool {
		return count(`"a run was lost with its instance" job=report`) > 0 && count(`"a run was lost with its instance" job=rerun`) > 0 &&
			len(intervals(t, file)) == 3
	})
	look() // for a second report, or a third run
	if a, b := count(`"a run was lost with its instance" job=report`), count(`"a run was lost with its instance" job=rerun`); a != 1 || b != 1 {
		t.Errorf("reported %d times and %d times", a, b)
	}
	if list := intervals(t, file); len(list) != 3 || list[2].job != "rerun" || list[2].slot != slotOf(list, "rerun") {
		t.Errorf("ran %+v", list)
	}
	r, err := s.Read(t.Context(), "rerun")
	if err != nil || len(r.Runs) != 1 || !dead[r.Runs[0].TakenFrom] || r.Runs[0].Attempt != 2 {
		t.Errorf("the register says %+v, %v", r.Runs, err)
	}
	h, err := others[0].History(t.Context(), "report")
	if err != nil || len(h.Runs) != 1 || !strings.HasPrefix(h.Runs[0].Outcome, "lost: no word from ") || !dead[h.Runs[0].Host] {
		t.Errorf("the history says %+v, %v", h, err)
	}
}

func slotOf(list []interval, job string) string {
	for _, i := range list {
		if i.job == job {
			return i.slot
		}
	}
	return ""
}

// A lock of the environment keeps jobs of two instances apart, and who waits says for whom.
func TestLockOfTheEnvironment(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	store, file := versity.Start(t, "bucket"), filepath.Join(t.TempDir(), "runs")
	job := func(name string) string {
		return fmt.Sprintf("cron:\n- {name: %s, schedule: '*/2 * * * * *', seconds: true, on: all, lock: db, lock_scope: environment, command: %s}\n",
			name, writes(file, "either", 3))
	}
	a := startAgent(t, store[0], "prod", "i-00000000000000001", "", job("a"))
	b := startAgent(t, store[1], "prod", "i-00000000000000002", "", job("b"))
	said := false
	slots := func() int {
		for _, x := range []*agentIn{a, b} {
			for _, s := range x.sched.Snapshot() {
				said = said || len(s.Running) > 0 && strings.Contains(s.Running[0].Waits, "the lock db of the environment, which i-")
			}
		}
		return len(intervals(t, file))
	}
	until(t, "four have run", func() bool { return slots() >= 4 })
	list := intervals(t, file)
	for i, x := range list {
		for _, y := range list[i+1:] {
			if x.start < y.end && y.start < x.end {
				t.Errorf("at once: %+v and %+v", x, y)
			}
		}
	}
	if !said {
		t.Error("none said that it waits for the lock")
	}
}

// Output is in the register where the configuration says so, and nowhere else: it may hold secrets.
func TestOutputIsSharedOnlyOnRequest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out")
	put(t, file, "line\nsecret\n")
	for _, share := range []bool{false, true} {
		c := newCron(t, io.Discard, func(cfg *Config) { cfg.ShareOutput = share })
		got := make(chan outcome, 1)
		c.fleet.outcomes = newOutcomes(func(_ context.Context, o outcome) { got <- o }, c.log)
		f := firing(t, func(*scheduler.Job) {})
		c.noteEnd(t.Context(), f, nil, "exit 1", &runError{runs.Run{ExitCode: 1, Output: file, OutputBytes: 12}})
		if o := <-got; (o.Output == "line\nsecret\n") != share || o.Outcome != "exit 1" {
			t.Errorf("share_output %v: %+v", share, o)
		}
	}
}

// An interrupted slot that may run again does, or one instance reports it as missed: because it is old, has been run
// again before, is of a paused job, or is followed by a later one. Where another run is in the way, it is looked at
// again.
func TestAnInterruptedSlotRunsAgainOrIsMissed(t *testing.T) {
	t.Parallel()
	const other = "i-0fedcba9876543210"
	for name, c := range map[string]struct {
		age   time.Duration
		first func(*testing.T, *fleet, scheduler.Firing) // what else happens
		again bool                                       // a run is started
		says  string                                     // why it is missed
	}{
		"it is recent":           {again: true},
		"it is old":              {age: 2 * time.Hour, says: "it is older than catch_up allows"},
		"it has been run again":  {first: interruptAgain, says: "it has been run again once"},
		"the job is paused":      {first: pauseJob, again: true, says: "the job is paused"},
		"a later slot has begun": {first: claimLater, says: "a later slot has come due"},
		"a manual run is there":  {first: claimManually, again: true},
	} {
		store, missed, looks := versity.Careless(t), []string{}, 0
		owner, b := fleetAt(t, store, other), fleetAt(t, store, "i-0123456789abcdef0")
		for _, x := range []*fleet{owner, b} {
			x.losses.missed = func(_ string, _ claim.Run, why string) { missed = append(missed, why) }
		}
		f := firing(t, func(j *scheduler.Job) { j.OnOwnerLoss = scheduler.OwnerLossRerun })
		f.Due = f.Due.Add(-c.age)
		if _, err := owner.claim(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		write(owner, f, "interrupted: shutdown")
		if c.first != nil {
			c.first(t, b, f)
		}
		reruns := 0
		for _, x := range []*fleet{owner, b, owner} {
			x.losses.look(t.Context(), f.Job, func(j scheduler.Job, r claim.Run) {
				reruns++
				delete(b.losses.looks, j.Name)
				lost := scheduler.Firing{Job: j, Due: r.Slot, Attempt: 2}
				if h, _, err := b.takeOver(t.Context(), lost); (err == nil) != (name == "it is recent") || (h == nil) != (err != nil) {
					t.Errorf("%s: taken over with %v, %v", name, h, err)
				}
				looks += len(b.losses.looks)
			})
		}
		if (reruns > 0) != c.again || strings.Join(missed, ", ") != c.says || (looks > 0) != (name == "a manual run is there") {
			t.Errorf("%s: %d reruns, missed %q, %d looks", name, reruns, missed, looks)
		}
	}
}

func interruptAgain(t *testing.T, b *fleet, f scheduler.Firing) {
	f.Attempt = 2
	_, attempt, err := b.takeOver(t.Context(), f)
	if f.Attempt = attempt; err != nil {
		t.Fatal(err)
	}
	write(b, f, "interrupted: shutdown")
}

func pauseJob(t *testing.T, b *fleet, f scheduler.Firing) {
	s, err := b.open()
	if err == nil {
		err = s.SetPause(t.Context(), f.Job.Name, &claim.Pause{By: "ops"})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func claimLater(t *testing.T, b *fleet, f scheduler.Firing) {
	f.Due = f.Due.Add(time.Second)
	if _, err := b.claim(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func claimManually(t *testing.T, b *fleet, f scheduler.Firing) {
	f.Reason = scheduler.Manual
	if _, err := b.claimManual(t.Context(), f, false); err != nil {
		t.Fatal(err)
	}
}

// A further attempt that another instance makes, or that is not made since the job is paused, is no failure of its own:
// it is said what happened to the one before.
func TestARetryThatIsNotMadeHere(t *testing.T) {
	t.Parallel()
	const own = "i-0123456789abcdef0"
	store := versity.Start(t, "bucket")[0]
	for name, c := range map[string]struct {
		outcome string
		first   func(*testing.T, *fleet, scheduler.Firing)
		by      string // who ended the attempt before
		notice  string
	}{
		"taken over":                     {"interrupted: lease not renewed", takeItOver, runs.StoppedLease, ""},
		"paused":                         {"exit 1", pauseJob, "", "failed: failed, and is not tried again: ops has paused the job since "},
		"paused, and it was interrupted": {"interrupted: shutdown", pauseJob, runs.StoppedShutdown, "missed: interrupted: shutdown, and is not tried again: ops has paused the job since "},
		"a later slot is run":            {"exit 1", claimLater, "", "failed: failed, and is not tried again: i-0fedcba9876543210 runs it since "},
	} {
		got := make(chan string, 10)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var e struct{ Kind, Reason string }
			json.NewDecoder(r.Body).Decode(&e)
			got <- e.Kind + ": " + e.Reason
		}))
		t.Cleanup(server.Close)
		p := newCron(t, io.Discard, func(cfg *Config) {
			cfg.Notify = []notify.Target{{Type: notify.Webhook, Name: "ops", URL: server.URL}}
		})
		p.fleet = fleetAt(t, store, own)
		f := firing(t, func(j *scheduler.Job) {
			j.Name, j.Retries, j.RetryOnLoss = strings.Fields(name)[0]+strconv.Itoa(len(name)), 1, true
		})
		if _, err := p.fleet.claim(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		write(p.fleet, f, c.outcome)
		p.cfg.Runs = oneRun{id: runs.SlotID(f.Job.Name, f.Due, 1), run: runs.Run{State: runs.StateExited, ExitCode: 1, StoppedBy: c.by}}
		c.first(t, fleetAt(t, store, "i-0fedcba9876543210"), f)
		f.Attempt, f.Reason, f.Begun = 2, scheduler.Retry, func() { t.Errorf("%s: it began", name) }
		if err := p.fire(t.Context(), f); !errors.Is(err, scheduler.ErrElsewhere) {
			t.Errorf("%s: %v", name, err)
		}
		p.notices.send(notify.Event{Job: "other", Kind: notify.Failed, At: time.Now(), Reason: "the end"})
		ctx, stop := context.WithCancel(t.Context())
		go p.SendNotices(ctx)
		first := <-got
		if want := cmp.Or(c.notice, "failed: the end"); !strings.HasPrefix(first, want) {
			t.Errorf("%s: notified of %q, want %q", name, first, want)
		}
		stop()
	}
}

func takeItOver(t *testing.T, b *fleet, f scheduler.Firing) {
	f.Attempt = 2
	if _, _, err := b.takeOver(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

// What would wait here is not claimed for that: a lost slot does not run again in the middle of a deployment, past the
// limit, or of a job that is paused here. It is looked at again.
func TestLostSlotIsNotRunAgainWhereItWouldWait(t *testing.T) {
	for name, prepare := range map[string]func(*Cron) error{
		"":       func(*Cron) error { return nil },
		"held":   func(c *Cron) error { c.Hold(time.Hour); return nil },
		"paused": func(c *Cron) error { return c.sched.Pause("job") },
		"full": func(c *Cron) error {
			busy := func(ctx context.Context, _ scheduler.Firing) error { <-ctx.Done(); return context.Cause(ctx) }
			return c.sched.Trigger("other", false, busy)
		},
		"locked": func(c *Cron) error {
			busy := func(ctx context.Context, _ scheduler.Firing) error { <-ctx.Done(); return context.Cause(ctx) }
			return c.sched.Trigger("same", false, busy)
		},
		"gone": func(c *Cron) error {
			put(t, filepath.Join(c.watcher.Dir, "cron.yaml"), "cron:\n- {name: other, schedule: '*/5 * * * *', command: x}\n")
			c.watcher.Reload()
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCron(t, io.Discard, func(cfg *Config) {
				if cfg.Limit = 100; name == "full" {
					cfg.Limit = 1
				}
			})
			running(t, c, "cron:\n- {name: job, schedule: '*/5 * * * *', lock: db, command: x}\n"+
				"- {name: same, schedule: '*/5 * * * *', lock: db, command: x}\n- {name: other, schedule: '*/5 * * * *', command: x}\n")
			job, _ := c.jobNamed("job")
			job.OnOwnerLoss = scheduler.OwnerLossRerun // not in the file: it would be looked at from the start
			if err := prepare(c); err != nil {
				t.Fatal(err)
			}
			c.rerun(job, claim.Run{Slot: time.Now(), Attempt: 1, Owner: "i-1"})
			if waits := len(c.fleet.losses.planned()) > 0; waits != (name != "") {
				t.Errorf("planned %v", c.fleet.losses.planned())
			}
		})
	}
}

func (c *losses) planned() map[string]look {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.looks)
}
