package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"beanstalk-agent/agent/internal/endpoint"
)

// Checker asks the application and keeps its verdict for a short while. It is safe for concurrent
// use. New starts nothing; a probe in flight ends within Config.Timeout.
type Checker struct {
	cfg        Config
	log        *slog.Logger
	retry      time.Duration // between attempts to listen
	probes     sync.WaitGroup
	machineHas func(netip.Addr) bool // whether it is an address of this machine

	probing atomic.Int32 // requests that may wait for a probe

	floods floods

	fallbackMu sync.Mutex
	fallback   string // content of NginxFile, as last written

	mu             sync.Mutex
	prober         *prober          // of the last target; nil before the first probe
	host           string           // last answer of Config.Host
	hostKnown      bool             // there was one
	hostErr        error            // why there was none; nil once hostKnown
	servedUnknown  bool             // load balancers are answered 200 although the state is unknown
	calls          map[client]*call // in flight, or younger than Config.Lifetime
	lastConfigured Verdict          // of the configured Host
	lastHere       Verdict          // given to a load balancer whose Host is an address of this machine
	lastElsewhere  Verdict          // or another one
	judge          judge
	history        ring
	figures        Figures
	port           listenState
	socket         listenState       // zero where there is none
	nonces         map[string]string // of our own requests in flight: over which network each has arrived
}

// call is one probe with all the clients that wait for it.
type call struct {
	done    chan struct{}
	verdict Verdict   // once done
	noHost  bool      // once done: no Host is configured, ask again with the client's own
	ended   time.Time // zero until done
}

// listenState is where a listener is, or why it is not; both are zero before Serve.
type listenState struct {
	addr string
	err  error
}

// New checks c and returns all its faults at once.
func New(c Config) (*Checker, error) {
	c = c.withDefaults()
	if err := c.check(); err != nil {
		return nil, err
	}
	return &Checker{
		cfg: c, log: c.Log.With("check", "health"), retry: 5 * time.Second,
		calls: map[client]*call{}, nonces: map[string]string{}, machineHas: new(addresses).have,
		judge: judge{failures: c.Failures, successes: c.Successes, state: Unknown, graceEnds: time.Now().Add(c.Grace)},
	}, nil
}

// Check returns a verdict not older than Config.Lifetime, and asks the application if there is none.
// Concurrent calls share one probe. It returns within Config.Timeout and half a second, or when ctx
// ends: then the verdict is 503 with that reason. Only Handler considers drains.
func (c *Checker) Check(ctx context.Context) Verdict {
	return c.check(ctx, client{ownHost: true})
}

// slack is how long a client waits beyond a probe's time limit, for a busy machine.
const slack = 500 * time.Millisecond

// check answers from: with the verdict of the configured Host, or without one, of the client's own.
func (c *Checker) check(ctx context.Context, from client) Verdict {
	if v, ok := c.cached(); ok {
		return v
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout+slack)
	defer cancel()
	v, noHost := c.share(ctx, client{})
	switch {
	case !noHost:
		return v
	case from.origin == stranger:
		return c.lastVerdict(from)
	}
	v, _ = c.share(ctx, from)
	return v
}

// cached is the configured Host's verdict, if it is young enough: by far the most common answer.
func (c *Checker) cached() (Verdict, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl := c.calls[client{}]
	if cl == nil || cl.noHost || !c.freshLocked(cl) {
		return Verdict{}, false
	}
	return cl.verdict, true
}

// freshLocked reports whether cl has ended and its verdict may still be used.
func (c *Checker) freshLocked(cl *call) bool {
	return !cl.ended.IsZero() && time.Since(cl.ended) < c.cfg.Lifetime
}

// share waits for the call of a client, and starts one if none is fresh.
func (c *Checker) share(ctx context.Context, from client) (v Verdict, noHost bool) {
	cl := c.join(from)
	if cl == nil {
		return c.lastVerdict(from), false
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

// join returns nil when the limit of probes with others' addresses is reached.
func (c *Checker) join(from client) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl := c.calls[from]
	if cl != nil && (cl.ended.IsZero() || c.freshLocked(cl)) {
		return cl
	}
	if n := c.dropOldLocked(); n >= maxElsewhere && from.origin == elsewhere {
		return nil
	}
	cl = &call{done: make(chan struct{})}
	c.calls[from] = cl
	c.probes.Go(func() { c.answer(cl, from) })
	return cl
}

// dropOldLocked removes verdicts that are too old, and counts those left with others' addresses.
func (c *Checker) dropOldLocked() (n int) {
	for from, cl := range c.calls {
		if !cl.ended.IsZero() && !c.freshLocked(cl) {
			delete(c.calls, from)
		} else if from.origin == elsewhere {
			n++
		}
	}
	return n
}

// answer probes for cl. It has a context of its own: a client that disconnects must not fail the others.
func (c *Checker) answer(cl *call, from client) {
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.Timeout)
	defer cancel()
	r, noHost := c.probe(ctx, from)
	c.mu.Lock()
	defer c.mu.Unlock()
	cl.noHost, cl.ended = noHost, time.Now()
	if !noHost {
		cl.verdict = c.recordLocked(r, from)
	}
	close(cl.done)
}

