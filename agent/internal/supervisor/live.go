package supervisor

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

// live is a run that has not ended, or whose left-behind processes have not.
type live struct {
	s     *server
	id    string
	lock  string
	grace time.Duration
	group *command.Group
	proc  *command.Process
	io    streams
	ended chan struct{} // closed once the status is on disk
	gone  chan struct{} // closed once no process is left and the lock is free

	mu    sync.Mutex
	run   runs.Run
	ender sync.WaitGroup // End at work
}

// streams is a run's standard streams: piped, terminal or spooled.
type streams interface {
	files() [3]int         // for the command
	begun(l *live)         // the command runs
	failed()               // it does not: close everything, in silence
	finish(e session.Exit) // it has ended, and that is known: deliver what is left, then the exit, and close everything
	account(run *runs.Run) // fill in what is known of the output
}

// start does what a request asks for. The descriptors are its own to close.
func (s *server) start(ctx context.Context, body runs.StartBody, files []int) (runs.Run, *runs.Refused) {
	cred, refusal := s.cfg.check(&body.Request)
	if refusal != nil {
		closeFiles(files)
		return runs.Run{}, refusal
	}
	l, refusal := s.reserve(ctx, &body.Request)
	if refusal != nil {
		closeFiles(files)
		return runs.Run{}, refusal
	}
	if refusal = l.launch(body, cred, files); refusal != nil {
		s.store.remove(l.id)
		s.store.acknowledge(l.run.StartSeq)
		s.forget(l)
		s.work.Done()
		return runs.Run{}, refusal
	}
	run := l.snapshot()
	s.log.Info("run started", "run", run.ID, "job", run.Name, "kind", run.Kind, "pid", run.PID)
	return run, nil
}

// reserve gives the request an id and its lock, and records it: from here on it is live.
func (s *server) reserve(ctx context.Context, req *runs.Request) (*live, *runs.Refused) {
	run := newRun(req)
	run.Supervisor = s.cfg.Version
	l := &live{
		s: s, id: run.ID, lock: run.Lock, grace: cmp.Or(req.Grace, stopGrace), run: run,
		ended: make(chan struct{}), gone: make(chan struct{}),
	}
	if refusal := s.enlist(ctx, l, req.LockWait); refusal != nil {
		return nil, refusal
	}
	err := s.store.create(&run)
	l.mu.Lock() // it is on the books already, and may be asked for
	l.run = run
	l.mu.Unlock()
	if err != nil && req.IO != runs.IOSpool {
		s.log.Error("cannot record run; it goes on", "run", l.id, "err", err) // on a full disk a person must be able to work
	} else if err != nil {
		if !errors.Is(err, fs.ErrExist) { // what is there is another's
			s.store.remove(l.id) // or the next supervisor tells of a run that was lost
		}
		s.store.acknowledge(l.run.StartSeq)
		s.forget(l)
		s.work.Done()
		return nil, &runs.Refused{Status: 500, Message: err.Error()}
	}
	return l, nil
}

// enlist waits for the lock for at most wait.
func (s *server) enlist(ctx context.Context, l *live, wait time.Duration) *runs.Refused {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		s.mu.Lock()
		refusal, changed := s.enlistLocked(l), s.changed
		s.mu.Unlock()
		if refusal == nil || refusal.Kind != runs.KindLocked || wait <= 0 {
			return refusal
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return refusal
		}
	}
}

func (s *server) enlistLocked(l *live) *runs.Refused {
	if s.closing {
		return &runs.Refused{Status: 503, Kind: runs.KindClosing, Message: "the supervisor is shutting down", Hint: "try again in a moment"}
	}
	if other, ok := s.live[l.id]; ok {
		run := other.snapshot()
		return &runs.Refused{Status: 409, Kind: runs.KindExists, Message: "run " + l.id + " exists", Run: &run}
	}
	if s.store.has(l.id) {
		return &runs.Refused{Status: 409, Kind: runs.KindExists, Message: "run " + l.id + " exists"}
	}
	if holder, ok := s.locks.take(l.lock, l.id); !ok {
		return lockedBy(l.lock, s.live[holder].snapshot())
	}
	s.live[l.id] = l
	s.work.Add(1)
	return nil
}

func lockedBy(name string, run runs.Run) *runs.Refused {
	who := cmp.Or(run.Caller.Login, run.Kind)
	return &runs.Refused{
		Status: 409, Kind: runs.KindLocked, Code: command.CodeRefused, Run: &run,
		Message: "lock " + name + " is held by run " + run.ID + " (" + run.Name + ", " + who + ", since " + run.Started.UTC().Format("15:04:05") + " UTC)",
		Hint:    "agent wait " + run.ID + ", or agent stop " + run.ID,
	}
}

// forget takes a run off the books: it never began, or it is gone whole.
func (s *server) forget(l *live) {
	s.mu.Lock()
	delete(s.live, l.id)
	s.locks.release(l.lock, l.id)
	s.changedLocked()
	s.mu.Unlock()
	close(l.gone)
}

