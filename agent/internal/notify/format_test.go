package notify

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"beanstalk-agent/packaging/testbed/golden"
)

var nightly = Event{
	Job: "nightly <report>", Kind: Failed, At: time.Date(2026, 11, 22, 3, 0, 12, 0, time.FixedZone("CET", 3600)),
	Run: "7f3a", Exit: 3, Reason: "disk full & read-only", Took: 12*time.Second + 340*time.Millisecond,
	Host: "i-0abc", Environment: "shop-prod", Tail: "reading…\nfatal: planted-5c1e <no space> ```\n",
}

// TestGolden: each format's body, byte for byte.
func TestGolden(t *testing.T) {
	recovered := Event{Job: "nightly", Kind: Recovered, At: nightly.At, Environment: "shop-prod"}
	doubled := Event{Job: "shop-worker", Kind: Doubled, At: nightly.At, Environment: "shop-prod", Host: "i-0abc",
		Jobs: []string{"invoices", "nightly"}, Reason: "invoices, nightly; group: NAME in both cron files"}
	for name, tt := range map[string]struct {
		target Target
		notice notice
	}{
		"slack-doubled":        {Target{Type: Slack, URL: "https://hooks.example/T0/B0/x"}, notice{doubled, 0}},
		"webhook-doubled":      {Target{Type: Webhook, URL: "https://example.com/in"}, notice{doubled, 0}},
		"rollbar-doubled":      {Target{Type: Rollbar, Token: "planted-5c1e"}, notice{doubled, 0}},
		"slack":                {Target{Type: Slack, URL: "https://hooks.example/T0/B0/x", Tail: true}, notice{nightly, 2}},
		"slack-recovered":      {Target{Type: Slack, URL: "https://hooks.example/T0/B0/x"}, notice{recovered, 0}},
		"webhook":              {Target{Type: Webhook, URL: "https://example.com/in", Tail: true}, notice{nightly, 2}},
		"webhook-without-tail": {Target{Type: Webhook, URL: "https://example.com/in"}, notice{nightly, 0}},
		"rollbar":              {Target{Type: Rollbar, Token: "planted-5c1e", Tail: true}, notice{nightly, 0}},
		"checkin":              {Target{Type: CheckIn, URL: "https://hc.example/uuid?a=b", Tail: true}, notice{nightly, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := tt.target.format(tt.notice)
			if err != nil {
				t.Fatal(err)
			}
			got := m.url + "\n" + m.contentType + "\n" + string(m.body) + "\n"
			golden.Compare(t, filepath.Join("testdata", name+".golden"), got)
		})
	}
}

func TestCheckInAddresses(t *testing.T) {
	healthchecks := Target{Type: CheckIn, URL: "https://hc.example/uuid?x=1"}
	own := Target{Type: CheckIn, URL: "https://c.example/ok", StartURL: "https://c.example/run", FailURL: "https://c.example/no"}
	for _, tt := range []struct {
		target Target
		kind   Kind
		want   string
	}{
		{healthchecks, Started, "https://hc.example/uuid/start?x=1"},
		{healthchecks, Succeeded, "https://hc.example/uuid?x=1"},
		{healthchecks, Recovered, "https://hc.example/uuid?x=1"},
		{healthchecks, Failed, "https://hc.example/uuid/fail?x=1"},
		{own, Started, "https://c.example/run"},
		{own, Failed, "https://c.example/no"},
	} {
		if got := tt.target.checkIn(notice{Event: Event{Kind: tt.kind}}).url; got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.kind, got, tt.want)
		}
	}
}

// FuzzFormat: any job's name, reason and output make a body that its size bounds.
func FuzzFormat(f *testing.F) {
	f.Add("job", "reason", "tail\nof output", 3)
	f.Add("<!channel>", "\xff\xfe", strings.Repeat("x", 5000), -1)
	f.Add("<@U1>", "<https://example.com|here>", "```\n<!here>\n````", 0)
	f.Add("a\"\\\n\u2028b", strings.Repeat("é", 300), strings.Repeat("`", 3001), 137)
	f.Fuzz(func(t *testing.T, job, reason, tail string, exit int) {
		n := notice{Event: Event{Job: job, Kind: Failed, Reason: reason, Tail: tail, Exit: exit}}
		for _, typ := range []Type{Slack, Webhook, Rollbar, CheckIn} {
			m, err := Target{Type: typ, URL: "https://example.com/", Tail: true}.format(n)
			if err != nil {
				t.Fatal(err)
			}
			if max := 6*(maxTail+maxReason+3*len(job)) + 1000; len(m.body) > max {
				t.Fatalf("%s: %d bytes of body, more than %d", typ, len(m.body), max)
			}
			if m.contentType != "application/json" {
				continue
			}
			var received struct{ Text, Job, Tail string } // encoded, "<" is another sign: what Slack sees is what it decodes
			if err := json.Unmarshal(m.body, &received); err != nil {
				t.Fatalf("%s: %v: %s", typ, err, m.body)
			}
			if typ == Slack && (strings.ContainsAny(received.Text, "<>") || strings.Count(received.Text, "```") > 2+strings.Count(job+reason, "```")) {
				t.Fatalf("a job's words reach Slack as a command: %q", received.Text)
			}
			if typ == Webhook && utf8.ValidString(job) && received.Job != job {
				t.Fatalf("job %q is sent as %q", job, received.Job)
			}
		}
	})
}

// FuzzJudge: a server may answer anything. It is left alone for as long as it asks for, within what we wait
// at most, and nothing of what it says is repeated but one plain word.
func FuzzJudge(f *testing.F) {
	f.Add(200, "", "ok")
	f.Add(404, "", "channel_not_found\n")
	f.Add(429, "30", "rate_limited")
	f.Add(503, "-1", "<html>\x1b[31m")
	f.Add(503, "9999999999", "")
	f.Add(503, "99999999999999999999", "")
	f.Add(429, "Wed, 21 Oct 2026 07:28:00 GMT", "")
	f.Fuzz(func(t *testing.T, status int, after, said string) {
		resp := &http.Response{StatusCode: status, Header: http.Header{"Retry-After": {after}}}
		retryIn, err := judge(resp, []byte(said))
		if (err == nil) != (200 <= status && status <= 299) || retryIn > maxPause || retryIn < 0 && retryIn != -1 {
			t.Errorf("%d: %v, %v", status, retryIn, err)
		}
		n, parsed := strconv.ParseUint(after, 10, 64)
		if want := time.Duration(min(n, 300)) * time.Second; parsed == nil && err != nil && retryIn >= 0 && retryIn != want {
			t.Errorf("%d, Retry-After %s: tried again in %v", status, after, retryIn)
		}
		if err != nil && (len(err.Error()) > 120 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r > '~' })) {
			t.Errorf("%d: %q", status, err)
		}
	})
}
