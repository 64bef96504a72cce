package cron

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/versity"
	"beanstalk-agent/scheduler"
)

// bucket is a store whose writes are counted and whose objects anybody with the role may write.
type bucket struct {
	url string

	mu   sync.Mutex
	last string // path of the object that was written last
	puts int
}

func openBucket(t *testing.T) *bucket {
	t.Helper()
	store, b := versity.Careless(t), &bucket{}
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			b.mu.Lock()
			b.last = r.URL.Path
			b.puts++
			b.mu.Unlock()
		}
		out, _ := http.NewRequestWithContext(r.Context(), r.Method, store+r.URL.Path, r.Body)
		resp, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer resp.Body.Close()
		w.Header().Set("ETag", resp.Header.Get("ETag"))
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body)
	}))
	t.Cleanup(h.Close)
	b.url = h.URL
	return b
}

// written is how often, since it was asked before.
func (b *bucket) written() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, b.puts = b.puts, 0
	return n
}

// forge puts a register in the place of the one that was written last.
func (b *bucket) forge(t *testing.T, r claim.Register) {
	t.Helper()
	body, err := json.Marshal(r)
	if err != nil || len(body) > 64<<10 {
		t.Fatal(len(body), err)
	}
	req, _ := http.NewRequest(http.MethodPut, b.url+b.last, bytes.NewReader(body))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// counted is a supervisor that counts what it is asked.
type counted struct {
	noSupervisor
	runs      []runs.Run
	questions int
}

func (c *counted) Get(_ context.Context, id string) (runs.Run, error) {
	c.questions++
	for _, r := range c.runs {
		if r.ID == id {
			return r, nil
		}
	}
	return runs.Run{}, runs.ErrUnknown
}

func (c *counted) List(context.Context, runs.Filter) ([]runs.Run, error) {
	c.questions++
	return c.runs, nil
}

const forgedRuns = 400

// forgedRegister lists runs without an end, newest first, the second before due and back.
func forgedRegister(job string, due time.Time, change func(*claim.Run)) claim.Register {
	r := claim.Register{Version: 2, Job: job}
	for i := range forgedRuns {
		at := due.Add(-time.Duration(i+1) * time.Second)
		run := claim.Run{Slot: at, Owner: ours, Nonce: fmt.Sprint(i), Claimed: at}
		change(&run)
		r.Runs = append(r.Runs, run)
	}
	return r
}

// Whoever has the role can fill a register with unfinished runs in an instance's name. It asks its supervisor once,
// logs one line, and writes once, not each of them.
func TestForgedLeftoversCostOneQuestion(t *testing.T) {
	for name, forged := range map[string]func(*claim.Run){
		"slots":           func(*claim.Run) {},
		"runs of users":   func(r *claim.Run) { r.Manual = true },
		"further attempt": func(r *claim.Run) { r.Attempt = 7 },
	} {
		t.Run(name, func(t *testing.T) {
			b := openBucket(t)
			f := firing(t, func(j *scheduler.Job) { j.Overlap = scheduler.Allow })
			if _, err := fleetAt(t, b.url, ours).claim(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			b.forge(t, forgedRegister("job", f.Due, forged))
			now := fleetAt(t, b.url, ours)
			var said bytes.Buffer
			now.log = slog.New(slog.NewTextHandler(&said, nil))
			now.outcomes.log = now.log
			live, failed := f.Due.Add(-2*time.Second), f.Due.Add(-3*time.Second)
			supervisor := &counted{runs: []runs.Run{
				{ID: runs.SlotID("job", live, 1), Slot: live, State: runs.StateRunning},
				{ID: runs.SlotID("job", failed, 1), Slot: failed, State: runs.StateExited, ExitCode: 3},
			}}
			now.runs = supervisor
			b.written()

			now.leftoversOf(t.Context(), f.Job)
			now.outcomes.writers.Wait()
			if supervisor.questions > 1 || said.Len() > 0 || b.written() > 1 {
				t.Errorf("at the start: %d questions\n%.500s", supervisor.questions, &said)
			}
			supervisor.questions = 0
			f.Due = f.Due.Add(time.Second)
			if h, err := now.claim(t.Context(), f); err != nil || h == nil {
				t.Fatal(h, err)
			}
			now.outcomes.writers.Wait()
			if n := strings.Count(said.String(), "\n"); supervisor.questions > 1 || n > 1 {
				t.Errorf("at the next claim: %d questions, %d lines\n%.500s", supervisor.questions, n, &said)
			}
			if n := b.written(); n > 2 {
				t.Errorf("%d writes, want the claim's and one of the ends", n)
			}
			if name != "slots" {
				return
			}
			if !strings.Contains(said.String(), "and not started") || !strings.Contains(said.String(), "slots=13") {
				t.Errorf("logged %q", &said)
			}
			s, err := now.open()
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.Read(t.Context(), "job")
			if err != nil {
				t.Fatal(err)
			}
			for _, run := range r.Runs {
				want := "not started: the agent was ended first"
				switch {
				case run.Slot.Equal(f.Due), run.Slot.Equal(live):
					want = ""
				case run.Slot.Equal(failed):
					want = "exit 3"
				}
				if run.Outcome != want {
					t.Errorf("%s: %q, want %q", run.Slot, run.Outcome, want)
				}
			}
		})
	}
}

// Nor does each of them become a notice, when others would have lost them.
func TestForgedLossesAreFewReports(t *testing.T) {
	b := openBucket(t)
	f := firing(t, func(j *scheduler.Job) { j.Overlap = scheduler.Allow })
	if _, err := fleetAt(t, b.url, ours).claim(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	b.forge(t, forgedRegister("job", f.Due, func(r *claim.Run) { r.Owner, r.Until = "i-0fedcba9876543210", r.Slot }))
	now := fleetAt(t, b.url, ours)
	var said bytes.Buffer
	now.losses.log = slog.New(slog.NewTextHandler(&said, nil))
	reports := 0
	now.losses.report = func(string, claim.Run) { reports++ }
	now.losses.look(t.Context(), f.Job, func(scheduler.Job, claim.Run) {})
	if n := strings.Count(said.String(), "\n"); reports != 16 || n != 1 {
		t.Errorf("%d reports, %d lines: %s", reports, n, &said)
	}
}
