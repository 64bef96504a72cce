package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"beanstalk-agent/agent/internal/endpoint"
)

// Verdict is what a load balancer is told, and why.
type Verdict struct {
	Healthy   bool      `json:"healthy"`
	Status    int       `json:"status"` // as answered: 200 to 599
	Reason    string    `json:"reason"` // one line that an operator can act on
	LatencyMS float64   `json:"latency_ms"`
	At        time.Time `json:"at"` // when the answer behind it arrived
	Host      string    `json:"host,omitempty"`
	Target    string    `json:"target,omitempty"` // who was asked, without a query; empty: nobody could be
	State     State     `json:"state,omitempty"`
	Since     time.Time `json:"since,omitzero"` // of State
}

// Result is what one probe saw.
type Result struct {
	At        time.Time `json:"at"`
	Healthy   bool      `json:"healthy"`
	Unknown   bool      `json:"unknown,omitempty"` // it does not tell whether the application is up
	Status    int       `json:"status"`            // the application's own; 0: no answer
	Reason    string    `json:"reason"`
	LatencyMS float64   `json:"latency_ms"`
	Host      string    `json:"host"`             // as sent
	Target    string    `json:"target,omitempty"` // as in Verdict
}

// Checker asks the application and keeps its verdict for a short while. It is safe for concurrent
// use. It starts nothing by itself; a probe under way ends within Config.Timeout.
type Checker struct {
	cfg    Config
	log    *slog.Logger
	retry  time.Duration // between attempts to listen
	probes sync.WaitGroup

	fallbackMu sync.Mutex
	fallback   string // what NginxFile holds, as far as is known

	mu       sync.Mutex
	prober   *prober         // of the last target; nil before the first probe
	host     string          // as Config.Host told last
	hostTold bool            // at least once
	hostErr  error           // why not; nil once hostTold
	blind    bool            // load balancers are answered 200 without knowing
	calls    map[asker]*call // under way, or younger than their lifetime
	judge    judge
	history  ring
	figures  Figures
	listens  listenState
	nonces   map[string]bool // questions of our own under way: whether each has arrived
}

// asker is what of an asker's request matters to the answer: nothing when a Host is configured.
type asker struct {
	own         bool   // pass the asker's own Host on
	host, agent string // no host: the target's own
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
	if err := c.check(); err != nil {
		return nil, err
	}
	return &Checker{
		cfg: c, log: c.Log.With("check", "health"), retry: 5 * time.Second,
		calls: map[asker]*call{}, nonces: map[string]bool{},
		judge: judge{failures: c.Failures, successes: c.Successes, state: Unknown, graceEnds: time.Now().Add(c.Grace)},
	}, nil
}

// Check returns a verdict not older than Config.Lifetime, asking the application if there is none.
// All who wait share one probe. It returns within Config.Timeout and half a second, or when ctx
// ends: then the verdict is 503 and says so. Drains are not looked at: that is for Handler.
func (c *Checker) Check(ctx context.Context) Verdict {
	return c.check(ctx, asker{own: true})
}

// slack is what an asker waits beyond a probe's time limit, for a machine too busy to end it in time.
const slack = 500 * time.Millisecond

// check answers the asker own: with the configured Host's verdict, or if there is none with that
// for its own.
func (c *Checker) check(ctx context.Context, own asker) Verdict {
	if v, ok := c.kept(); ok {
		return v
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout+slack)
	defer cancel()
	v, noHost := c.share(ctx, asker{})
	if noHost {
		v, _ = c.share(ctx, own)
	}
	return v
}

// kept is the configured Host's verdict, if it is young enough: by far the most common answer.
func (c *Checker) kept() (Verdict, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl := c.calls[asker{}]
	if cl == nil || cl.noHost || !c.youngLocked(cl) {
		return Verdict{}, false
	}
	return cl.verdict, true
}

// youngLocked reports whether cl has ended and may still be given.
func (c *Checker) youngLocked(cl *call) bool {
	return !cl.ended.IsZero() && time.Since(cl.ended) < c.cfg.Lifetime
}

// share joins the call for a, starting it if there is none young enough.
func (c *Checker) share(ctx context.Context, a asker) (v Verdict, noHost bool) {
	cl := c.join(a)
	if cl == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.judgeLocked(noProbe(a, fmt.Sprintf("it is being asked with %d other Hosts", maxVerdicts)), a), false
	}
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

// join returns nil when the application is being asked with as many of the askers' own Hosts as may be.
func (c *Checker) join(a asker) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl := c.calls[a]
	if cl != nil && (cl.ended.IsZero() || c.youngLocked(cl)) {
		return cl
	}
	c.dropOldLocked()
	if a.own && len(c.calls) >= maxVerdicts {
		return nil
	}
	cl = &call{done: make(chan struct{})}
	c.calls[a] = cl
	c.probes.Go(func() { c.answer(cl, a) })
	return cl
}

// maxVerdicts bounds what strangers' Hosts can make the agent remember, and ask for at a time.
const maxVerdicts = 64

// dropOldLocked forgets the verdicts that may not be given any more. With a configured Host there
// is one call; without, as many as there were different Hosts in the last Lifetime.
func (c *Checker) dropOldLocked() {
	crowded := len(c.calls) >= maxVerdicts
	for a, cl := range c.calls {
		if !cl.ended.IsZero() && (crowded || !c.youngLocked(cl)) {
			delete(c.calls, a)
		}
	}
}

// answer fills cl in. The probe belongs to no asker: one who leaves must not fail the others.
func (c *Checker) answer(cl *call, a asker) {
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.Timeout)
	defer cancel()
	r, noHost := c.probe(ctx, a)
	c.mu.Lock()
	defer c.mu.Unlock()
	cl.noHost, cl.ended = noHost, time.Now()
	if !noHost {
		cl.verdict = c.recordLocked(r, a)
	}
	close(cl.done)
}