// probe asks the application. noHost: no Host is configured. A panic, in the configured functions too,
// is a failed probe, so that the waiting clients get an answer.
func (c *Checker) probe(ctx context.Context, from client) (r Result, noHost bool) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("probe panicked", "err", p, "stack", string(debug.Stack()))
			r, noHost = noProbe(from, "the probe itself failed, which is a fault of the agent: see its log"), false
		}
	}()
	if p, ok := c.cfg.Process(ctx); ok {
		return p.result(), false
	}
	configured := ""
	if !from.ownHost {
		if configured = c.configuredHost(ctx); configured == "" {
			return Result{}, true
		}
		from.host = configured
	}
	p, err := c.currentProber(ctx)
	if err != nil {
		return noProbe(from, "the application's address is not known: "+err.Error()), false
	}
	c.keepFallback(configured, p.target)
	from.host = cmp.Or(from.host, p.target.DefaultHost())
	if err := endpoint.CheckHost(from.host); err != nil { // a value of the environment is not checked before
		return noProbe(from, err.Error()), false
	}
	r = p.ask(ctx, from)
	if from.ownHost && from.agent == "" && from.origin == here {
		c.tryNames(ctx, p, &r)
	}
	if from.ownHost && !r.Healthy && 300 <= r.Status && r.Status <= 499 {
		c.markUnknown(&r)
	}
	return r, false
}

// tryNames asks once more with a name by which the application may be known, where it may have refused a Host that
// nobody has set, and says how that was answered. It does so for an operator, who is to set one, not for load
// balancers.
func (c *Checker) tryNames(ctx context.Context, p *prober, r *Result) {
	if r.Healthy || !maybeHost(r.Status) || c.cfg.Names == nil {
		return
	}
	for _, name := range c.cfg.Names(ctx) {
		if endpoint.CheckHost(name) != nil || name == r.Host {
			continue
		}
		switch again := p.ask(ctx, client{host: name}); {
		case again.Healthy:
			r.Reason = fmt.Sprintf("%d with Host %q, which nobody has set, and %d with %q: set HEALTH_HOST to that, "+
				"or health.host", r.Status, r.Host, again.Status, name)
		case again.Status == r.Status:
			r.Reason += fmt.Sprintf(" (with Host %q the answer is the same)", name)
		}
		return
	}
}

// markUnknown marks a refusal of the client's own Host as unknown while there may be a configured one.
func (c *Checker) markUnknown(r *Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hostErr != nil {
		r.Unknown = true
		const format = "cannot tell: the Host to ask with is not known (%v), and with the client's own: %s"
		r.Reason = oneLine(fmt.Sprintf(format, c.hostErr, r.Reason))
	}
}

// noProbe is the result of a probe that could not be sent.
func noProbe(from client, reason string) Result {
	return Result{At: time.Now(), Host: from.host, Unknown: true, Reason: oneLine("cannot tell: " + reason)}
}

// result is that of a request without an answer.
func (p Process) result() Result {
	r := Result{At: time.Now(), Healthy: p.Known && p.Running, Unknown: !p.Known, Reason: oneLine(p.Text)}
	if r.Healthy {
		r.Status = http.StatusOK
	}
	return r
}

// currentProber finds the target and keeps the prober until the target changes.
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

// configuredHost is the last known Host of the configuration; "": none, as far as known.
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
		c.host, c.hostErr, c.hostKnown = host, nil, true
	case !c.hostKnown:
		c.hostErr = err
	}
	return c.host
}

// recordLocked stores r and returns its verdict.
func (c *Checker) recordLocked(r Result, from client) Verdict {
	if from.counts() {
		c.history.add(r)
		c.figures.count(r)
	}
	v := c.judgeLocked(r, from)
	v.Host, v.Target = r.Host, r.Target
	switch {
	case !from.ownHost:
		c.lastConfigured = v
	case from.origin == elsewhere:
		c.lastElsewhere = v
	case from.host != "":
		c.lastHere = v
	}
	return v
}

// judgeLocked turns r into a verdict. With a client's own Host thresholds do not apply, and a stranger's
// Host does not change the state: Figures then have the last verdict for a load balancer.
func (c *Checker) judgeLocked(r Result, from client) Verdict {
	if c.cfg.UnknownHealthy {
		if from.counts() && (!from.ownHost || from.agent != "") {
			c.logUnknownLocked(r)
		}
		if r.Unknown {
			reason := r.Reason + "; answered 200 all the same, as health.unknown says"
			return Verdict{Status: http.StatusOK, Reason: reason, LatencyMS: r.LatencyMS, At: r.At, State: Unknown}
		}
	}
	if from.ownHost {
		v := passThrough(r)
		if from.counts() && from.agent != "" {
			c.figures.State, c.figures.LastState = v.State, r.At
		}
		return v
	}
	c.figures.LastState = r.At
	if c.judge.see(r) {
		level := slog.LevelInfo
		if c.judge.state == Unhealthy {
			level = slog.LevelWarn
		}
		c.log.Log(context.Background(), level, "application is "+string(c.judge.state), "reason", r.reasonForLog())
	}
	return c.judge.verdict(r)
}

// logUnknownLocked logs when load balancers begin to be answered 200 for an unknown state, and when that ends.
func (c *Checker) logUnknownLocked(r Result) {
	switch {
	case r.Unknown && !c.servedUnknown:
		c.log.Warn("load balancers are answered 200 without knowing whether the application is up",
			"reason", r.reasonForLog())
	case !r.Unknown && c.servedUnknown:
		c.log.Info("the application is judged again", "reason", r.reasonForLog())
	}
	c.servedUnknown = r.Unknown
}

// History returns the last 50 results, oldest first, and before them those of a day with which the state changed, at
// most 200.
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
