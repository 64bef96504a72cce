package supervisor

import (
	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/runs"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"
)

// start does what a request asks for. It takes the descriptors that came with it when the command can be started:
// until then they are the connection's to close.
func (s *server) start(ctx context.Context, body runs.StartBody, take func() []int) (runs.Run, *runs.Refused) {
	cred, refusal := s.cfg.check(&body.Request)
	if refusal != nil {
		return runs.Run{}, refusal
	}
	if refusal = crowded(body.UID, body.Caller.UID); refusal != nil {
		return runs.Run{}, refusal
	}
	l, refusal := s.reserve(ctx, &body.Request)
	if refusal != nil {
		return runs.Run{}, refusal
	}
	if refusal = l.launch(ctx, body, cred, take); refusal != nil {
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

// crowded refuses a start for users of whom too much has hung here already.
func crowded(users ...uint32) *runs.Refused {
	for _, uid := range users {
		if n := fdconn.Closing.Of(uid); uid != 0 && n >= fdconn.MaxClosing {
			return &runs.Refused{Status: 429, Code: command.CodeRefused,
				Message: fmt.Sprintf("%d descriptors of user %d cannot be closed: a process holds each up", n, uid)}
		}
	}
	return nil
}

// reserve gives the request an id and its lock, and records it: from here on it is live.
func (s *server) reserve(ctx context.Context, req *runs.Request) (*live, *runs.Refused) {
	run := newRun(req)
	run.Supervisor = s.cfg.Version
	l := &live{
		s: s, id: run.ID, member: memberOf(req), lock: req.Lock, grace: cmp.Or(req.Grace, stopGrace), run: run,
		begun: make(chan struct{}), ended: make(chan struct{}), gone: make(chan struct{}),
	}
	l.lease = s.leases.hold(l.id, req.Lease, req.LeaseFrom)
	if refusal := s.enlist(ctx, l, req.LockWait); refusal != nil {
		l.lease.drop()
		return nil, refusal
	}
	err := s.store.create(&run)
	l.mu.Lock() // enlisted, so others may ask for it already
	l.run = run
	l.mu.Unlock()
	if err != nil && req.IO != runs.IOSpool { // on a full disk a person must be able to work
		s.log.Error("cannot record run; it goes on", "run", l.id, "err", err)
	} else if err != nil {
		if !errors.Is(err, fs.ErrExist) { // what is there is another's
			s.store.remove(l.id) // or the next supervisor reports a lost run
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
		return &runs.Refused{Status: 503, Kind: runs.KindClosing,
			Message: "the supervisor is shutting down", Hint: "try again in a moment"}
	}
	if other, ok := s.live[l.id]; ok {
		run := other.snapshot()
		return &runs.Refused{Status: 409, Kind: runs.KindExists, Message: "run " + l.id + " exists", Run: &run}
	}
	if s.store.has(l.id) {
		return &runs.Refused{Status: 409, Kind: runs.KindExists, Message: "run " + l.id + " exists"}
	}
	if l.lock != "" {
		if holder, held := s.locks[l.lock]; held {
			return lockedBy(s.live[holder].snapshot())
		}
	}
	if refusal := s.crowd.enter(l.member); refusal != nil {
		return refusal
	}
	if l.lock != "" {
		s.locks[l.lock] = l.id
	}
	s.live[l.id] = l
	s.work.Add(1)
	return nil
}

func lockedBy(run runs.Run) *runs.Refused {
	return &runs.Refused{
		Status: 409, Kind: runs.KindLocked, Code: command.CodeRefused, Run: &run,
		Message: fmt.Sprintf("lock %s is held by run %s (%s, %s, since %s UTC)", run.Lock, run.ID, run.Name,
			cmp.Or(run.Caller.Login, run.Kind), run.Started.UTC().Format("15:04:05")),
		Hint: "agent wait " + run.ID + ", or agent stop " + run.ID,
	}
}

func newRun(req *runs.Request) runs.Run {
	return bounded(runs.Run{
		ID: cmp.Or(req.ID, runs.NewID()), Kind: cmp.Or(req.Kind, "exec"),
		Name: cmp.Or(req.Name, strings.Clone(filepath.Base(req.Args[0]))), Args: req.Args, IO: req.IO, Dir: req.Dir,
		User: req.User, UID: req.UID, Caller: req.Caller, Lock: req.Lock, Version: req.Version, Slot: req.Slot,
		Attempt: req.Attempt, Reason: req.Reason, Meta: req.Meta, Detached: req.Detached,
		State: runs.StateStarting, Started: time.Now(),
	})
}
