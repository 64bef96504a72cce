package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// Verdict is what a load balancer is told, and why.
type Verdict struct {
	Healthy   bool      `json:"healthy"`
	Status    int       `json:"status"` // as answered: 200 to 599
	Reason    string    `json:"reason"` // one line that an operator can act on
	LatencyMS float64   `json:"latency_ms"`
	At        time.Time `json:"at"` // when the answer behind it arrived
	State     State     `json:"state,omitempty"`
	Since     time.Time `json:"since,omitzero"` // of State
}

// Result is what one probe saw.
type Result struct {
	At        time.Time `json:"at"`
	Healthy   bool      `json:"healthy"`
	Status    int       `json:"status"` // the application's own; 0: no answer
	Reason    string    `json:"reason"`
	LatencyMS float64   `json:"latency_ms"`
	Host      string    `json:"host"` // as sent
}

// Checker asks the application and keeps its verdict for a short while. It is safe for concurrent
// use. It starts nothing by itself; a probe under way ends within Config.Timeout.
type Checker struct {
	cfg    Config
	log    *slog.Logger
	prober *prober
	probes sync.WaitGroup

	mu      sync.Mutex
	calls   map[asker]*call // under way, or younger than their lifetime
	judge   judge
	history ring
	drains  []Drain
	figures Figures
	listens listenState
	nonces  map[string]bool // questions of our own under way: whether each has arrived
}

// asker is what of an asker's request matters to the answer: nothing when a Host is configured.
type asker struct {
	own         bool // pass the asker's own Host on
	host, agent string
}

// call is one probe that any number of askers wait for.
type call struct {
	done    chan struct{}
	verdict Verdict   // once done
	noHost  bool      // once done: no Host is configured, ask again with the asker's own
	ended   time.Time // zero until done
}

// New checks c and returns every fault in it at once.
func New(c Config) (*Checker, error) {
	c = c.withDefaults()
	target, err := ParseTarget(c.Target)
	if err := errors.Join(err, c.check()); err != nil {
		return nil, err
	}
	return &Checker{
		cfg: c, log: c.Log.With("check", "health"),
		prober: newProber(target, c),
		calls:  map[asker]*call{}, nonces: map[string]bool{},
		judge: judge{failures: c.Failures, successes: c.Successes, state: Unknown, graceEnds: time.Now().Add(c.Grace)},
	}, nil
}

// Check returns a verdict not older than Config.Lifetime, asking the application if there is none.
// All who wait share one probe. It returns within Config.Timeout, or when ctx ends: then the
// verdict is 503 and says so. Drains are not looked at: that is for Handler.
func (c *Checker) Check(ctx context.Context) Verdict {
	return c.check(ctx, asker{own: true, host: c.prober.target.hostOfItsOwn()})
}

// check answers the asker own: with the configured Host's verdict, or if there is none with that
// for its own.
func (c *Checker) check(ctx context.Context, own asker) Verdict {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout+c.cfg.Timeout/8)
	defer cancel()
	v, noHost := c.share(ctx, asker{})
	if noHost {
		v, _ = c.share(ctx, own)
	}
	return v
}

// share joins the call for a, starting it if there is none young enough.
func (c *Checker) share(ctx context.Context, a asker) (v Verdict, noHost bool) {
	cl := c.join(a)
	select {
	case <-cl.done:
		return cl.verdict, cl.noHost
	case <-ctx.Done():
		reason := fmt.Sprintf("no verdict within %s", c.cfg.Timeout)
		if errors.Is(context.Cause(ctx), context.Canceled) {
			reason = "the check was interrupted before there was a verdict"
		}
		return Verdict{Status: http.StatusServiceUnavailable, Reason: reason, At: time.Now()}, false
	}
}

func (c *Checker) join(a asker) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl := c.calls[a]
	if cl != nil && (cl.ended.IsZero() || time.Since(cl.ended) < c.cfg.Lifetime) {
		return cl
	}
	c.dropOldLocked()
	cl = &call{done: make(chan struct{})}
	c.calls[a] = cl
	c.probes.Go(func() { c.answer(cl, a) })
	return cl
}

// maxVerdicts bounds what strangers' Hosts can make the agent remember.
const maxVerdicts = 64

// dropOldLocked forgets the verdicts that may not be given any more. With a configured Host there
// is one call; without, as many as there were different Hosts in the last Lifetime.
func (c *Checker) dropOldLocked() {
	crowded := len(c.calls) >= maxVerdicts
	for a, cl := range c.calls {
		if !cl.ended.IsZero() && (crowded || time.Since(cl.ended) >= c.cfg.Lifetime) {
			delete(c.calls, a)
		}
	}
}

// answer fills cl in. The probe belongs to no asker: one who leaves must not fail the others.
func (c *Checker) answer(cl *call, a asker) {
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.Timeout)
	defer cancel()
	if !a.own {
		a.host = c.configuredHost(ctx)
	}
	var r Result
	noHost := a.host == "" && !a.own
	if !noHost {
		r = c.prober.ask(ctx, a.host, a.agent)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	cl.noHost, cl.ended = noHost, time.Now()
	if !noHost {
		cl.verdict = c.recordLocked(r, a.own)
	}
	close(cl.done)
}

func (c *Checker) configuredHost(ctx context.Context) string {
	if c.cfg.Host == nil {
		return ""
	}
	return c.cfg.Host(ctx)
}

// recordLocked keeps r and says what follows from it. When each asker's own Host is passed on,
// thresholds do not apply: a stranger's Host must not count against the application.
func (c *Checker) recordLocked(r Result, own bool) Verdict {
	c.history.add(r)
	c.figures.count(r)
	if own {
		return passedOn(r)
	}
	if c.judge.see(r) {
		level := slog.LevelInfo
		if c.judge.state == Unhealthy {
			level = slog.LevelWarn
		}
		c.log.Log(context.Background(), level, "application is "+string(c.judge.state), "reason", r.Reason)
	}
	return c.judge.verdict(r)
}

// passedOn is the application's own answer, whatever it is.
func passedOn(r Result) Verdict {
	v := Verdict{Healthy: r.Healthy, Status: r.Status, Reason: r.Reason, LatencyMS: r.LatencyMS, At: r.At, State: Unhealthy}
	if r.Healthy {
		v.State = Healthy
	}
	if v.Status < 200 || v.Status > 599 {
		v.Status = http.StatusServiceUnavailable
	}
	return v
}

// History returns the last 50 results, oldest first.
func (c *Checker) History() []Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.history.list()
}

// Figures returns the counts since New.
func (c *Checker) Figures() Figures {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.figures
	f.State = c.judge.state
	f.Draining = len(c.drains) > 0
	return f
}
