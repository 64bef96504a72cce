package notify

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

const (
	firstPause = time.Second
	maxPause   = 5 * time.Minute
	giveUp     = time.Hour // then a notice is too old and dropped
)

// TargetStatus counts the notices of one target.
type TargetStatus struct {
	Name      string    `json:"name"`
	Type      Type      `json:"type"`
	Queued    int       `json:"queued"`
	Sent      uint64    `json:"sent"`
	Dropped   uint64    `json:"dropped"`   // refused for good, too old, or the queue was full
	HeldBack  uint64    `json:"held_back"` // by the cooldown
	LastSent  time.Time `json:"last_sent,omitzero"`
	LastError string    `json:"last_error,omitempty"` // "" once a notice was sent again
}

// sender sends one target's notices, in order.
type sender struct {
	target Target
	client *client
	expand func(string) (string, error)
	where  func(context.Context) (host, environment string)
	log    *slog.Logger
	wake   chan struct{} // holds a token when there is something new

	mu     sync.Mutex
	policy policy
	queue  []queued
	st     TargetStatus
}

type queued struct {
	notice
	since time.Time
}

func newSender(t Target, c Config, http *http.Client, cooldown time.Duration) *sender {
	return &sender{
		target: t, client: &client{http}, expand: c.Expand, where: c.Where, log: c.Log.With("target", t.Name),
		wake:   make(chan struct{}, 1),
		policy: policy{cooldown: cooldown, jobs: map[string]*jobNotices{}},
		st:     TargetStatus{Name: t.Name, Type: t.Type},
	}
}

// add queues the notice for e, if there is to be one.
func (s *sender) add(e Event) {
	if !s.target.wants(e) {
		return
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := notice{Event: e}, true
	if s.target.Type != CheckIn {
		n, ok = s.policy.onEvent(e, now)
	}
	if ok {
		s.pushLocked(n, now)
	} else {
		s.st.HeldBack++
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *sender) pushLocked(n notice, now time.Time) {
	if len(s.queue) >= maxQueue {
		s.st.Dropped++
		return
	}
	s.queue = append(s.queue, queued{n, now})
}

// run sends until ctx is done; the rest stays queued.
func (s *sender) run(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		q, ok := s.head(time.Now())
		if !ok {
			s.wait(ctx)
			continue
		}
		retryIn, err := s.send(ctx, q.notice)
		if ctx.Err() != nil {
			return
		}
		again := err != nil && retryIn >= 0 && time.Since(q.since) < giveUp
		s.recordAttempt(err, again)
		if !again {
			pause = firstPause
			continue
		}
		sleep(ctx, max(pause, retryIn))
		pause = min(2*pause, maxPause)
	}
}

// head returns the notice to send next, after adding those whose cooldown is over.
func (s *sender) head(now time.Time) (queued, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.policy.due(now) {
		s.pushLocked(n, now)
	}
	if len(s.queue) == 0 {
		return queued{}, false
	}
	return s.queue[0], true
}

// wait returns when there may be something to send.
func (s *sender) wait(ctx context.Context) {
	s.mu.Lock()
	at := s.policy.next()
	s.mu.Unlock()
	var timer <-chan time.Time
	if !at.IsZero() {
		timer = time.After(time.Until(at))
	}
	select {
	case <-ctx.Done():
	case <-s.wake:
	case <-timer:
	}
}

// recordAttempt counts an attempt's outcome and removes the head unless it is tried again.
func (s *sender) recordAttempt(err error, again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.st.LastError
	s.st.LastError = ""
	if err != nil {
		s.st.LastError = err.Error()
	}
	switch {
	case err == nil:
		s.st.Sent++
		s.st.LastSent = time.Now()
	case !again:
		s.st.Dropped++
	}
	if !again {
		s.queue = s.queue[1:]
	}
	switch {
	case err != nil && was == "":
		s.log.Warn("notice could not be sent", "err", err, "again", again)
	case err == nil && was != "":
		s.log.Info("notices are sent again")
	}
}

// flush tries each queued notice once, until ctx is done, and logs how many are lost.
func (s *sender) flush(ctx context.Context) {
	lost := 0
	for q, ok := s.head(time.Now()); ok && ctx.Err() == nil; q, ok = s.head(time.Now()) {
		_, err := s.send(ctx, q.notice)
		s.recordAttempt(err, false)
		if err != nil {
			lost++
		}
	}
	if lost += s.status().Queued; lost > 0 {
		s.log.Warn("notices were not sent before the end", "lost", lost)
	}
}

func (s *sender) status() TargetStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.st
	st.Queued = len(s.queue)
	return st
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
