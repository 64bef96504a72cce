// Package config turns the agent's one configuration file into a checked Config.
//
// Every key has a default, so an empty file and a missing file are valid. All faults (unknown key, wrong type, value
// out of range) are reported at once with line and column: an operator at night should not find them one restart at a
// time. Parsing has no side effects.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DefaultPath is where the root-owned configuration stands on an instance.
const DefaultPath = "/etc/agent/agent.yaml"

// DefaultHealthPath is a path that no application has. Public tools set /health as the environment's health-check path,
// and many repositories answer it in their own nginx configuration.
const DefaultHealthPath = "/agent-health"

// Config is the whole configuration. The zero value is not usable: start from [Default].
type Config struct {
	App      App           `yaml:"app"`
	Socket   string        `yaml:"socket"`    // "" = by the rule of api.DefaultSocket
	StateDir string        `yaml:"state_dir"` // "" = by the rule of api.DefaultStateDir
	AWS      AWS           `yaml:"aws"`
	Metrics  Metrics       `yaml:"metrics"`
	Cron     Cron          `yaml:"cron"`
	Health   Health        `yaml:"health"`
	Exec     Exec          `yaml:"exec"`
	Notify   []Notify      `yaml:"notify"`
	Cooldown time.Duration `yaml:"notify_cooldown"` // further failures of a job are held back for so long
}

// App says where the application lives and who its commands run as.
type App struct {
	Dir      string   `yaml:"dir"`       // "" = found: the platform's, else the current directory
	User     string   `yaml:"user"`      // "" = found: the platform's, else the owner of Dir
	EnvFiles []string `yaml:"env_files"` // extra dotenv files, later ones win
}

// AWS overrides values that the agent finds itself; "" = found.
type AWS struct {
	Region             string `yaml:"region"`
	CloudWatchEndpoint string `yaml:"cloudwatch_endpoint"`
	S3Endpoint         string `yaml:"s3_endpoint"`
}

// Metrics says what is measured, how often, and where it is sent.
type Metrics struct {
	Namespace   string        `yaml:"namespace"`
	Interval    time.Duration `yaml:"interval"` // one publish; 10 s to 1 h
	Sample      time.Duration `yaml:"sample"`   // one sample; 1 s to Interval
	Send        string        `yaml:"send"`     // on, off or auto
	Dimensions  [][]string    `yaml:"dimensions"`
	PerInstance bool          `yaml:"per_instance"`
	CWAgent     bool          `yaml:"cwagent"` // the CloudWatch agent's namespace and dimensions
	Groups      []Group       `yaml:"groups"`
	Disks       []string      `yaml:"disks"`     // paths; each a series of the filesystem that holds it
	SendOnly    []string      `yaml:"send_only"` // names of metrics; empty = all
}

// Group is one process group; exactly one of Unit, Port, Match says which.
type Group struct {
	Name  string `yaml:"name"`
	Unit  string `yaml:"unit"`
	Port  int    `yaml:"port"`
	Match string `yaml:"match"`
	User  string `yaml:"user"` // whose processes count, by Port or Match; any = everybody's; "" = found
}

// Cron says where the cron file is and how a fleet shares its jobs.
type Cron struct {
	File     string `yaml:"file"`     // relative to App.Dir
	Timezone string `yaml:"timezone"` // of jobs without one
	Claims   string `yaml:"claims"`   // auto, off or s3://BUCKET/PREFIX
	Limit    int    `yaml:"limit"`    // jobs at once on this host; 0 = 8 for each processor, at least 16

	Group       string `yaml:"group"`        // environments of one group run each slot once between them
	ShareOutput bool   `yaml:"share_output"` // the end of a failed run's output into the claim store
}

// Health says how the application is probed and what the load balancer gets.
type Health struct {
	Listen   string            `yaml:"listen"`
	Path     string            `yaml:"path"`   // answered to load balancers
	Target   string            `yaml:"target"` // "" = found: the application's own port; see Page
	Host     string            `yaml:"host"`   // ${NAME} is from the application's environment
	Method   string            `yaml:"method"`
	Headers  map[string]string `yaml:"headers"`
	Expect   string            `yaml:"expect"` // statuses that are healthy, such as 200 or 200-299,301
	Timeout  time.Duration     `yaml:"timeout"`
	Grace    time.Duration     `yaml:"grace"`    // for so long after the agent's start, no answer means starting
	Failures int               `yaml:"failures"` // in a row, until unhealthy
	Unknown  string            `yaml:"unknown"`  // status when the probe cannot tell: unhealthy (503) or healthy (200)
}

// Exec says who may run commands, and how long a terminal may stay open.
type Exec struct {
	Allow   []string      `yaml:"allow"`
	Audit   string        `yaml:"audit"`   // program (its name and argument count) or full (argv, as typed)
	Idle    time.Duration `yaml:"idle"`    // a terminal without input and output for so long is ended; 0: never
	Session time.Duration `yaml:"session"` // and after so long in any case, unless --timeout says otherwise; 0: never

	NoNewPrivileges bool `yaml:"no_new_privileges"` // setuid programs, sudo too, give a run nothing; jobs as well
}

// Notify is one target of notices about jobs. Its addresses and token are
// secrets; ${NAME} in them is from the application's environment.
type Notify struct {
	Type     string   `yaml:"type"` // slack, webhook, rollbar or checkin
	Name     string   `yaml:"name"` // in status and logs
	URL      string   `yaml:"url"`
	StartURL string   `yaml:"start_url"` // of a check-in that has addresses of its own
	FailURL  string   `yaml:"fail_url"`
	Token    string   `yaml:"token"`  // Rollbar's
	Jobs     []string `yaml:"jobs"`   // patterns of job names; empty = all
	On       []string `yaml:"on"`     // failed, recovered, overdue, missed, …; empty = problems and recoveries
	Output   bool     `yaml:"output"` // send the last lines of output too
}

