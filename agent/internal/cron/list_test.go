package cron

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/notify"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/versity"
	"beanstalk-agent/scheduler"
)

// One list asks S3 a bounded number of requests, a few at a time, and gives the number of jobs that it has not asked
// for. Beyond the hundredth job nothing was asked and nothing was said.
func TestListSaysWhatItLeavesOut(t *testing.T) {
	t.Parallel()
	var asked, now, most atomic.Int64
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(5 * time.Millisecond)
		if asked.Add(1)%10 == 0 {
			http.Error(w, "", http.StatusBadRequest)
			return
		}
		w.Header().Set("Etag", `"1"`)
		fmt.Fprint(w, `{"version": 1, "runs": [{"slot": "2026-11-22T01:00:00Z", "owner": "i-1", "nonce": "n"}]}`)
	}))
	defer store.Close()
	c := fleetAt(t, store.URL, "")
	jobs := make([]*api.CronJob, 250)
	for i := range jobs {
		jobs[i] = &api.CronJob{Name: fmt.Sprint("job", i)}
	}
	unread, _ := c.fillLast(t.Context(), jobs)
	filled := 0
	for _, j := range jobs {
		if j.Host == "i-1" && j.Last != nil && j.Result == "started, not ended" {
			filled++
		}
	}
	if asked.Load() != listReads || filled != 90 || unread != 160 || most.Load() > listReaders {
		t.Errorf("%d asked, %d at a time, %d filled, %d unread", asked.Load(), most.Load(), filled, unread)
	}
	if n, _ := fleetAt(t, "http://127.0.0.1:9", "").fillLast(t.Context(), jobs[:3]); n != 3 {
		t.Errorf("of a store that does not answer %d are unread", n)
	}
}

// A register of the future, as whoever may write the bucket can put there: no slot is left to it without a word, no
// list shows it, and the status names who it says has them.
func TestRegisterOfTheFuture(t *testing.T) {
	t.Parallel()
	var register atomic.Pointer[string]
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"1"`)
		fmt.Fprint(w, *register.Load())
	}))
	defer store.Close()
	write := func(first time.Time, n int, claimed time.Time) {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(`{"slot":%q,"owner":"i-somebody","nonce":"n","claimed":%q}`,
				first.Add(-time.Duration(i)*time.Second).Format(time.RFC3339), claimed.Format(time.RFC3339)))
		}
		text := `{"version":1,"runs":[` + strings.Join(all, ",") + `]}`
		register.Store(&text)
	}
	for name, forge := range map[string]func(due time.Time){
		"slots":  func(due time.Time) { write(due.Add(10*time.Minute), 300, due) },
		"claims": func(due time.Time) { write(due, 1, due.Add(time.Hour)) },
		"years":  func(due time.Time) { write(due.AddDate(10, 0, 0), 1, due) },
	} {
		for _, run := range []bool{false, true} {
			c := fleetAt(t, store.URL, "")
			f := firing(t, func(j *scheduler.Job) {
				if run {
					j.OnClaimError = scheduler.ClaimErrorRun
				}
			})
			forge(f.Due)
			_, err := c.claim(t.Context(), f)
			if run != (err == nil) || !run && (!isUnclaimed(err) || !errors.Is(err, claim.ErrMisconfigured)) {
				t.Errorf("%s, run on error %v: got %v", name, run, err)
			}
			if text := c.status()[0].Text; c.status()[0].State != api.Bad || !strings.Contains(text, `"i-somebody"`) {
				t.Errorf("%s: status says %+v", name, c.status())
			}
			job := api.CronJob{Name: "job"}
			if _, err := c.fillLast(t.Context(), []*api.CronJob{&job}); job.Last != nil || err == nil {
				t.Errorf("%s: the list shows %v, %v", name, job.Last, err)
			}
		}
	}
}

// What looks like another instance's claim is left to it, and said: it may be nobody's.
func TestOwnersOfSlotsLeftToThemAreLogged(t *testing.T) {
	var said bytes.Buffer
	c := &fleet{left: map[string]time.Time{}, log: slog.New(slog.NewTextHandler(&said, nil))}
	for i := range 1000 {
		c.noteLeft(scheduler.Firing{}, "i-1")
		c.noteLeft(scheduler.Firing{}, strings.Repeat("x", 64<<10)+fmt.Sprint(i))
		c.noteLeft(scheduler.Firing{}, fmt.Sprint("i-", i))
	}
	if n := strings.Count(said.String(), "\n"); n != maxOwners || strings.Count(said.String(), "owner=i-1 ") != 1 {
		t.Errorf("%d lines, want %d", n, maxOwners)
	}
	c.left["i-1"] = time.Now().Add(-ownerPause)
	c.noteLeft(scheduler.Firing{}, "i-1")
	if strings.Count(said.String(), "owner=i-1 ") != 2 {
		t.Error("not said again after an hour")
	}
}

// The register may not have the outcome of this process's last run yet. Then an older one is not the run before.
func TestRunBeforeIsNotOlderThanOurOwn(t *testing.T) {
	at := func(n int64) time.Time { return time.Unix(n, 0) }
	c := &fleet{jobs: map[string]*fleetJob{}}
	other := claim.Run{Slot: at(10), Owner: "other", Outcome: runs.Good, Finished: at(11)}
	c.noteBefore("job", other)
	if got := c.outcomeBefore("job"); got != notify.Succeeded {
		t.Errorf("before any run of ours: %q", got)
	}
	c.job("job").ended = at(20)
	c.noteBefore("job", other)
	if got := c.outcomeBefore("job"); got != "" {
		t.Errorf("after a run of ours: %q", got)
	}
}

// A reference gives thousands of names to each of many jobs: list said each of them anew, half a million lines.
func TestUnknownTargetsAreListedOnce(t *testing.T) {
	var table scheduler.Table
	names := slices.Repeat([]string{"a"}, 3900)
	for i := range 100 {
		table.Jobs = append(table.Jobs, scheduler.Job{Name: fmt.Sprint("j", i), Line: i + 1, Notify: names})
	}
	if got := (&notices{}).unknown(table); len(got) != 1 || !strings.Contains(got[0], `line 1: job j0: notify names "a"`) {
		t.Errorf("%d lines, first %.100v", len(got), got)
	}
	for i := range names {
		names[i] = fmt.Sprint(i, strings.Repeat("x", 60_000))
	}
	if got := (&notices{}).unknown(table); len(got) != maxUnknown+1 || len(strings.Join(got, "")) > 300*len(got) {
		t.Errorf("%d lines, %d bytes", len(got), len(strings.Join(got, "")))
	}
}

// A pause on all instances is in the register alone; the times of the job that no instance will run say so.
func TestNextKnowsAPauseOnAllInstances(t *testing.T) {
	c := newCron(t, io.Discard, nil)
	c.fleet = fleetAt(t, versity.Careless(t), "i-0123456789abcdef0")
	running(t, c, "cron:\n- {name: job, schedule: '@yearly', command: x}\n- {name: other, schedule: '@yearly', command: x}\n")
	pauseJob(t, c.fleet, firing(t, func(*scheduler.Job) {}))
	list, err := c.Next(t.Context(), time.Now(), 2, "")
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, o := range list {
		if strings.HasPrefix(o.Note, "paused by ops since ") != (o.Job == "job") {
			t.Errorf("%+v", o)
		}
	}
}