// probe asks the application for a. noHost: there is no configured Host to ask with. A panic, in the
// configured functions too, is a failed probe: those who wait must be answered.
func (c *Checker) probe(ctx context.Context, a asker) (r Result, noHost bool) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("probe panicked", "err", p, "stack", string(debug.Stack()))
			r, noHost = noProbe(a, "the probe itself failed, which is a fault of the agent: see its log"), false
		}
	}()
	configured := ""
	if !a.own {
		if configured = c.configuredHost(ctx); configured == "" {
			return Result{}, true
		}
		a.host = configured
	}
	p, err := c.currentProber(ctx)
	if err != nil {
		return noProbe(a, "the application's address is not known: "+err.Error()), false
	}
	c.keepFallback(configured, p.target)
	a.host = cmp.Or(a.host, p.target.DefaultHost())
	if err := endpoint.CheckHost(a.host); err != nil { // a value of the environment: never checked before
		return noProbe(a, err.Error()), false
	}
	r = p.ask(ctx, a.host, a.agent)
	if a.own && !r.Healthy && 300 <= r.Status && r.Status <= 499 {
		c.excuse(&r)
	}
	return r, false
}

// excuse marks a refusal of the asker's own Host as telling nothing, if there may be a right Host.
func (c *Checker) excuse(r *Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hostErr != nil {
		r.Unknown = true
		r.Reason = fmt.Sprintf("cannot tell: the Host to ask with is not known (%v), and with the asker's own: %s", c.hostErr, r.Reason)
	}
}

// noProbe is the result of a probe that could not be sent.
func noProbe(a asker, reason string) Result {
	return Result{At: time.Now(), Host: a.host, Unknown: true, Reason: "cannot tell: " + reason}
}

// currentProber asks where the application is and keeps the prober as long as that does not change,
// or cannot be told.
func (c *Checker) currentProber(ctx context.Context) (*prober, error) {
	target, err := c.findTarget(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil && c.prober == nil:
		return nil, err
	case err == nil && (c.prober == nil || c.prober.target != target):
		c.prober = newProber(target, c.cfg)
	}
	return c.prober, nil
}

func (c *Checker) findTarget(ctx context.Context) (endpoint.Endpoint, error) {
	if c.cfg.Target != "" {
		return endpoint.Parse(c.cfg.Target)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout/4)
	defer cancel()
	address, err := c.cfg.FindTarget(ctx)
	if err != nil {
		return endpoint.Endpoint{}, err
	}
	return endpoint.Parse(address)
}

// configuredHost is the Host to ask with, as last known; "": there is none, as far as is known.
func (c *Checker) configuredHost(ctx context.Context) string {
	if c.cfg.Host == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout/2) // the rest is for the application
	defer cancel()
	host, err := c.cfg.Host(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.host, c.hostErr, c.hostTold = host, nil, true
	case !c.hostTold:
		c.hostErr = err
	}
	return c.host
}

// recordLocked keeps r and says what follows from it.
func (c *Checker) recordLocked(r Result, a asker) Verdict {
	c.history.add(r)
	c.figures.count(r)
	v := c.judgeLocked(r, a)
	v.Host, v.Target = r.Host, r.Target
	return v
}

// judgeLocked turns r into a verdict. When each asker's own Host is passed on, thresholds do not apply
// and a stranger's Host does not count against the application: Figures then show what was last said
// to a load balancer.
func (c *Checker) judgeLocked(r Result, a asker) Verdict {
	if c.cfg.UnknownHealthy {
		if !a.own || a.agent != "" {
			c.setBlindLocked(r)
		}
		if r.Unknown {
			return Verdict{Status: http.StatusOK, Reason: r.Reason + "; answered 200 all the same, as health.unknown says", LatencyMS: r.LatencyMS, At: r.At, State: Unknown}
		}
	}
	if a.own {
		v := passedOn(r)
		if a.agent != "" {
			c.figures.State = v.State
		}
		return v
	}
	if c.judge.see(r) {
		level := slog.LevelInfo
		if c.judge.state == Unhealthy {
			level = slog.LevelWarn
		}
		c.log.Log(context.Background(), level, "application is "+string(c.judge.state), "reason", r.reasonForLog())
	}
	return c.judge.verdict(r)
}

// setBlindLocked tells when load balancers begin to be answered without knowing, and when that ends.
func (c *Checker) setBlindLocked(r Result) {
	switch {
	case r.Unknown && !c.blind:
		c.log.Warn("load balancers are answered 200 without knowing whether the application is up", "reason", r.reasonForLog())
	case !r.Unknown && c.blind:
		c.log.Info("the application is judged again", "reason", r.reasonForLog())
	}
	c.blind = r.Unknown
}

// reasonForLog leaves out the Host, which may be a value of the application's environment: agent
// health shows it to those who may see that.
func (r Result) reasonForLog() string {
	if r.Host == "" {
		return r.Reason
	}
	return strings.ReplaceAll(r.Reason, r.Host, "…")
}

// passedOn is the application's own answer, whatever it is, if that tells anything.
func passedOn(r Result) Verdict {
	v := Verdict{Healthy: r.Healthy, Status: r.Status, Reason: r.Reason, LatencyMS: r.LatencyMS, At: r.At, State: Unhealthy}
	if r.Healthy {
		v.State = Healthy
	}
	if v.Status < 200 || v.Status > 599 || r.Unknown {
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
	if c.judge.state != Unknown || f.State == "" {
		f.State = c.judge.state
	}
	return f
}
