package supervisor

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"syscall"
	"time"

	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

// live is a run that has not ended, or whose left-behind processes have not.
type live struct {
	s  *server
	id string
	member
	lock  string
	grace time.Duration
	lease *lease // or nil
	group *command.Group
	proc  *command.Process
	io    streams
	begun chan struct{} // closed once it can be stopped
	ended chan struct{} // closed once the status is on disk
	gone  chan struct{} // closed once no process is left and the lock is free

	mu     sync.Mutex
	run    runs.Run
	ender  sync.WaitGroup // End at work
	due    time.Time      // when KILL follows the TERM that was sent; zero before it
	killer *time.Timer    // sends it earlier than End does, or nil
}

// launch starts the command, unless its caller has gone meanwhile. On error nothing of it is left but the record.
func (l *live) launch(ctx context.Context, body runs.StartBody, cred *command.Credential,
	take func() []int) *runs.Refused {
	if ctx.Err() != nil {
		return callerGone()
	}
	if refusal := l.lease.lapsed(); refusal != nil {
		return refusal
	}
	io, refusal := connect(body, l.s.store.path(l.id, "output"), take())
	if refusal != nil {
		return refusal
	}
	err := l.fork(body, cred, io)
	if err == nil || body.MemoryMax == 0 && !l.s.crowded(err) { // a small limit ends a process before it is the command
		l.s.starts.note(err)
	}
	if err != nil {
		io.failed()
		if l.group != nil {
			l.group.Discard()
		}
		return startFailed(err)
	}
	l.mu.Lock()
	l.run.State, l.run.PID = runs.StateRunning, l.proc.PID
	run := l.run
	l.mu.Unlock()
	if !l.s.place.Grouped() { // a control group is found by the run's id
		if err := l.s.store.begun(run, l.proc.Begun); err != nil {
			l.s.log.Error("cannot record run", "run", run.ID, "err", err)
		}
	}
	close(l.begun)
	l.s.store.acknowledge(run.StartSeq)
	io.begun(l)
	if body.IO == runs.IOTerminal {
		l.s.show(l)
	}
	go l.follow(body.Timeout) // server.work waits for it
	if l.lease != nil {
		go l.watchLease() // ends with the run
	}
	if l.s.announce() {
		l.stop(runs.StoppedShutdown, min(l.grace, shutdownGrace)) // endAll passed us by while we were starting
	}
	return nil
}

func (l *live) fork(body runs.StartBody, cred *command.Credential, io streams) (err error) {
	l.io = io
	if l.group, err = l.s.place.Group(l.id, command.Limits{Memory: body.MemoryMax}); err != nil {
		return err
	}
	l.proc, err = command.Start(command.Spec{
		Args: body.Args, Env: body.Env, Files: io.files(), Dir: body.Dir, Cred: cred, Umask: body.Umask, Group: l.group,
		Terminal: body.IO == runs.IOTerminal, NoNewPrivs: body.NoNewPrivs, OOMScoreAdj: body.OOMScoreAdj,
	}, l.s.reaper)
	if err != nil {
		return err
	}
	l.group.Leader(l.proc.PID)
	return nil
}

func startFailed(err error) *runs.Refused {
	e := &runs.Refused{Status: 422, Code: command.CodeRefused, Message: err.Error()}
	var se *command.StartError
	if errors.As(err, &se) {
		e.Code = se.Code
	}
	return e
}

// follow waits for the command, records and reports its end, and waits for the last of its processes.
func (l *live) follow(timeout time.Duration) {
	if timeout > 0 {
		t := time.AfterFunc(timeout, func() { l.stop("timeout", 0) })
		defer t.Stop()
	}
	<-l.proc.Done()
	spool, _ := l.io.(*spool)
	if spool != nil && !spool.flush() {
		l.s.log.Warn("a process holds up a run's output: what it printed last is missing", "run", l.id)
	}
	run := l.conclude(l.proc.Status())
	if err := l.s.store.finish(&run); err != nil {
		l.s.log.Error("cannot record how a run ended", "run", run.ID, "err", err)
	}
	if t, ok := l.io.(*terminal); ok {
		t.end()
	}
	l.mu.Lock()
	l.run = run
	l.mu.Unlock()
	l.s.store.acknowledge(run.EndSeq)
	close(l.ended)
	l.s.log.Info("run ended", "run", run.ID, "job", run.Name, "code", run.ExitCode, "took", run.Took())
	var delivery sync.WaitGroup
	delivery.Go(func() { // a client that does not read must not hold the lock
		l.io.finish(exitOf(run))
		l.s.hide(l)
	})
	l.s.announce()
	l.cleanUp()
	if spool != nil {
		l.endOutput(spool, run)
	}
	if !l.s.place.Grouped() {
		l.s.store.cleaned(l.id)
	}
	l.s.forget(l)
	l.s.store.tidy(time.Now())
	delivery.Wait()
	l.s.work.Done()
}

