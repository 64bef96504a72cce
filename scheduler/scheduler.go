package scheduler

import (
	"context"
	"sync"
	"time"
)

// Limits of the loop.
const (
	// longestSleep is how soon a change of the wall clock is seen.
	longestSleep = time.Minute
	// onTime is how late a start may be and still count as on time.
	onTime = time.Minute
	// overdueAfter is how late a start or an end must be to be reported.
	overdueAfter = 5 * time.Minute
	// lastWait is the last part of a wait, left to Config.Sleep: twice a timer's lateness.
	lastWait = 2 * time.Millisecond
)

const notRunning = "the agent was not running"

// Config of a [Scheduler].
type Config struct {
	Runner Runner // required

	// OnEvent is called with each event, never concurrently. It must not block for long, nor
	// call a method that causes events. Optional.
	OnEvent func(Event)

	// Saved has the values that the process before this one passed to Save. Optional. The Runner may get a slot again
	// whose run it recorded just before that process ended: it must not run it twice.
	Saved map[string]SavedJob

	// Save writes the changes since the last call; a zero SavedJob means that the job can be forgotten. It is called
	// before anything starts, by SetTable, and else from a goroutine of its own, never concurrently; it may be slow.
	// After an error it is called again within a minute. Optional.
	Save func(map[string]SavedJob) error

	Host     func() Host   // decides which jobs are off; called by SetTable. Optional: none are
	HostName string        // with the job's name it decides the splay: stable for this host
	Limit    int           // runs at the same time; 0: no limit
	Grace    time.Duration // how long Run waits for running jobs before it cancels them

	// Now is the wall clock. Optional: time.Now. Tests set it to step the clock.
	Now func() time.Time

	// Sleep waits for the last part of a wait, at most [lastWait], and may return early. Go's timers are up to a
	// millisecond late: an idle process waits for them in epoll_wait, which counts milliseconds. Optional: a timer.
	Sleep func(time.Duration)
}

// A Scheduler starts each job of its table when it is due. Its methods may be called at any time, from any goroutine.
type Scheduler struct {
	cfg  Config
	wake chan struct{} // there is something new for the loop
	save chan struct{} // and for the saver
	runs sync.WaitGroup

	eventMu sync.Mutex // held while OnEvent is called

	saveMu    sync.Mutex // held while Save is called
	saveFails bool       // the last call returned an error

	mu      sync.Mutex
	entries map[string]*entry
	order   []*entry        // as in the table
	due     queue           // the entries that will be due
	waiting []*entry        // starts that wait, oldest first
	busy    map[*entry]bool // those with a run or a waiting start
	running int
	locks   map[string]int      // runs that hold each lock
	saved   map[string]SavedJob // of jobs that no table has had yet
	dirty   map[string]SavedJob // to be saved
	events  []Event             // delivered when mu is released

	// The state of the loop.
	base       context.Context // of all runs; nil before Run and once it stops
	adopted    []func()        // to be called when Run begins
	holdUntil  time.Time       // on the monotonic clock; zero when not held
	lateReason string          // why slots found now are late
	wall       time.Time       // both clocks at the last tick
	mono       time.Time
	checked    time.Time // when overdue runs were last looked for
}

// New makes a Scheduler with an empty table.
func New(cfg Config) *Scheduler {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.OnEvent == nil {
		cfg.OnEvent = func(Event) {}
	}
	if cfg.Host == nil {
		cfg.Host = func() Host { return Host{} }
	}
	s := &Scheduler{
		cfg:     cfg,
		wake:    make(chan struct{}, 1),
		save:    make(chan struct{}, 1),
		entries: map[string]*entry{},
		busy:    map[*entry]bool{},
		locks:   map[string]int{},
		saved:   map[string]SavedJob{},
		dirty:   map[string]SavedJob{},
	}
	for name, k := range cfg.Saved {
		s.saved[name] = k
	}
	s.cfg.Saved = nil // it may be large
	return s
}

// Run starts what is due until ctx is done. It then starts nothing more, waits for the running jobs up to Grace,
// cancels the rest with [ErrStopping], waits for them, and returns nil. It may be called once.
func (s *Scheduler) Run(ctx context.Context) error {
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	s.start(base)

	// Save from when a new job's slots are owed before the first of them is due: else the next
	// process does not know of a slot that was claimed just before this one was killed.
	s.saveNow()
	saving, stopSaving := context.WithCancel(context.WithoutCancel(ctx))
	var saver sync.WaitGroup
	saver.Go(func() { s.saveLoop(saving) })

	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		wait := s.tick()
		if s.cfg.Sleep != nil && wait <= lastWait {
			s.cfg.Sleep(wait)
			continue
		}
		if s.cfg.Sleep != nil {
			wait -= lastWait
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.wake:
		}
	}
	s.stop(func() { cancel(ErrStopping) })
	stopSaving()
	saver.Wait()
	return nil
}

