package cron

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
