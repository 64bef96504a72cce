package metrics

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"beanstalk-agent/agent/internal/capacity"
	"beanstalk-agent/collectors"
)

// No advice is no figure: an alarm on 0 would ring after each deployment.
func TestHeadroomIsAbsentUntilItIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		advice, err := capacity.Advice{Verdict: capacity.NotWarm}, error(nil)
		asked := 0
		h := &headroom{advise: func() (capacity.Advice, error) { asked++; return advice, err }}
		value := func() (v float64, known bool) {
			for range 12 { // the ticks of a minute
				out, err := h.Collect(t.Context())
				if len(out) == 0 != errors.Is(err, collectors.ErrNoData) {
					t.Fatalf("got %v, %v", out, err)
				}
				if known = len(out) == 1; known {
					v = out[0].Value
				}
				time.Sleep(5 * time.Second)
			}
			return v, known
		}
		if v, known := value(); known {
			t.Errorf("not warm: got %v", v)
		}
		advice = capacity.Advice{Verdict: capacity.Lower, Headroom: -2}
		if v, known := value(); !known || v != -2 {
			t.Errorf("too many workers: got %v, %v, want -2", v, known)
		}
		err = errors.New("no web process")
		if v, known := value(); known {
			t.Errorf("the web process is gone: got %v", v)
		}
		if asked != 3 {
			t.Errorf("the sum was done %d times in three minutes", asked)
		}
	})
}

// The sum is done over live processes: a shell that forked two workers a moment ago.
func TestCapacityKnowsTheLiveWorkers(t *testing.T) {
	marker := "3600.7175"
	cmd := exec.Command("/bin/sh", "-c", "sleep "+marker+" & sleep "+marker+" & wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); cmd.Wait() })
	dir := t.TempDir() // with a Procfile that never ends, as the application may write it
	if err := os.Symlink("/dev/zero", filepath.Join(dir, "Procfile")); err != nil {
		t.Fatal(err)
	}
	m := Metrics{app: beside(t, dir)}
	m.collect(Config{Sample: 5 * time.Second, Groups: []Group{{Name: "web", Match: regexp.QuoteMeta("sleep " + marker + " &")}}})
	t.Cleanup(func() { m.sources.Close() })
	var a capacity.Advice
	for end := time.Now().Add(time.Minute); a.Workers != 2; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("both workers are not seen: %+v", a)
		}
		m.loop.tick(t.Context(), time.Now())
		a, _ = m.Capacity(0)
	}
	if a.Verdict != capacity.NotWarm {
		t.Errorf("got %+v, want not warm yet", a)
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, "Procfile")), syscall.Mkfifo(filepath.Join(dir, "Procfile"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Capacity(0); err != nil { // the FIFO has no writer
		t.Error(err)
	}
}

// Advice from figures of long ago is none: the web process can hold up its figures, and the host's go on.
func TestCapacityOfStaleFiguresIsNotKnown(t *testing.T) {
	marker := "3600.7176"
	cmd := exec.Command("sleep", marker)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	m := Metrics{app: beside(t, t.TempDir())}
	m.collect(Config{Sample: 5 * time.Second, Groups: []Group{{Name: "web", Match: regexp.QuoteMeta(marker)}}})
	t.Cleanup(func() { m.sources.Close() })
	m.loop.tick(t.Context(), time.Now())
	if _, err := m.Capacity(0); err != nil {
		t.Fatal(err)
	}
	m.loop.last.At = time.Now().Add(2 * staleAfter)
	if _, err := m.Capacity(0); err == nil || !strings.Contains(err.Error(), "last measured") {
		t.Errorf("got %v", err)
	}
}
