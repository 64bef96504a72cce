package notify

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
)

// Type is the format of a target's notices.
type Type string

const (
	Slack   Type = "slack"   // an incoming webhook of Slack, or of a service that understands its messages
	Webhook Type = "webhook" // any address that takes our JSON
	Rollbar Type = "rollbar" // an item of a Rollbar project
	CheckIn Type = "checkin" // a dead man's switch: gets starts, successes and failures
)

// Target is one recipient of notices. Its addresses and token are secrets.
type Target struct {
	// Required.

	Type Type
	URL  string // for Rollbar optional

	// Optional.

	Name  string   // in logs and status; default the type and its place in the list
	Token string   // Rollbar's post_server_item access token: required there
	Jobs  []string // patterns of job names (as path.Match); default all
	On    []Kind   // default: problems, recoveries and doubles; a check-in always gets starts, ends and failures
	Tail  bool     // send the last lines of output too

	Cooldown time.Duration // default Config.Cooldown

	// For a check-in whose server does not use healthchecks.io's forms, URL/start and URL/fail.

	StartURL string
	FailURL  string
}

const rollbarURL = "https://api.rollbar.com/api/1/item/"

// Check reports every fault of t, each with the key of its value. An address with ${…} is checked when used.
func (t Target) Check(fault func(key, format string, args ...any)) {
	switch t.Type {
	case Slack, Webhook, CheckIn:
		if t.URL == "" {
			fault("url", "is missing")
		}
	case Rollbar:
		if t.Token == "" {
			fault("token", "(post_server_item) is missing")
		}
	default:
		fault("type", "%q: want slack, webhook, rollbar or checkin", t.Type)
	}
	for _, a := range [][2]string{{"url", t.URL}, {"start_url", t.StartURL}, {"fail_url", t.FailURL}} {
		if err := checkURL(a[1]); a[1] != "" && !strings.Contains(a[1], "${") && err != nil {
			fault(a[0], "%v", err)
		}
	}
	for _, pattern := range t.Jobs {
		if _, err := path.Match(pattern, ""); err != nil {
			fault("jobs", "pattern %q: %v", pattern, err)
		}
	}
	for _, k := range t.On {
		if !slices.Contains([]Kind{Started, Succeeded, Failed, Overdue, Recovered, Missed, Doubled}, k) {
			fault("on", "%q: want started, succeeded, failed, overdue, missed, recovered or doubled", k)
		}
	}
}

// checkURL never repeats address: it is a secret.
func checkURL(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("is not an http:// or https:// address")
	}
	return nil
}

// wants reports whether t gets notices of e.
func (t Target) wants(e Event) bool {
	matches := func(pattern string) bool {
		match := func(job string) bool { ok, _ := path.Match(pattern, job); return ok }
		return match(e.Job) || slices.ContainsFunc(e.Jobs, match)
	}
	switch {
	case len(t.Jobs) > 0 && !slices.ContainsFunc(t.Jobs, matches):
		return false
	case t.Type == CheckIn: // its server notices an overdue or missed job itself
		return e.Kind != Overdue && e.Kind != Missed && e.Kind != Doubled
	case len(t.On) > 0:
		return slices.Contains(t.On, e.Kind)
	}
	return e.Kind.problem() || e.Kind == Recovered || e.Kind == Doubled
}

func defaultName(t Type, i int) string { return fmt.Sprintf("%s-%d", t, i+1) }

// String names the target without its secrets.
func (t Target) String() string { return t.Name }

// GoString, LogValue and MarshalText keep secrets out of %#v, logs and JSON.
func (t Target) GoString() string             { return fmt.Sprintf("notify.Target(%q)", t.Name) }
func (t Target) LogValue() slog.Value         { return slog.StringValue(t.Name) }
func (t Target) MarshalText() ([]byte, error) { return []byte(t.Name), nil }
