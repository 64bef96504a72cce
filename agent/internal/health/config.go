package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"beanstalk-agent/agent/internal/endpoint"
)

// Config says what to ask and how to judge the answer.
type Config struct {
	// Required.

	Target string // see [endpoint.Parse]; or FindTarget
	Log    *slog.Logger

	// Optional.

	// FindTarget gives the target, before each probe, when Target is empty: for a port that is only
	// known once the application is deployed, or that its environment may change. An error says that
	// it cannot be told at the moment: then the last one counts.
	FindTarget func(context.Context) (string, error)

	// NginxFile keeps Host and target where the nginx snippet looks for them, for the time in which
	// the agent is down: /var/lib/agent/nginx-health.conf.
	NginxFile string

	// Draining reports whether each check is answered 503, whatever the application answers. It is
	// called for each check, with whether a load balancer sent it.
	Draining func(balancer bool) bool

	// Host gives the Host header to send. It is asked before each probe, so that a changed
	// environment counts at once. Nil, or an answer of "": none is configured, and each asker's
	// own Host is passed on and answered with what the application answers, as nginx alone would:
	// an unset value must never turn an instance red. An error says that it cannot be told at the
	// moment: then the last answer counts, since nothing says that it has changed. Without one, the
	// asker's own is sent, and a refusal of that tells nothing about the application.
	Host func(context.Context) (string, error)

	// UnknownHealthy answers 200, not 503, while it cannot be told whether the application is up,
	// which is not to say that it does not answer. Such a result does not change the state.
	UnknownHealthy bool

	Headers   map[string]string // sent with each probe; see [CheckHeaders]
	Method    string            // GET (default) or HEAD
	Expect    []StatusRange     // what counts as healthy; default 200-299
	Path      string            // the path answered to the load balancer; default /health
	Timeout   time.Duration     // for one probe as a whole; default 4s, below a load balancer's 5
	Lifetime  time.Duration     // how old an answer may be; default 1s, negative: ask each time
	Grace     time.Duration     // how long after New an application that never answered is called starting; default 0
	Failures  int               // failures in a row that make it unhealthy; default 1
	Successes int               // successes in a row that make it healthy again; default 1
}

func (c Config) withDefaults() Config {
	if c.Method == "" {
		c.Method = http.MethodGet
	}
	if c.Expect == nil {
		c.Expect = defaultExpect
	}
	if c.Path == "" {
		c.Path = "/health"
	}
	if c.Timeout == 0 {
		c.Timeout = 4 * time.Second
	}
	if c.Lifetime == 0 {
		c.Lifetime = time.Second
	}
	if c.Draining == nil {
		c.Draining = func(bool) bool { return false }
	}
	c.Failures = max(c.Failures, 1)
	c.Successes = max(c.Successes, 1)
	return c
}

// check returns every fault of a Config that has its defaults.
func (c Config) check() error {
	faults := []error{CheckHeaders(c.Headers)}
	if c.FindTarget == nil || c.Target != "" {
		_, err := endpoint.Parse(c.Target)
		faults = append(faults, err)
	}
	if c.Log == nil {
		faults = append(faults, errors.New("health: Config.Log is required"))
	}
	if c.Method != http.MethodGet && c.Method != http.MethodHead {
		faults = append(faults, fmt.Errorf("health method %q: want GET or HEAD", c.Method))
	}
	if c.Path[0] != '/' {
		faults = append(faults, fmt.Errorf("health path %q: does not begin with /", c.Path))
	}
	if c.Timeout < 0 {
		faults = append(faults, fmt.Errorf("health timeout %s: must be positive", c.Timeout))
	}
	return errors.Join(faults...)
}
