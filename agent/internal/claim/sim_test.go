package claim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// world is some machines that share a job, in a bubble's time. It judges by what the runs themselves say of their start
// and end, and never looks into the register.
type world struct {
	t       *testing.T
	f       *fakeS3
	overlap Overlap
	rerun   bool
	period  time.Duration // between two slots
	took    time.Duration // a run, at most
	faults  float64       // share of requests that are late, lost, or lose their answer

	mu      sync.Mutex
	live    map[string]string // machine and slot of each run in progress, and since when
	starts  map[start]int
	reasons map[string]int
	reports map[string]int // of a loss
	told    map[string]bool
	twice   []string
	longest time.Duration // between two starts
	last    time.Time
}

type start struct {
	slot    time.Time
	attempt int
}

// machine is one instance: its agent, which may be killed and started again, and its supervisor, which ends a run whose
// lease has passed. Its clock is wrong, and runs too fast or too slow.
type machine struct {
	w     *world
	name  string
	ahead time.Duration // of its wall clock, by which slots are due
	boot  func() time.Duration
	drift float64
	dead  context.Context
	waits atomic.Bool // a slot waits for a run in progress

	mu      sync.Mutex
	cut     time.Time // no request passes until then
	current *process  // the run in progress
}

// process is a run, as the supervisor has it.
type process struct {
	slot    time.Time
	attempt int
	until   time.Duration // by boot
	moved   chan struct{} // the lease was renewed
	stop    chan struct{}
	ended   chan struct{}
}

const simGrace = 10 * time.Second

// RoundTrip is the network between a machine and the store: it delays, loses, and loses answers. A request that its
// caller has given up may yet take effect.
func (m *machine) RoundTrip(r *http.Request) (*http.Response, error) {
	type reply struct {
		resp *http.Response
		err  error
	}
	done := make(chan reply, 1)
	fault := -1
	if rand.Float64() < m.w.faults {
		fault = rand.IntN(4)
	}
	m.mu.Lock()
	cut := time.Now().Before(m.cut)
	m.mu.Unlock()
	go func() {
		time.Sleep(rand.N(50 * time.Millisecond))
		if fault == 0 {
			time.Sleep(rand.N(9 * time.Second))
		}
		if fault == 1 || cut {
			done <- reply{nil, errReset}
			return
		}
		w := httptest.NewRecorder()
		if r.Body == nil {
			r.Body = http.NoBody
		}
		m.w.f.ServeHTTP(w, r)
		time.Sleep(rand.N(50 * time.Millisecond))
		switch fault {
		case 2:
			done <- reply{nil, errReset}
			return
		case 3:
			time.Sleep(rand.N(9 * time.Second))
		}
		done <- reply{w.Result(), nil}
	}()
	select {
	case a := <-done:
		return a.resp, a.err
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// at is when the machine's clock will be at boot.
func (m *machine) at(boot time.Duration) time.Duration {
	return time.Duration(float64(boot-m.boot()) / (1 + m.drift))
}

// start is the supervisor's: it refuses a lease that has passed, and ends the run when its work is done, when it is told
// to, when its lease has passed, or with the machine.
func (m *machine) start(slot time.Time, attempt int, until time.Duration) *process {
	if m.boot() >= until || m.dead.Err() != nil {
		return nil
	}
	p := &process{slot, attempt, until, make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{})}
	m.mu.Lock()
	m.current = p
	m.mu.Unlock()
	m.w.begin(m.name, slot, attempt)
	go func() {
		defer close(p.ended)
		defer m.w.end(m.name, slot)
		work := time.After(m.w.took/10 + rand.N(m.w.took))
		for {
			m.mu.Lock()
			left := m.at(p.until)
			m.mu.Unlock()
			select {
			case <-work:
				return
			case <-m.dead.Done():
				return
			case <-p.moved:
				continue
			case <-p.stop:
			case <-time.After(left):
			}
			select {
			case <-m.dead.Done():
			case <-time.After(rand.N(simGrace)):
			}
			return
		}
	}()
	return p
}

func (w *world) begin(name string, slot time.Time, attempt int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for other, since := range w.live {
		w.twice = append(w.twice, fmt.Sprintf("%s %s at %s beside %s", name, slot.Format(time.TimeOnly), time.Now().Format(time.TimeOnly), other+since))
	}
	w.live[name+slot.String()] = " since " + time.Now().Format(time.TimeOnly)
	w.starts[start{slot, attempt}]++
	w.longest = max(w.longest, time.Since(w.last))
	w.last = time.Now()
}

func (w *world) end(name string, slot time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.live, name+slot.String())
}

