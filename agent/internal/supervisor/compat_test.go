package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/fdconn"
)

// testdata/v1 is what version 1 of the protocol looked like when it was first released. It is never
// changed: an agent of any age and a supervisor of any age meet on every upgrade and downgrade.
func recorded(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "v1", name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("UID", fmt.Sprint(os.Getuid()), "GID", fmt.Sprint(os.Getgid())).Replace(string(b))
}

// An older agent, after a downgrade, with runs of this supervisor in flight.
func TestOlderAgentIsServed(t *testing.T) {
	d := start(t)
	conn, err := fdconn.Dial(t.Context(), d.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	req, _ := http.NewRequest("POST", "http://supervisor/v1/runs", strings.NewReader(recorded(t, "start.json")))
	resp, err := roundTrip(conn, req, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 201 {
		t.Fatalf("%s: %s", resp.Status, body)
	}
	run, err := d.Wait(t.Context(), "recorded")
	if err != nil || run.ExitCode != 5 || run.Name != "nightly" || run.Meta["commit"] != "abc" || !run.Slot.Equal(time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)) {
		t.Errorf("ended as %+v, %v", run, err)
	}
}

// A newer agent asks for something that this supervisor would not do: it must say so, not leave it out.
func TestUnknownFieldIsRefusedByName(t *testing.T) {
	d := start(t)
	conn, err := fdconn.Dial(t.Context(), d.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := strings.Replace(recorded(t, "start.json"), `"uid"`, `"cpu_max":1,"uid"`, 1)
	req, _ := http.NewRequest("POST", "http://supervisor/v1/runs", strings.NewReader(body))
	resp, err := roundTrip(conn, req, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := refused(resp); resp.StatusCode != 400 || !strings.Contains(err.Error(), "cpu_max") {
		t.Errorf("%s: %v", resp.Status, err)
	}
}

// This agent under a supervisor that is older (answers less) or newer (answers more).
func TestOtherSupervisorsAreUnderstood(t *testing.T) {
	l, err := fdconn.Listen(filepath.Join(t.TempDir(), "s"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	answers := map[string]string{
		"/v1/runs/recorded": recorded(t, "run.json"),
		"/v1/runs":          "[" + recorded(t, "run.json") + `,{"id":"bare"}]`,
		"/v1/info":          `{"api":1,"version":"0.0.1"}`,
		"/v1/events":        `{"seq":8,"type":"ended","run":` + recorded(t, "run.json") + `}{"seq":9,"type":"of the future"}`,
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
	if got := verdict(run); got != "killed by the kernel for memory at 392 MB" {
		t.Errorf("it is said: %q", got)
	}
	if runs, err := c.List(t.Context(), Filter{}); err != nil || len(runs) != 2 || runs[1].ID != "bare" {
		t.Errorf("runs are %+v, %v", runs, err)
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

func TestOlderRecordIsRead(t *testing.T) {
	rec, err := parseRecord([]byte(recorded(t, "status.json")))
	if err != nil || rec.Run.ID != "recorded" || rec.Run.ExitCode != 3 || rec.Run.EndSeq != 8 {
		t.Errorf("read as %+v, %v", rec, err)
	}
}

// Reason: between the last answer of a supervisor that retires and the first of the next, a job is due.
func TestStartIsPatient(t *testing.T) {
	d := start(t)
	d.Patience = 15 * time.Second
	d.cmd.Process.Kill()
	d.cmd.Wait()
	started := make(chan error, 1)
	go func() {
		run, err := d.Start(context.WithoutCancel(t.Context()), spooled("exit 3"), Handover{})
		if err == nil {
			run, err = d.Wait(context.WithoutCancel(t.Context()), run.ID)
		}
		if err == nil && run.ExitCode != 3 {
			err = errors.New("exit code is wrong")
		}
		started <- err
	}()
	d.restart(t)
	if err := <-started; err != nil {
		t.Error(err)
	}
}
