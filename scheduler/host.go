package scheduler

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Host is what a job's environments:, enabled: and url: depend on.
type Host struct {
	Environment string                           // the Beanstalk environment's name; "" while it is not known
	Getenv      func(name string) (string, bool) // the application's environment; optional
	Unread      func() bool                      // reports that it cannot be read at present; optional
	Worker      bool                             // a worker tier, whose own daemon posts url: jobs
}

// conditionUnknown reports whether a condition of the job is not known yet. While it is
// not, the job keeps its state; slots that pass meanwhile are caught up later.
func (j Job) conditionUnknown(h Host) bool {
	return len(j.Environments) > 0 && h.Environment == "" ||
		strings.Contains(j.Enabled, "${") && h.Unread != nil && h.Unread()
}

// offReason says why a job does not run on this host, or "" when it does.
func (j Job) offReason(h Host) string {
	if len(j.Environments) > 0 && !slices.ContainsFunc(j.Environments, func(p string) bool {
		ok, _ := path.Match(p, h.Environment)
		return ok
	}) {
		return fmt.Sprintf("environment is %s", h.Environment)
	}
	if j.URL != "" && h.Worker {
		return "on a worker tier Beanstalk's own daemon posts " + shown(j.URL)
	}
	return h.enabled(j.Enabled)
}

// maxTruth is the longest value of a variable that may say yes or no: references to a longer one are not multiplied.
const maxTruth = 100

// enabled resolves the value of enabled and says why it is not true, or "".
func (h Host) enabled(raw string) string {
	if raw == "" {
		return ""
	}
	text := reference.ReplaceAllStringFunc(raw, func(ref string) string {
		m := reference.FindStringSubmatch(ref)
		if h.Getenv != nil {
			if v, ok := h.Getenv(m[1]); ok && len(v) > maxTruth {
				return "long"
			} else if ok && v != "" {
				return v
			}
		}
		return m[3]
	})
	switch on, err := truth(text); {
	case err != nil:
		return fmt.Sprintf("enabled: %s is neither true nor false", shown(raw)) // the value may be a secret
	case on:
		return ""
	case strings.Contains(raw, "${"):
		return fmt.Sprintf("enabled: %s is not true", shown(raw))
	}
	return "enabled: " + raw
}

// shown shortens text of the cron file: each job keeps its reason, and cron next repeats it.
func shown(text string) string {
	if len(text) > maxTruth {
		return strings.ToValidUTF8(text[:maxTruth], "") + "…"
	}
	return text
}