// conclude fills in how the run ended.
func (l *live) conclude(st command.Status) runs.Run {
	l.group.Usage(&st)
	l.mu.Lock()
	defer l.mu.Unlock()
	run := l.run
	run.State, run.Ended, run.Attached = runs.StateExited, time.Now(), false
	run.ExitCode, run.Signal, run.OOM = st.Code, int(st.Signal), st.OOM
	run.PeakMemory, run.CPU = st.PeakMemory, st.CPU
	if l.s.place.Grouped() && !l.group.Empty() { // otherwise it takes a look at every process, and a client waits
		run.LeftBehind = len(l.group.Processes())
	}
	if run.StoppedBy == "timeout" {
		run.TimedOut, run.ExitCode = true, command.CodeTimeout
	}
	if run.Interrupted() {
		run.State = runs.StateInterrupted
	}
	l.io.account(&run)
	return run
}

// endOutput closes the spool once no process of the run is left, and corrects the record by what those printed that
// were left behind.
func (l *live) endOutput(p *spool, run runs.Run) {
	if !p.end() {
		l.s.log.Error("a process outside of an ended run holds up its output; until that ends we cannot be stopped",
			"run", run.ID)
	}
	if lost, err := p.notKept(); lost > 0 {
		l.s.log.Warn("output of a run could not be kept", "run", run.ID, "bytes", lost, "err", err)
	}
	recorded := run.OutputBytes
	if p.account(&run); run.OutputBytes == recorded {
		return
	}
	l.mu.Lock()
	l.run = run
	l.mu.Unlock()
	l.s.store.amend(run)
	l.s.store.measure(run.ID)
}

// cleanUp ends what the command left behind: its group is the run's, and holds the lock's name.
func (l *live) cleanUp() {
	l.ender.Wait()
	l.mu.Lock()
	if due := time.Now().Add(l.grace); l.due.IsZero() || due.Before(l.due) {
		l.due = due
	}
	l.mu.Unlock()
	if err := l.group.End(command.Step{Signal: syscall.SIGTERM, Wait: l.grace}); err != nil {
		l.s.log.Error("cannot end what a run left behind", "run", l.id, "err", err)
	}
	l.mu.Lock()
	if l.killer != nil {
		l.killer.Stop()
	}
	l.mu.Unlock()
	if err := l.group.Remove(); err != nil {
		l.s.log.Warn("cannot remove a run's control group", "run", l.id, "err", err)
	}
}

// stop ends the run: TERM to every process, grace (0: the run's own), KILL. It returns at once. The
// first caller is recorded as the reason. A terminal is hung up first: an interactive shell ignores TERM.
// A later stop, and one of what an ended command left behind, brings KILL forward and never delays it.
func (l *live) stop(by string, grace time.Duration) {
	steps := []command.Step{{Signal: syscall.SIGTERM, Wait: cmp.Or(grace, l.grace)}}
	if l.onTerminal() {
		steps = slices.Insert(steps, 0, command.Step{Signal: syscall.SIGHUP, Wait: min(hangupWait, steps[0].Wait)})
	}
	if !l.end(by, steps...) {
		l.hasten(steps[len(steps)-1].Wait)
	}
}

// hasten has what is left of the run killed after grace, unless that is sooner anyway.
func (l *live) hasten(grace time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	due := time.Now().Add(grace)
	if l.run.State == runs.StateStarting || !l.due.IsZero() && !due.Before(l.due) {
		return
	}
	l.due = due
	if l.killer != nil {
		l.killer.Stop()
	}
	l.killer = time.AfterFunc(grace, func() {
		if err := l.group.End(); err != nil {
			l.s.log.Error("cannot end run", "run", l.id, "err", err)
		}
	})
}