func newRun(req *runs.Request) runs.Run {
	return runs.Run{
		ID: cmp.Or(req.ID, runs.NewID()), Kind: cmp.Or(req.Kind, "exec"), Name: cmp.Or(req.Name, filepath.Base(req.Args[0])),
		Args: req.Args, IO: req.IO, Dir: req.Dir, User: req.User, UID: req.UID, Caller: req.Caller, Lock: req.Lock,
		Version: req.Version, Slot: req.Slot, Attempt: req.Attempt, Reason: req.Reason, Meta: req.Meta, Detached: req.Detached,
		State: runs.StateStarting, Started: time.Now(),
	}
}

// launch starts the command. On error nothing of it is left but the record.
func (l *live) launch(body runs.StartBody, cred *command.Credential, files []int) *runs.Refused {
	io, refusal := l.s.connect(body, l, files) // takes the files over
	if refusal != nil {
		return refusal
	}
	err := l.fork(body, cred, io)
	if err != nil {
		io.failed()
		if l.group != nil {
			l.group.Remove()
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
	l.s.store.acknowledge(run.StartSeq)
	io.begun(l)
	if t, ok := io.(*terminal); ok {
		l.s.show(l.id, t)
	}
	go l.follow(body.Timeout) // server.work waits for it
	if l.s.announce() {
		l.stop("shutdown", min(l.grace, shutdownGrace)) // endAll passed us by while we were starting
	}
	return nil
}

func (l *live) fork(body runs.StartBody, cred *command.Credential, io streams) (err error) {
	l.io = io
	if l.group, err = l.s.place.Group(l.id, command.Limits{Memory: body.MemoryMax}); err != nil {
		return err
	}
	l.proc, err = command.Start(command.Spec{
		Args: body.Args, Env: body.Env, Files: io.files(), Dir: body.Dir, Cred: cred, Umask: body.Umask,
		Terminal: body.IO == runs.IOTerminal, Group: l.group, NoNewPrivs: body.NoNewPrivs, OOMScoreAdj: body.OOMScoreAdj,
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

// follow waits for the command, records its end, tells it, and sees the last of its processes go.
func (l *live) follow(timeout time.Duration) {
	if timeout > 0 {
		t := time.AfterFunc(timeout, func() { l.stop("timeout", 0) })
		defer t.Stop()
	}
	<-l.proc.Done()
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
		l.s.show(l.id, nil)
	})
	l.s.announce()
	l.cleanUp()
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
	l.io.account(&run)
	return run
}

// cleanUp ends what the command left behind: its group is the run's, and holds the lock's name.
func (l *live) cleanUp() {
	l.ender.Wait()
	if err := l.group.End(command.Step{Signal: syscall.SIGTERM, Wait: l.grace}); err != nil {
		l.s.log.Error("cannot end what a run left behind", "run", l.id, "err", err)
	}
	if err := l.group.Remove(); err != nil {
		l.s.log.Warn("cannot remove a run's control group", "run", l.id, "err", err)
	}
}

// stop ends the run: TERM to every process, grace (0: the run's own), KILL. It returns at once. Whoever
// comes first is who stopped it. A terminal is hung up first, since an interactive shell ignores TERM.
func (l *live) stop(by string, grace time.Duration) {
	term := command.Step{Signal: syscall.SIGTERM, Wait: cmp.Or(grace, l.grace)}
	if l.onTerminal() {
		l.end(by, command.Step{Signal: syscall.SIGHUP, Wait: min(hangupWait, term.Wait)}, term)
		return
	}
	l.end(by, term)
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

// vanished ends the run as a terminal's hang-up would, DESIGN §5.
func (l *live) vanished() {
	l.end("client vanished", command.Step{Signal: syscall.SIGHUP, Wait: hangupWait}, command.Step{Signal: syscall.SIGTERM, Wait: 3 * time.Second})
}

func (l *live) end(by string, steps ...command.Step) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.run.State != runs.StateRunning || l.run.StoppedBy != "" {
		return
	}
	l.run.StoppedBy = by
	l.ender.Go(func() {
		if err := l.group.End(steps...); err != nil {
			l.s.log.Error("cannot end run", "run", l.id, "err", err)
		}
	})
}

// toGroup are the signals that a terminal sends to everyone in the foreground, and the two that ask a
// whole pipeline to go. Others reach the command alone: their default is to end who does not expect them.
var toGroup = map[syscall.Signal]bool{
	syscall.SIGINT: true, syscall.SIGQUIT: true, syscall.SIGHUP: true, syscall.SIGTERM: true,
	syscall.SIGTSTP: true, syscall.SIGCONT: true, syscall.SIGWINCH: true,
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
	if toGroup[sig] {
		return syscall.Kill(-pid, sig)
	}
	return syscall.Kill(pid, sig)
}

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

func exitOf(run runs.Run) session.Exit {
	return session.Exit{
		Run: run.ID, Code: run.ExitCode, Signal: run.Signal, OOM: run.OOM, PeakMemory: run.PeakMemory,
		TimedOut: run.TimedOut, Took: run.Took(), Message: runs.Verdict(run),
	}
}
