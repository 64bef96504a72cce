package runs

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/fdconn"
)

// This agent under a supervisor that is older (answers less) or newer (answers more).
func TestOtherSupervisorsAreUnderstood(t *testing.T) {
	recorded, err := os.ReadFile("testdata/v1/run.json") // never changed, as the supervisor's
	if err != nil {
		t.Fatal(err)
	}
	l, err := fdconn.Listen(filepath.Join(t.TempDir(), "s"), nil)
	if err != nil {
		t.Fatal(err)
	}
	answers := map[string]string{
		"/v1/runs/recorded": string(recorded),
		"/v1/runs":          "[" + string(recorded) + `,{"id":"bare"}]`,
		"/v1/info":          `{"api":1,"version":"0.0.1"}`,
		"/v1/events":        `{"seq":8,"type":"ended","run":` + string(recorded) + `}{"seq":9,"type":"of the future"}`,
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if text, ok := answers[r.URL.Path]; ok {
			io.WriteString(w, text)
			return
		}
		http.NotFound(w, r)
	})}
	done := make(chan struct{})
	go func() { srv.Serve(l); close(done) }()
	defer func() { srv.Close(); <-done }()

	c := &Client{Socket: l.Addr().String()}
	run, err := c.Get(t.Context(), "recorded")
	if err != nil || run.ExitCode != 137 || !run.OOM || run.PeakMemory != 412000000 || run.Took() != 3*time.Second {
		t.Errorf("run is %+v, %v", run, err)
	}
	if got := Verdict(run); got != "killed by the kernel for memory at 392 MB" {
		t.Errorf("it is said: %q", got)
	}
	if list, err := c.List(t.Context(), Filter{}); err != nil || len(list) != 2 || list[1].ID != "bare" {
		t.Errorf("runs are %+v, %v", list, err)
	}
	if info, err := c.Info(t.Context()); err != nil || info.Version != "0.0.1" {
		t.Errorf("info is %+v, %v", info, err)
	}
	var types []string
	for e, err := range c.Events(t.Context(), 0) {
		if err != nil {
			break
		}
		types = append(types, e.Type)
	}
	if strings.Join(types, ", ") != "ended, of the future" {
		t.Errorf("events are %q", types)
	}
	// A verb that an older one does not have is an error, not a hang.
	if _, err := c.Retire(t.Context()); err == nil {
		t.Error("an unknown verb seems to have been done")
	}
}

// A supervisor that knows no lease refuses a start that has one, by the field's name, and has no such path. The text is
// that of the version before.
func TestSupervisorThatKeepsNoLease(t *testing.T) {
	l, err := fdconn.Listen(filepath.Join(t.TempDir(), "s"), nil)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/runs", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), `"lease_ns"`) {
			w.WriteHeader(400)
			io.WriteString(w, `{"error":"read request: json: unknown field \"lease_ns\"","hint":"the agent may be newer than the supervisor: systemctl status agent-runs","code":125}`)
			return
		}
		io.WriteString(w, `{"id":"recorded","state":"running"}`)
	})
	srv := &http.Server{Handler: mux}
	done := make(chan struct{})
	go func() { srv.Serve(l); close(done) }()
	defer func() { srv.Close(); <-done }()
	c := &Client{Socket: l.Addr().String()}
	if _, err := c.Start(t.Context(), Request{ID: "recorded", Lease: time.Minute}, Handover{}); !errors.Is(err, ErrNoLease) {
		t.Errorf("a start with a lease: %v", err)
	}
	if _, _, err := c.Begin(t.Context(), Request{ID: "recorded", Lease: time.Minute}); !errors.Is(err, ErrNoLease) {
		t.Errorf("a job with a lease: %v", err)
	}
	if run, err := c.Start(t.Context(), Request{ID: "recorded"}, Handover{}); err != nil || run.ID != "recorded" {
		t.Errorf("a start without one: %+v, %v", run, err)
	}
	if err := c.RenewLease(t.Context(), "recorded", time.Minute, 0); !errors.Is(err, ErrNoLease) {
		t.Errorf("a renewal: %v", err)
	}
}

// A supervisor that is older than the bounds answers with all the arguments of hundreds of runs: an agent that starts
// beside it must live.
func TestListOfAnOlderSupervisorIsBounded(t *testing.T) {
	l, err := fdconn.Listen(filepath.Join(t.TempDir(), "s"), nil)
	if err != nil {
		t.Fatal(err)
	}
	args := `["` + strings.Repeat(strings.Repeat("x", 60_000)+`","`, 21) + `"]`
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "[")
		for i := range 500 {
			fmt.Fprintf(w, `{"id":"r%d","args":%s},`, i, args)
		}
		io.WriteString(w, `{"id":"last"}]`)
	})}
	done := make(chan struct{})
	go func() { srv.Serve(l); close(done) }()
	defer func() { srv.Close(); <-done }()
	c := &Client{Socket: l.Addr().String()}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	left := 0
	list, err := c.List(t.Context(), Filter{LeftOut: &left})
	runtime.ReadMemStats(&after)
	if err != nil || len(list) < 10 || left != 1 || list[0].ID != "r0" || list[0].Args != nil {
		t.Errorf("%d are listed, %d left out, %v", len(list), left, err)
	}
	if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 96 {
		t.Errorf("%d MB are allocated", n)
	}
}
