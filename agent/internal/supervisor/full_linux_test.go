package supervisor

import (
	"bytes"
	"context"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

// fill writes to a client that reads nothing until its connection takes not even a greeting.
func fill(t *testing.T, ours *os.File) {
	t.Helper()
	unix.SetNonblock(int(ours.Fd()), true)
	for size := 1 << 10; size > 0; size /= 2 {
		for n := 1; n > 0; {
			n, _ = unix.Write(int(ours.Fd()), bytes.Repeat([]byte("x"), size))
		}
	}
}

// A client whose connection is full when its command begins, or ends, holds up nobody: the run is followed, its lock is
// free when it has ended, it can be stopped, and the supervisor ends.
func TestAClientThatReadsNothingHoldsUpNoRun(t *testing.T) {
	for name, of := range map[string]struct {
		req    func(string) runs.Request
		files  int
		before bool
	}{
		"pipes, greeting":    {request, 3, true},
		"pipes, exit":        {request, 3, false},
		"terminal, greeting": {onTerminal, 0, true},
		"output, greeting":   {spooled, 0, true},
		"output, exit":       {spooled, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait
			d := start(t)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // not for ever
			defer cancel()
			ours, _ := sleeper(t)
			if of.before {
				fill(t, ours)
			}
			h := runs.Handover{Conn: ours}
			null := devNull(t)
			for range of.files {
				h.Files = append(h.Files, null)
			}
			first := of.req("sleep 1")
			first.Lock = "held"
			run, err := d.Start(ctx, first, h)
			if err != nil {
				t.Fatalf("its start: %v", err)
			}
			if !of.before {
				fill(t, ours)
			}
			if _, err := d.Wait(ctx, run.ID); err != nil {
				t.Fatalf("its end: %v", err)
			}
			second := spooled("exec sleep 1000")
			second.Lock, second.LockWait = "held", 5*time.Second
			if run, err = d.Start(ctx, second, runs.Handover{}); err != nil {
				t.Fatalf("the next with its lock: %v", err)
			}
			if _, err := d.Stop(ctx, run.ID, time.Second); err != nil {
				t.Fatalf("stop: %v", err)
			}
			ended := make(chan error, 1)
			d.cmd.Process.Signal(syscall.SIGTERM)
			go func() { ended <- d.cmd.Wait() }()
			select {
			case <-ended:
			case <-ctx.Done():
				t.Error("the supervisor does not end")
				d.cmd.Process.Kill()
			}
		})
	}
}

// Who attaches and reads nothing of the scroll-back keeps nobody from stopping the run, and the lock is free.
func TestAnAttachedClientThatReadsNothingHoldsUpNobody(t *testing.T) {
	d := start(t)
	run := d.forsaken(t, "seq 1 20000; exec sleep 1000")
	ctx, cancel := context.WithTimeout(t.Context(), replayLimit)
	defer cancel()
	ours, _ := sleeper(t)
	fill(t, ours)
	attached := make(chan error, 1)
	go func() {
		_, err := d.Attach(ctx, run.ID, session.Size{}, runs.Handover{Conn: ours})
		attached <- err
	}()
	if _, err := d.Stop(ctx, run.ID, time.Second); err != nil {
		t.Errorf("stop: %v", err)
	}
	cancel()
	if err := <-attached; err == nil {
		t.Error("it was attached")
	}
}
