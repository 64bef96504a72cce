package notify

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// message is an HTTP request to send.
type message struct {
	url         string
	contentType string
	header      map[string]string
	body        []byte
}

const (
	maxTail   = 3000 // bytes; Slack cuts a message's text at 4,000 characters
	maxReason = 500
)

func (t Target) format(n notice) (message, error) {
	n.Tail = lastBytes(n.Tail, maxTail)
	if !t.Tail {
		n.Tail = ""
	}
	n.Reason = firstBytes(strings.ToValidUTF8(n.Reason, "�"), maxReason)
	switch t.Type {
	case Slack:
		return asJSON(t.URL, nil, map[string]string{"text": slackText(n)})
	case Rollbar:
		return t.rollbar(n)
	case CheckIn:
		return t.checkIn(n), nil
	}
	return asJSON(t.URL, nil, webhookBody{
		Version: 1, Kind: n.Kind, Job: n.Job, At: n.At.UTC(), Run: n.Run, Exit: n.Exit, Reason: n.Reason, Jobs: n.Jobs,
		Seconds: n.Took.Seconds(), Host: n.Host, Environment: n.Environment, HeldBack: n.heldBack, Tail: n.Tail,
	})
}

// webhookBody is the body for a generic webhook. Fields are added, never changed, while Version stays 1.
type webhookBody struct {
	Version     int       `json:"version"`
	Kind        Kind      `json:"kind"`
	Job         string    `json:"job"`
	At          time.Time `json:"at"`
	Run         string    `json:"run,omitempty"`
	Exit        int       `json:"exit"`
	Reason      string    `json:"reason,omitempty"`
	Jobs        []string  `json:"jobs,omitempty"` // that environment "job" runs too, when "doubled"
	Seconds     float64   `json:"seconds,omitempty"`
	Host        string    `json:"host,omitempty"`
	Environment string    `json:"environment,omitempty"`
	HeldBack    int       `json:"held_back,omitempty"`
	Tail        string    `json:"tail,omitempty"`
}

func asJSON(address string, header map[string]string, body any) (message, error) {
	b, err := json.Marshal(body)
	return message{url: address, contentType: "application/json", header: header, body: b}, err
}

// sentence is the notice in one line: "nightly failed with exit 3 after 12s: disk full".
func sentence(n notice) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", n.Job, verb(n.Kind))
	if n.Kind == Failed && n.Exit != 0 {
		fmt.Fprintf(&b, " with exit %d", n.Exit)
	}
	if n.Took > 0 {
		fmt.Fprintf(&b, " after %s", n.Took.Round(time.Millisecond))
	}
	if n.Reason != "" {
		fmt.Fprintf(&b, ": %s", n.Reason)
	}
	if n.heldBack > 0 {
		fmt.Fprintf(&b, " (%d more held back since the last notice)", n.heldBack)
	}
	return b.String()
}

func verb(k Kind) string {
	switch k {
	case Overdue:
		return "is overdue"
	case Missed:
		return "was missed"
	case Recovered:
		return "has recovered"
	case Doubled:
		return "runs these jobs too"
	}
	return string(k)
}

// where is the environment and host, if known.
func where(n notice) string {
	return strings.Trim(n.Environment+" / "+n.Host, " /")
}

// slackText escapes the three characters that are special to Slack.
// Source: api.slack.com/reference/surfaces/formatting.
func slackText(n notice) string {
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
	mark := ":large_green_circle:"
	switch {
	case n.Kind == Doubled:
		mark = ":large_yellow_circle:"
	case n.Kind.problem():
		mark = ":red_circle:"
	}
	text := mark + " " + escape.Replace(sentence(n))
	if at := where(n); at != "" {
		text += "\n_" + escape.Replace(at) + "_"
	}
	if n.Tail != "" {
		text += "\n```\n" + escape.Replace(strings.ReplaceAll(n.Tail, "```", "'''")) + "\n```"
	}
	return text
}

// rollbar makes one item; the fingerprint groups all notices of one kind about one job.
// Source: docs.rollbar.com/reference/create-item.
func (t Target) rollbar(n notice) (message, error) {
	level := "info"
	switch {
	case n.Kind == Doubled:
		level = "warning"
	case n.Kind.problem():
		level = "error"
	}
	text := map[string]any{"body": sentence(n), "job": n.Job, "exit": n.Exit}
	if n.Tail != "" {
		text["tail"] = n.Tail
	}
	data := map[string]any{
		"environment": orUnknown(n.Environment),
		"level":       level,
		"timestamp":   n.At.Unix(),
		"title":       n.Job + " " + verb(n.Kind),
		"fingerprint": "job " + n.Job + " " + string(n.Kind),
		"body":        map[string]any{"message": text},
		"server":      map[string]any{"host": n.Host},
		"notifier":    map[string]any{"name": "beanstalk-agent"},
	}
	address := t.URL
	if address == "" {
		address = rollbarURL
	}
	return asJSON(address, map[string]string{"X-Rollbar-Access-Token": t.Token}, map[string]any{"data": data})
}

// checkIn has the output's last lines as its body, which healthchecks.io shows with the ping.
func (t Target) checkIn(n notice) message {
	m := message{url: t.URL, contentType: "text/plain; charset=utf-8", body: []byte(n.Tail)}
	switch {
	case n.Kind == Started && t.StartURL != "":
		m.url = t.StartURL
	case n.Kind == Started:
		m.url = below(t.URL, "start")
	case n.Kind == Failed && t.FailURL != "":
		m.url = t.FailURL
	case n.Kind == Failed:
		m.url = below(t.URL, "fail")
	}
	return m
}

// below appends one path element to address, before its query.
func below(address, element string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.JoinPath(element).String()
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// lastBytes keeps the end of s, from the beginning of a line if it can.
func lastBytes(s string, max int) string {
	s = strings.ToValidUTF8(s, "�")
	if len(s) <= max {
		return s
	}
	s = s[len(s)-max:]
	if i := strings.IndexByte(s, '\n'); i >= 0 && i < len(s)-1 {
		s = s[i+1:]
	}
	return strings.ToValidUTF8(s, "")
}

func firstBytes(s string, max int) string {
	if len(s) <= max {
		return s
	}
	return strings.ToValidUTF8(s[:max], "") + "…"
}
