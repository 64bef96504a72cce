package cron

import (
	"fmt"
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
		fmt.Fprint(w, `{"version": 1, "runs": [{"slot": "2026-11-30T01:00:00Z", "owner": "i-1", "nonce": "n"}]}`)
	}))
	defer store.Close()
	c := fleetAt(t, store.URL, "")
	jobs := make([]*api.CronJob, 250)
	for i := range jobs {
		jobs[i] = &api.CronJob{Name: fmt.Sprint("job", i)}
	}
	unread := c.fillLast(t.Context(), jobs)
	filled := 0
	for _, j := range jobs {
		if j.Host == "i-1" && j.Last != nil && j.Result == "started, not ended" {
			filled++
		}
	}
	if asked.Load() != listReads || filled != 90 || unread != 160 || most.Load() > listReaders {
		t.Errorf("%d asked, %d at a time, %d filled, %d unread", asked.Load(), most.Load(), filled, unread)
	}
	if n := fleetAt(t, "http://127.0.0.1:9", "").fillLast(t.Context(), jobs[:3]); n != 3 {
		t.Errorf("of a store that does not answer %d are unread", n)
	}
}

// The register may not have the outcome of this process's last run yet. Then an older one is not the run before.
func TestRunBeforeIsNotOlderThanOurOwn(t *testing.T) {
	at := func(n int64) time.Time { return time.Unix(n, 0) }
	c := &fleet{jobs: map[string]*fleetJob{}, started: at(0)}
	other := claim.Run{Slot: at(10), Owner: "other", Outcome: runs.Good, Finished: at(11)}
	c.noteBefore("job", other, "me")
	if got := c.outcomeBefore("job"); got != notify.Succeeded {
		t.Errorf("before any run of ours: %q", got)
	}
	c.job("job").ended = at(20)
	c.noteBefore("job", other, "me")
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
