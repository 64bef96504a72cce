package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/endpoint"
)

// Config says where the application is probed, and how its answers are judged.
type Config struct {
	// Required.

	Target string // see [endpoint.Parse]; or FindTarget
	Log    *slog.Logger

	// Optional.

	// FindTarget returns the target before each probe when Target is empty: for a port that is known
	// after a deployment only, or that the environment may change. On an error the last one is used.
	FindTarget func(context.Context) (string, error)

	// NginxFile has the Host and target that the nginx snippet uses while the agent is down:
	// /var/lib/agent/nginx-health.conf.
	NginxFile string

	// Draining reports whether checks are answered 503, whatever the application answers. It is called
	// for each check, with whether a load balancer sent it.
	Draining func(balancer bool) bool

	// Host returns the Host header to send. It is called before each probe, so that a changed
	// environment counts at once.
	//  (host, nil): probes send it, and clients share the verdict.
	//  ("", nil), or no Host: a load balancer's own Host is sent and the application's answer returned, as
	//  by nginx alone. An unset value must never turn an instance red. Others get the last answer.
	//  ("", err): the last answer is used. Before the first one it is as without a Host, and a
	//  refusal of the load balancer's own is unknown.
	Host func(context.Context) (string, error)

	// Process looks at an application that answers no requests, instead of a request. ok is false for one that does.
	Process func(context.Context) (p Process, ok bool)

	// EarlierPath is answered as Path is: that of nginx snippets from before, or "".
	EarlierPath string

	// Names are names by which the application may be known, to find out whether it refuses the Host that nobody set.
	Names func(context.Context) []string

	// HostSetting is what the configuration says of Host, for Check and Status.
	HostSetting string

	// UnknownHealthy answers 200, not 503, to a result that is unknown, which does not change the state.
	// An application that does not answer is unhealthy, not unknown.
	UnknownHealthy bool

	Headers   map[string]string // sent with each probe; see [CheckHeaders]
	Method    string            // GET (default) or HEAD
	Expect    string            // statuses that count as healthy, see [ParseExpect]; default 200-299
	Path      string            // the path answered to the load balancer; default /agent-health
	Timeout   time.Duration     // for one probe as a whole; default 4s, below a load balancer's 5
	Lifetime  time.Duration     // how old a verdict may be; default 1s, negative: ask each time
	Grace     time.Duration     // how long after New an application that was never healthy is starting; default 0
	Failures  int               // failures in a row that make it unhealthy; default 1
	Successes int               // successes in a row that make it healthy again; default 1
}

// Process is what is known of an application that answers no requests.
type Process struct {
	Known   bool // whether it runs
	Running bool
	Text    string // one line
}

const defaultPath = "/agent-health" // one that no application has

func (c Config) withDefaults() Config {
	if c.Method == "" {
		c.Method = http.MethodGet
	}
	if c.Expect == "" {
		c.Expect = defaultExpect
	}
	if c.Path == "" {
		c.Path = defaultPath
	}
	if c.Timeout == 0 {
		c.Timeout = 4 * time.Second
	}
	if c.Lifetime == 0 {
		c.Lifetime = time.Second
	}
	if c.Process == nil {
		c.Process = func(context.Context) (p Process, ok bool) { return p, false }
	}
	if c.Draining == nil {
		c.Draining = func(bool) bool { return false }
	}
	c.Failures = max(c.Failures, 1)
	c.Successes = max(c.Successes, 1)
	return c
}

// Check reports everything that New would refuse or only a probe would find, each with its key in the configuration
// file. No value is shown that may be a password.
func (c Config) Check(fault func(key, format string, a ...any)) {
	report := func(key string, err error) {
		if err != nil {
			fault(key, "%v", err)
		}
	}
	_, err := ParseExpect(c.Expect)
	report("health.expect", err)
	report("health.headers", CheckHeaders(c.Headers))
	if c.HostSetting != "" && !strings.Contains(c.HostSetting, "${") {
		report("health.host", endpoint.CheckHost(c.HostSetting))
	}
	switch e, err := endpoint.Parse(c.Target); {
	case err == nil && e.Network == "tcp" && e.Port() == 80 && e.Page() == c.Path:
		fault("health.target", "port 80 is nginx, which sends %s back to the agent: give a page of the application",
			c.Path)
	case err == nil, c.Target == "" && c.FindTarget != nil:
	case strings.Contains(c.Target, "@"):
		fault("health.target", "expected an address without user and password: set health.headers")
	default:
		report("health.target", err)
	}
	if c.Method != http.MethodGet && c.Method != http.MethodHead {
		fault("health.method", "expected GET or HEAD, have %q", c.Method)
	}
	if !strings.HasPrefix(c.Path, "/") || strings.ContainsAny(c.Path, "?#") {
		fault("health.path", "expected a path that begins with a slash, without a query, have %q", c.Path)
	}
	if c.Timeout < 0 {
		fault("health.timeout", "expected a positive duration, have %s", c.Timeout)
	}
}

// check returns every fault of a Config that has its defaults.
func (c Config) check() error {
	var faults []error
	c.Check(func(key, format string, a ...any) { faults = append(faults, fmt.Errorf(key+": "+format, a...)) })
	if c.Log == nil {
		faults = append(faults, errors.New("health: Config.Log is required"))
	}
	return errors.Join(faults...)
}
