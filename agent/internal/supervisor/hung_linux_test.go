package supervisor

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/hung"
)

// A cron job may name an interpreter on a file system that answers nothing. Its start fails after ten seconds, with the
// reason; everybody else is answered meanwhile, and starts.
func TestStartThatHangsKeepsNobodyWaiting(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	if os.Getuid() != 0 {
		need(t, "root")
	}
	d := start(t)
	bad := spooled("")
	bad.Args = []string{filepath.Join(hung.Mount(t, true), "job")}
	bad.UID, bad.GID = 65534, 65534
	var failures atomic.Int32
	var wg, good sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := d.Start(t.Context(), bad, runs.Handover{})
			r, ok := errors.AsType[*runs.Refused](err)
			if !ok || r.Code != command.CodeRefused || !strings.Contains(r.Message, "does not answer") {
				t.Errorf("it is refused with %+v", err)
			}
			failures.Add(1)
		})
	}
	for range 200 {
		good.Go(func() {
			run, err := d.Start(t.Context(), spooled("exit 7"), runs.Handover{})
			if err == nil {
				run, err = d.Wait(t.Context(), run.ID)
			}
			if err != nil || run.ExitCode != 7 {
				t.Errorf("another run: %+v, %v", run, err)
			}
		})
	}
	slowest := time.Duration(0)
	for failures.Load() == 0 {
		begin := time.Now()
		if _, err := d.List(t.Context(), runs.Filter{}); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(begin))
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("the slowest list took %v", slowest)
	good.Wait()
	wg.Wait()
	if list, err := d.List(t.Context(), runs.Filter{Live: true}); err != nil || len(list) > 0 {
		t.Errorf("live are %+v, %v", list, err)
	}
}

// A client that ended while its command waited for a lock, or for this process, has nothing started for it.
func TestNothingIsStartedForACallerWhoHasGone(t *testing.T) {
	d := start(t)
	holder := spooled("exec sleep 1000")
	holder.Lock = "migrate"
	first, err := d.Start(t.Context(), holder, runs.Handover{})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(pair[0]), "client")
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	proof := filepath.Join(t.TempDir(), "proof")
	null := devNull(t)
	waiting := request("touch " + proof)
	waiting.Lock, waiting.LockWait = "migrate", time.Minute
	started := make(chan error, 1)
	go func() {
		_, err := d.Start(context.Background(), waiting, runs.Handover{Conn: conn.(syscall.Conn), Files: []int{null, null, null}})
		started <- err
	}()
	unix.Write(pair[1], []byte("typed before it ended"))
	unix.Close(pair[1])
	if _, err := d.Stop(t.Context(), first.ID, 0); err != nil {
		t.Fatal(err)
	}
	if r, ok := errors.AsType[*runs.Refused](<-started); !ok || !strings.Contains(r.Message, "has gone") {
		t.Errorf("its start ended with %+v", r)
	}
	if _, err := os.Stat(proof); err == nil {
		t.Error("the command ran")
	}
}

// A restart by systemd's watchdog ends all that runs: only after five minutes of faults of our own, without one start
// that came as far as its user. Users' mistakes and attacks are no such faults.
func TestWatchdogFiresOnlyWhenNothingCanStart(t *testing.T) {
	ours, theirs := &command.StartError{Ours: true}, &command.StartError{}
	synctest.Test(t, func(t *testing.T) {
		var s starts
		failing := func(span time.Duration, err error) {
			for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(10 * time.Second) {
				s.note(err)
			}
		}
		for name, play := range map[string]struct {
			acts  func()
			fires bool
		}{
			"none tried":      {func() { time.Sleep(time.Hour) }, false},
			"users' mistakes": {func() { failing(time.Hour, theirs) }, false},
			"four minutes":    {func() { failing(4*time.Minute, ours); time.Sleep(time.Hour) }, false},
			"six minutes":     {func() { failing(6*time.Minute, ours) }, true},
			"one good start":  {func() { failing(4*time.Minute, ours); s.note(nil); failing(4*time.Minute, ours) }, false},
			"no group":        {func() { failing(6*time.Minute, errors.New("make control group")) }, true},
			"no processes":    {func() { failing(time.Hour, &command.StartError{Ours: true, Err: syscall.EAGAIN}) }, false},
			"a memory limit":  {func() { failing(6*time.Minute, command.ErrNoMemoryLimit) }, false},
		} {
			s = starts{}
			if play.acts(); (s.useless() != nil) != play.fires {
				t.Errorf("%s: %v", name, s.useless())
			}
		}
	})
}
