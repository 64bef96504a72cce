package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/runs"
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

// post sends a start as another agent's client would.
func post(t *testing.T, d *daemon, body string) (status int, answer string) {
	t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", d.Socket)
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	resp, err := client.Post("http://supervisor/v1/runs", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// An older agent, after a downgrade, with runs of this supervisor in flight.
func TestOlderAgentIsServed(t *testing.T) {
	d := start(t)
	if status, body := post(t, d, recorded(t, "start.json")); status != 201 {
		t.Fatalf("%d: %s", status, body)
	}
	run, err := d.Wait(t.Context(), "recorded")
	if err != nil || run.ExitCode != 5 || run.Name != "nightly" || run.Meta["commit"] != "abc" || !run.Slot.Equal(time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)) {
		t.Errorf("ended as %+v, %v", run, err)
	}
}

// A newer agent asks for something that this supervisor would not do: it must say so, not leave it out.
func TestUnknownFieldIsRefusedByName(t *testing.T) {
	d := start(t)
	body := strings.Replace(recorded(t, "start.json"), `"uid"`, `"cpu_max":1,"uid"`, 1)
	if status, answer := post(t, d, body); status != 400 || !strings.Contains(answer, "cpu_max") {
		t.Errorf("%d: %s", status, answer)
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
		run, err := d.Start(context.WithoutCancel(t.Context()), spooled("exit 3"), runs.Handover{})
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
