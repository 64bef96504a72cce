package scheduler

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Host is what a job's environments:, process_types:, enabled: and url: depend on, and a file's group:.
type Host struct {
	Environment string                           // the Beanstalk environment's name; "" while it is not known
	Getenv      func(name string) (string, bool) // the application's environment; optional
	Unread      func() bool                      // reports that it cannot be read at present; optional
	Worker      bool                             // a worker tier, whose own daemon posts url: jobs
}

// conditionUnknown reports whether a condition of the job is not known yet; each job has one on PROCESS_TYPE. While it
// is not, the job keeps its state; slots that pass meanwhile are caught up later.
func (j Job) conditionUnknown(h Host) bool {
	return len(j.Environments) > 0 && h.Environment == "" || h.unread()
}

func (h Host) unread() bool { return h.Unread != nil && h.Unread() }

// OffReason says why a job does not run on this host, or "" when it does.
func (j Job) OffReason(h Host) string {
	if len(j.Environments) > 0 && !slices.ContainsFunc(j.Environments, func(p string) bool {
		ok, _ := path.Match(p, h.Environment)
		return ok
	}) {
		return fmt.Sprintf("environment is %s", h.Environment)
	}
	if why := j.offByProcess(h); why != "" {
		return why
	}
	if j.URL != "" && h.Worker {
		return "on a worker tier Beanstalk's own daemon posts " + shown(j.URL)
	}
	return h.enabled(j.Enabled)
}

// offByProcess says why PROCESS_TYPE keeps a job from running, or "". Several environments may be made of one bundle,
// told apart by that variable: without a word in the file, its jobs are the web environment's. One that is not set
// counts as web.
func (j Job) offByProcess(h Host) string {
	have := h.lookup("PROCESS_TYPE")
	is := "is " + have
	switch {
	case have == "" && h.unread() && len(j.ProcessTypes) > 0:
		return "PROCESS_TYPE is not known: the application's environment cannot be read"
	case have == "":
		is = "is not set, which counts as web"
	case !isProcessName(have):
		is = "is no name" // it may be a secret
	}
	switch {
	case len(j.ProcessTypes) > 0 && !slices.Contains(j.ProcessTypes, cmp.Or(have, "web")):
		return fmt.Sprintf("PROCESS_TYPE %s; process_types is %s", is, shown(strings.Join(j.ProcessTypes, ", ")))
	case len(j.ProcessTypes) == 0 && have != "" && have != "web":
		return fmt.Sprintf("PROCESS_TYPE %s, and neither the job nor the file has process_types", is)
	}
	return ""
}

func (h Host) lookup(name string) string {
	if h.Getenv == nil {
		return ""
	}
	if v, ok := h.Getenv(name); ok {
		return v
	}
	return ""
}

// Group resolves a table's Group; "" for none, also where its variable is not set. No error contains a value.
func (h Host) Group(raw string) (string, error) {
	if strings.Contains(raw, "${") && h.unread() {
		return "", fmt.Errorf("group: %s is not known: the application's environment cannot be read", shown(raw))
	}
	name := reference.ReplaceAllStringFunc(raw, func(ref string) string {
		m := reference.FindStringSubmatch(ref)
		if v := h.lookup(m[1]); len(v) <= maxName {
			return cmp.Or(v, m[3])
		}
		return strings.Repeat("x", maxName+1)
	})
	if name == "" {
		return "", nil
	}
	if err := checkName(name); err != nil {
		return "", fmt.Errorf("group: %s cannot name one: its value %w", shown(raw), err)
	}
	return name, nil
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
