package supervisor

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/gotool"
	"beanstalk-agent/packaging/testbed/planted"
)

// books is a server that keeps records in dir and starts nothing.
func books(t *testing.T, dir string) *server {
	return &server{store: open(t, dir, Keep{}), log: planted.Log(t), live: make(map[string]*live), changed: make(chan struct{}), crowd: newCrowd()}
}

// Who waits for a run that turns out not to start is told so: the agent that asks for a slot again, because
// the one that asked first was killed, may come between.
func TestWaitingForWhatDoesNotStart(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := books(t, dir)
		l, refusal := s.reserve(t.Context(), &runs.Request{ID: "a", Args: []string{"x"}, IO: runs.IOSpool})
		if refusal != nil {
			t.Fatal(refusal)
		}
		told := make(chan *runs.Refused, 1)
		go func() {
			r := httptest.NewRequest("GET", "/", nil).WithContext(t.Context())
			r.SetPathValue("id", "a")
			told <- s.waitRun(httptest.NewRecorder(), r)
		}()
		synctest.Wait()
		s.store.remove(l.id)
		s.forget(l)
		synctest.Wait()
		select {
		case e := <-told:
			if e == nil || e.Status != http.StatusNotFound {
				t.Errorf("told %+v", e)
			}
		default:
			t.Error("it waits for ever")
		}
	})
}

// The end of a run whose record cannot be read is told by name: the reader's next cursor is beyond it.
func TestUnreadableRecordIsToldAsLost(t *testing.T) {
	s := books(t, t.TempDir())
	for _, id := range []string{"a", "b"} {
		run := newRun(&runs.Request{ID: id, Args: []string{"x"}, Kind: "cron", Name: "nightly", IO: runs.IOSpool})
		s.store.create(&run)
		s.store.acknowledge(run.StartSeq)
		run.State, run.Ended = runs.StateExited, time.Now()
		if err := s.store.finish(&run); err != nil {
			t.Fatal(err)
		}
		s.store.acknowledge(run.EndSeq)
	}
	for _, file := range []string{"meta.json", "status.json"} {
		if err := os.WriteFile(s.store.path("a", file), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var ends []string
	events, _, _ := s.events(0)
	for _, e := range events {
		if e.Type == runs.EventEnded {
			ends = append(ends, e.Run.ID+" "+e.Run.Kind+" "+e.Run.Name+" "+e.Run.State)
		}
	}
	if want := []string{"a cron nightly lost", "b cron nightly exited"}; !slices.Equal(ends, want) {
		t.Errorf("told %q, want %q", ends, want)
	}
}

// A start that is refused because the disk is full leaves nothing: neither in the way of the same slot, nor
// for the next supervisor to tell that it was lost.
func TestRefusedOnAFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		gotool.Need(t, "root, to mount a disk of its own")
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=4k,mode=700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, 0) })
	s := books(t, filepath.Join(dir, "runs"))
	full := filepath.Join(dir, "full")
	if err := os.WriteFile(full, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	req := runs.Request{ID: "a", Args: []string{"x"}, IO: runs.IOSpool, Kind: "cron"}
	if _, refusal := s.reserve(t.Context(), &req); refusal == nil || !strings.Contains(refusal.Message, unix.ENOSPC.Error()) {
		t.Fatalf("got %+v", refusal)
	}
	if _, err := os.Stat(s.store.path("a", "")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is left behind: %v", err)
	}
	os.Remove(full)
	if _, refusal := s.reserve(t.Context(), &req); refusal != nil {
		t.Errorf("once there is room: %+v", refusal)
	}
}