func (w *world) note(reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reasons[reason]++
}

// agent is one process of a machine's agent. Another one of it may have left a run.
func (m *machine) agent(ctx context.Context, left *process) {
	s := claimant(m.w.t, m.w.f, m.name)
	s.s3.client.Transport, s.s3.clock.boot = m, m.boot
	var tasks sync.WaitGroup
	defer tasks.Wait()
	if left != nil {
		tasks.Go(func() { m.accompany(ctx, s, left) })
	}
	for {
		now := time.Now().Add(m.ahead)
		slot := now.Truncate(m.w.period).Add(m.w.period)
		if !pause(ctx, slot.Sub(now)) {
			return
		}
		tasks.Go(func() { m.fire(ctx, s, slot) })
		if rand.IntN(10) == 0 { // a user starts one, too
			tasks.Go(func() {
				q := Request{Job: "job", Manual: true, Window: time.Minute, Grace: simGrace}
				o, err := s.Claim(ctx, q)
				m.follow(ctx, s, q, o, err)
			})
		}
	}
}

func (m *machine) fire(ctx context.Context, s *Store, slot time.Time) {
	w := m.w
	q := Request{Job: "job", Slot: slot, Window: min(time.Minute, w.period/2), Overlap: w.overlap, Grace: simGrace}
	var o Outcome
	var err error
	switch w.overlap {
	case Queue, Replace:
		if !m.waits.CompareAndSwap(false, true) {
			return // the slot that waits stands for it
		}
		o, err = claimWhenFree(ctx, s, q, func(by Run) {
			if w.overlap == Replace {
				s.AskToEnd(ctx, "job", by.Nonce)
			}
		})
		m.waits.Store(false)
	default:
		o, err = s.Claim(ctx, q)
	}
	m.follow(ctx, s, q, o, err)
	if w.rerun && err == nil && o.State == Lost && o.By.Outcome == "" {
		if pause(ctx, until(o.By, s.Now())) {
			o, err = s.TakeOver(ctx, q)
			m.follow(ctx, s, q, o, err)
		}
	}
}

// follow does what a claim decided.
func (m *machine) follow(ctx context.Context, s *Store, q Request, o Outcome, err error) {
	w := m.w
	var reported []string
	for _, run := range o.Expired {
		loss := run.Nonce + " of " + run.Renewed.Format(time.TimeOnly) // its owner may come back, and lose it again
		w.mu.Lock()
		if w.reports[loss]++; w.told[loss] {
			w.twice = append(w.twice, fmt.Sprintf("the loss of %s was reported again by %s", loss, m.name))
		}
		w.mu.Unlock()
		reported = append(reported, loss)
	}
	if len(reported) > 0 {
		go m.tell(ctx, s, reported)
	}
	if err != nil {
		w.note("missed")
		return
	}
	if w.note(string(o.State)); o.State != Won {
		return
	}
	if rand.IntN(20) == 0 { // it waits for a lock, or the agent is stopped
		if !pause(ctx, rand.N(10*time.Minute)) {
			return
		}
	}
	q.Slot, q.Attempt = o.Run.Slot, o.Run.Attempt
	p := m.start(q.Slot, o.Run.Attempt, o.LeaseUntil)
	if p == nil {
		m.finish(ctx, s, q.Slot, Result{Attempt: o.Run.Attempt, Outcome: "not started: its lease passed first"})
		return
	}
	m.accompany(ctx, s, p)
	if rand.IntN(4) > 0 || !pause(ctx, rand.N(time.Minute)) {
		return
	}
	q.Attempt = max(q.Attempt, 1) + 1 // it failed
	o, err = s.Claim(ctx, q)
	m.follow(ctx, s, q, o, err)
}