// begin lets runs start.
func (s *Scheduler) start(base context.Context) {
	s.mu.Lock()
	defer s.unlock()
	s.base = base
	s.lateReason = notRunning
	for _, adopt := range s.adopted {
		adopt()
	}
	s.adopted = nil
}

// stop lets no more runs start and waits for those in progress.
func (s *Scheduler) stop(cancel func()) {
	s.mu.Lock()
	s.base = nil
	s.waiting = nil
	now := s.cfg.Now()
	for _, e := range s.order {
		s.reportOwed(e, now)
		if e.act != nil && e.act.retry != nil { // the next process may try again, if there is one
			s.reportJob(GaveUp, e, e.act.retry.Due, 1, "failed; the agent stops before it is tried again")
		}
	}
	s.unlock()
	grace := time.AfterFunc(s.cfg.Grace, cancel)
	defer grace.Stop()
	s.runs.Wait()
}

// tick starts all that is due and gives the time until the next tick: a minute at most,
// since the wall clock may be set or the machine suspended meanwhile.
func (s *Scheduler) tick() time.Duration {
	s.mu.Lock()
	defer s.unlock()
	now := s.now()
	s.reportOverdue(now)
	if s.held() {
		return min(longestSleep, time.Until(s.holdUntil))
	}
	for len(s.due) > 0 && s.due[0].wake <= now.UnixNano() {
		s.activate(s.due[0], now)
	}
	s.lateReason = ""
	s.startWaiting()
	if len(s.due) == 0 {
		return longestSleep
	}
	return min(longestSleep, time.Duration(s.due[0].wake-s.cfg.Now().UnixNano()))
}

// reportOverdue reports, once each, runs that should have ended and starts that should have happened.
func (s *Scheduler) reportOverdue(now time.Time) {
	if now.Sub(s.checked).Abs() < longestSleep {
		return
	}
	s.checked = now
	for e := range s.busy {
		a := e.act
		if a.overdueReported {
			continue
		}
		if due, text := a.overdue(now); text != "" {
			a.overdueReported = true
			s.reportJob(Overdue, e, due, 1, text)
		}
	}
}

// held reports whether starts are held, and ends a hold that reached its limit.
func (s *Scheduler) held() bool {
	if s.holdUntil.IsZero() {
		return false
	}
	if time.Until(s.holdUntil) > 0 {
		return true
	}
	s.holdUntil = time.Time{}
	s.askAgain()
	s.lateReason = "starts were held until the limit"
	s.report(Event{Kind: HoldEnded, Text: "starts were held until the limit; nobody released them"})
	return false
}

// Hold keeps everything but manual runs from starting, until Release or for limit. A second Hold replaces the limit.
func (s *Scheduler) Hold(limit time.Duration) {
	s.mu.Lock()
	defer s.unlock()
	s.holdUntil = time.Now().Add(limit)
	s.askAgain()
	s.poke()
}

// Release ends a hold. Jobs that came due meanwhile start, each once.
func (s *Scheduler) Release() {
	s.mu.Lock()
	defer s.unlock()
	if !s.holdUntil.IsZero() {
		s.holdUntil = time.Time{}
		s.lateReason = "starts were held"
		s.askAgain()
	}
	s.poke()
}

// HeldUntil gives the limit of the present hold; the zero time when there is none.
func (s *Scheduler) HeldUntil() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holdUntil
}

// poke wakes the loop.
func (s *Scheduler) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// report queues an event; unlock delivers it.
func (s *Scheduler) report(e Event) { s.events = append(s.events, e) }

// reportJob queues an event about slots of a job, the last of them due.
func (s *Scheduler) reportJob(kind EventKind, e *entry, due time.Time, count int, text string) {
	s.report(Event{Kind: kind, Job: e.job.Name, Due: due, Count: count, Text: text})
}

// unlock releases mu, delivers the events queued under it, and then has changes saved. In
// this order a crash may repeat an event but never lose one.
func (s *Scheduler) unlock() {
	events, dirty := s.events, len(s.dirty) > 0
	s.events = nil
	s.mu.Unlock()
	if len(events) > 0 {
		s.eventMu.Lock()
		for _, e := range events {
			s.cfg.OnEvent(e)
		}
		s.eventMu.Unlock()
	}
	if !dirty {
		return
	}
	select {
	case s.save <- struct{}{}:
	default:
	}
}
