package supervisor

import (
	"net/http/httptest"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/runs"
)

// A request to end a run that comes while it begins, after the last look at its caller, ends it: it is not lost on what
// has no process yet.
func TestStopWaitsUntilTheRunHasBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{store: open(t, t.TempDir(), Keep{}), live: map[string]*live{}}
		group, err := (&command.Place{}).Group("r", command.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		l := &live{s: s, id: "r", grace: time.Second, group: group, begun: make(chan struct{}), gone: make(chan struct{}),
			ended: make(chan struct{}), io: &spool{}, run: runs.Run{ID: "r", State: runs.StateStarting}}
		s.live["r"] = l
		answered := make(chan *runs.Refused)
		go func() {
			r := httptest.NewRequest("POST", "/", strings.NewReader(`{"by": "replaced"}`))
			r.SetPathValue("id", "r")
			answered <- s.stopRun(httptest.NewRecorder(), r)
		}()
		synctest.Wait() // it has come, and waits
		job := exec.Command("sleep", "1000")
		job.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := job.Start(); err != nil {
			t.Fatal(err)
		}
		group.Leader(job.Process.Pid)
		l.mu.Lock()
		l.run.State, l.run.PID = runs.StateRunning, job.Process.Pid
		l.mu.Unlock()
		close(l.begun)
		synctest.Wait()
		if l.mu.Lock(); l.run.StoppedBy != "replaced" {
			t.Errorf("it is not stopped: %+v", l.run)
			job.Process.Kill()
		}
		l.mu.Unlock()
		if err := job.Wait(); job.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
			t.Errorf("ended by %v", err)
		}
		l.ender.Wait()
		close(l.gone)
		if refused := <-answered; refused != nil {
			t.Error(refused)
		}
	})
}