// onTerminal reports whether the command has a terminal of ours, and has begun.
func (l *live) onTerminal() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.run.State == runs.StateStarting { // until then launch writes io
		return false
	}
	_, ok := l.io.(*terminal)
	return ok
}

// hangupWait is how long HUP may take, DESIGN §5.
const hangupWait = time.Second

// watchLease ends the run when its lease ends, and returns when that is so or the run is gone. However long a grace a
// person has given it, its last process is killed when the run's own is over, which counts from the end of the lease:
// then another instance may start it. After a suspend of the machine both may have passed.
func (l *live) watchLease() {
	if !l.lease.ended(l.gone, 0) {
		return
	}
	l.s.log.Warn("the agent did not renew the lease of a run: it is ended", "run", l.id)
	l.stop(runs.StoppedLease, 0)
	if l.lease.ended(l.gone, l.grace) {
		if err := l.group.End(); err != nil {
			l.s.log.Error("cannot end run", "run", l.id, "err", err)
		}
	}
}

// vanished ends the run as a terminal's hang-up would, DESIGN §5.
func (l *live) vanished() {
	l.end("client vanished", command.Step{Signal: syscall.SIGHUP, Wait: hangupWait},
		command.Step{Signal: syscall.SIGTERM, Wait: 3 * time.Second})
}

// end begins to end the run, and reports whether it did: not when the command has ended or is being ended.
func (l *live) end(by string, steps ...command.Step) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.run.State != runs.StateRunning || l.run.StoppedBy != "" {
		return false
	}
	l.run.StoppedBy, l.due = by, time.Now()
	for _, s := range steps {
		l.due = l.due.Add(s.Wait)
	}
	l.ender.Go(func() {
		if err := l.group.End(steps...); err != nil {
			l.s.log.Error("cannot end run", "run", l.id, "err", err)
		}
	})
	return true
}

// toGroup are the signals that a terminal sends to its foreground group, and the two that ask a whole pipeline
// to end. Others reach the command alone: by default they end a process that does not expect them.
var toGroup = map[syscall.Signal]bool{
	syscall.SIGINT: true, syscall.SIGQUIT: true, syscall.SIGHUP: true, syscall.SIGTERM: true,
	syscall.SIGSTOP: true, syscall.SIGCONT: true, syscall.SIGWINCH: true,
}

func (l *live) signal(sig syscall.Signal) error {
	pid := l.snapshot().PID
	if pid == 0 { // it has not begun
		return syscall.ESRCH
	}
	select {
	case <-l.proc.Done():
		return syscall.ESRCH // its number may be somebody else's
	default:
	}
	if sig == syscall.SIGTSTP { // which the kernel drops: nobody of the command's session could continue it
		sig = syscall.SIGSTOP
	}
	if toGroup[sig] {
		return syscall.Kill(-pid, sig)
	}
	return syscall.Kill(pid, sig)
}

func (l *live) name() string { return l.id }

func (l *live) makeRoom() { l.s.store.makeRoom() }

func (l *live) saveScreen(text []byte) { l.s.store.saveScreen(l.id, text) }

// snapshot is the run as it is now.
func (l *live) snapshot() runs.Run {
	l.mu.Lock()
	defer l.mu.Unlock()
	run := l.run
	if run.State == runs.StateRunning { // before that io may not be looked at: launch writes it
		l.io.account(&run)
	}
	l.s.store.addScreen(&run)
	return run
}

// seen is the run as clients see it: a job's is live until no process of it is left, as its lock has it. An agent that
// starts while what the command left behind still has its grace then waits for that.
func (l *live) seen() runs.Run {
	run := l.snapshot()
	if l.member.cron && !run.Live() {
		run.State, run.Ended, run.EndSeq = runs.StateRunning, time.Time{}, 0
		run.ExitCode, run.Signal, run.OOM, run.TimedOut = 0, 0, false, false
	}
	return run
}

func exitOf(run runs.Run) session.Exit {
	return session.Exit{
		Run: run.ID, Code: run.ExitCode, Signal: run.Signal, OOM: run.OOM, PeakMemory: run.PeakMemory,
		TimedOut: run.TimedOut, Took: run.Took(), Message: runs.Verdict(run),
	}
}
