package notify

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

var nightly = Event{
	Job: "nightly <report>", Kind: Failed, At: time.Date(2026, 11, 22, 3, 0, 12, 0, time.FixedZone("CET", 3600)),
	Run: "7f3a", Exit: 3, Reason: "disk full & read-only", Took: 12*time.Second + 340*time.Millisecond,
	Host: "i-0abc", Environment: "shop-prod", Tail: "reading…\nfatal: planted-5c1e <no space> ```\n",
}

// TestGolden: each format's body, byte for byte.
func TestGolden(t *testing.T) {
	recovered := Event{Job: "nightly", Kind: Recovered, At: nightly.At, Environment: "shop-prod"}
	for name, tt := range map[string]struct {
		target Target
		notice notice
	}{
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
			file := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
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
			if typ == Slack && strings.Contains(string(m.body), "<!") {
				t.Fatalf("a job's words reach Slack as a command: %s", m.body)
			}
		}
	})
}