// accompany renews a run's lease until it has ended, and records that.
func (m *machine) accompany(ctx context.Context, s *Store, p *process) {
	every := time.NewTicker(RenewEvery)
	defer every.Stop()
	for {
		m.renew(ctx, s, p)
		select {
		case <-ctx.Done():
			return
		case <-p.ended:
			r := Result{Attempt: p.attempt, Outcome: "exit 0"}
			s.Ended("job", p.slot, r)
			go func() { // in the background, perhaps after the next claim
				if pause(ctx, rand.N(2*time.Minute)*time.Duration(rand.IntN(2))) {
					m.finish(ctx, s, p.slot, r)
				}
			}()
			return
		case <-every.C:
		}
	}
}

func (m *machine) renew(ctx context.Context, s *Store, p *process) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := s.Renew(ctx, "job", p.slot, simGrace)
	if err != nil && !strings.Contains(err.Error(), ErrNotRecorded.Error()) {
		return
	}
	if err != nil || r.ReplacedBy != "" {
		select {
		case p.stop <- struct{}{}:
		default:
		}
		return
	}
	m.mu.Lock()
	p.until = max(p.until, r.LeaseUntil)
	m.mu.Unlock()
	select {
	case p.moved <- struct{}{}:
	default:
	}
}

// tell has the register note what has been reported, unless the process is killed first.
func (m *machine) tell(ctx context.Context, s *Store, reported []string) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if s.Told(ctx, "job") != nil {
		return
	}
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	for _, loss := range reported {
		m.w.told[loss] = true
	}
}

func (m *machine) finish(ctx context.Context, s *Store, slot time.Time, r Result) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s.Finish(ctx, "job", slot, r)
}

// live is a machine's life: its agent is killed and started again, its network is cut, and it dies. Another takes its place.
func (w *world) liveOnce(ctx context.Context, name string) {
	ctx, die := context.WithCancel(ctx)
	defer die()
	offset, from, drift := rand.N(100*time.Hour), time.Now(), rand.Float64()*0.02-0.01
	m := &machine{w: w, name: name, drift: drift, dead: ctx, ahead: rand.N(4*time.Minute) - 2*time.Minute}
	m.boot = func() time.Duration { return offset + time.Duration(float64(time.Since(from))*(1+drift)) }
	death := time.AfterFunc(rand.N(3*time.Hour), die)
	defer death.Stop()
	for ctx.Err() == nil {
		process, kill := context.WithCancel(ctx)
		m.mu.Lock()
		left := m.current
		if rand.IntN(3) == 0 {
			m.cut = time.Now().Add(rand.N(15 * time.Minute))
		}
		m.mu.Unlock()
		time.AfterFunc(rand.N(40*time.Minute), kill)
		m.agent(process, left)
		kill()
		pause(ctx, rand.N(5*time.Minute)) // until systemd has started it again
	}
}

func (w *world) run(machines int, d time.Duration) {
	w.live, w.starts, w.reasons, w.reports = map[string]string{}, map[start]int{}, map[string]int{}, map[string]int{}
	w.told, w.last = map[string]bool{}, time.Now()
	ctx, cancel := context.WithTimeout(w.t.Context(), d)
	defer cancel()
	var all sync.WaitGroup
	for i := range machines {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				w.liveOnce(ctx, fmt.Sprintf("i-%d-%d", i, n))
				pause(ctx, rand.N(5*time.Minute))
			}
		})
	}
	all.Wait()
	time.Sleep(time.Minute) // what is in flight lands
	synctest.Wait()
}

// judge reports what must never be: two runs of the job at once, two first attempts at a slot, a loss that is reported
// again though the register has that it was.
func (w *world) judge() (faults []string) {
	faults = append(faults, w.twice...)
	for s, n := range w.starts {
		if n > 1 {
			faults = append(faults, fmt.Sprintf("slot %s, attempt %d, was started %d times", s.slot.Format(time.TimeOnly), s.attempt, n))
		}
	}
	return faults
}

// claimWhenFree claims a slot, and again for as long as it is Busy, as the agent does for queue and replace. busy is called
// with each run that is in the way, once.
func claimWhenFree(ctx context.Context, s *Store, q Request, busy func(Run)) (Outcome, error) {
	by := ""
	for look := time.Second; ; look = min(2*look, 15*time.Second) {
		o, err := s.Claim(ctx, q)
		if err != nil || o.State != Busy {
			return o, err
		}
		if o.By.Nonce != by {
			busy(o.By)
		}
		by = o.By.Nonce
		if !pause(ctx, min(look, o.Again)) {
			return Outcome{}, context.Cause(ctx)
		}
	}
}