// Default returns the configuration of an empty file.
func Default() Config {
	return Config{
		Metrics: Metrics{
			Namespace:  "BeanstalkAgent",
			Interval:   60 * time.Second,
			Sample:     5 * time.Second,
			Send:       "auto",
			Dimensions: [][]string{{"EnvironmentName"}},
		},
		Cron: Cron{File: "cron.yaml", Timezone: "UTC", Claims: "auto"},
		Health: Health{
			Listen:   "127.0.0.1:8127",
			Path:     DefaultHealthPath,
			Host:     "${HEALTH_HOST}",
			Method:   "GET",
			Headers:  map[string]string{"X-Forwarded-Proto": "https"},
			Expect:   "200-299",
			Timeout:  4 * time.Second,
			Failures: 1,
			Unknown:  "unhealthy",
		},
		Cooldown: 30 * time.Minute,
		Exec: Exec{
			Allow: []string{"root", "ec2-user", "ssm-user"}, Audit: "program",
			Idle: 24 * time.Hour, Session: 7 * 24 * time.Hour,
		},
	}
}

// Check reports the faults of one feature's section. Of a key with a fault already no other is reported.
type Check func(c Config, fault func(key, format string, a ...any))

// Load reads and checks the file at path. A missing file is the default configuration, unless the user named it. The
// error is a [Faults] when the file could be read and is wrong.
func Load(path string, named bool, checks ...Check) (Config, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return Default(), nil
	}
	if err != nil {
		return Default(), fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, data, checks...)
}

// Parse decodes data over the defaults and checks it. On faults the returned
// Config is the default one, so that no half-read one is used.
func Parse(name string, data []byte, checks ...Check) (Config, error) {
	c := Default()
	d := newDecoder(name)
	d.decode(data, &c)
	c.validate(d.others()) // what could not be decoded has its default
	for _, check := range checks {
		check(c, d.others())
	}
	if err := d.Err(); err != nil {
		return Default(), err
	}
	return c, nil
}

// validate reports every invalid value; key is the dotted path.
func (c *Config) validate(fault func(key, format string, a ...any)) {
	c.Health.validate(fault)
	for key, p := range map[string]string{"app.dir": c.App.Dir, "socket": c.Socket, "state_dir": c.StateDir} {
		if p != "" && !path.IsAbs(p) {
			fault(key, "expected an absolute path, have %q", p)
		}
	}
	if f := c.Cron.File; !filepath.IsLocal(f) {
		fault("cron.file", "expected a path below the application's directory, have %q", f)
	}
	if _, err := time.LoadLocation(c.Cron.Timezone); err != nil || c.Cron.Timezone == "" || c.Cron.Timezone == "Local" {
		fault("cron.timezone", "unknown time zone %q: expected a name such as UTC or Europe/Berlin", c.Cron.Timezone)
	}
	if v := c.Cron.Claims; v != "auto" && v != "off" && !strings.HasPrefix(v, "s3://") {
		fault("cron.claims", "expected auto, off or s3://BUCKET/PREFIX, have %q", v)
	}
	if c.Cron.Limit < 0 {
		fault("cron.limit", "expected a number from 0, have %d", c.Cron.Limit)
	}
	oneOf(fault, "exec.audit", c.Exec.Audit, "program", "full")
	for key, d := range map[string]time.Duration{"exec.idle": c.Exec.Idle, "exec.session": c.Exec.Session} {
		if d != 0 && d < time.Minute {
			fault(key, "expected 0 or at least 1m, have %s", d)
		}
	}
	for i, n := range c.Notify {
		oneOf(fault, fmt.Sprintf("notify[%d].type", i), n.Type, "slack", "webhook", "rollbar", "checkin")
	}
}

// Page is the application's page that is asked where Target is found: Path if it is configured, else /health.
func (h *Health) Page() string {
	if h.Path == DefaultHealthPath {
		return earlierHealthPath
	}
	return h.Path
}

// EarlierPath is the path that nginx snippets of earlier versions send, "" with a configured Path. It is answered too:
// an upgrade must not make an instance unhealthy whose load balancer asks for it.
func (h *Health) EarlierPath() string {
	if h.Path == DefaultHealthPath {
		return earlierHealthPath
	}
	return ""
}

const earlierHealthPath = "/health"

func (h *Health) validate(fault func(key, format string, a ...any)) {
	host, port, err := net.SplitHostPort(h.Listen)
	if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil {
		fault("health.listen", "expected ADDRESS:PORT with a port to 65535, have %q", h.Listen)
	} else if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		fault("health.listen", "expected a loopback address such as 127.0.0.1:8127, have %q: nginx stands before it",
			h.Listen)
	}
	if h.Timeout < 100*time.Millisecond || h.Timeout > time.Minute {
		fault("health.timeout", "expected 100ms to 1m, have %s", h.Timeout)
	}
	if h.Grace < 0 {
		fault("health.grace", "expected a duration from 0s, have %s", h.Grace)
	}
	if h.Failures < 1 {
		fault("health.failures", "expected a number from 1, have %d", h.Failures)
	}
	oneOf(fault, "health.unknown", h.Unknown, "unhealthy", "healthy")
}

func oneOf(fault func(key, format string, a ...any), key, have string, want ...string) {
	if !slices.Contains(want, have) {
		fault(key, "expected %s, have %q", strings.Join(want, ", "), have)
	}
}
