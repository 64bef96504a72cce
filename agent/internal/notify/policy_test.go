package notify

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestPolicy passes events of one job, one a minute with a cooldown of ten, and notes what a
// reader gets: f failed, o overdue, r recovered, . nothing; a digit says how many were held
// back; a space lets a minute pass without an event. After a capital, F or G, the event comes with
// how the run before it ended on another instance: failed, or well.
func TestPolicy(t *testing.T) {
	for name, tt := range map[string]struct{ events, sent string }{
		"first failure":                     {"f", "f"},
		"repeated failures are held back":   {"fff", "f.."},
		"and sent after the cooldown":       {"fff        f", "f..        f2"},
		"recovery once":                     {"frr", "fr."},
		"recovery says what was held back":  {"fffr", "f..r2"},
		"overdue and failed are both bad":   {"fo", "f."},
		"unasked recovery is believed":      {"r", "r"},
		"flapping ends in the truth, bad":   {"frf          ", "fr.       f  "},
		"flapping ends in the truth, good":  {"frfr         ", "fr..         "},
		"two jobs' worth of quiet forgets":  {"fr          f", "fr          f"},
		"waiting news replaced by the last": {"frfo         ", "fr..      o1  "},
		"failed elsewhere, well here":       {"Fr", "r"},
		"a recovery on another instance":    {"fGf          ", "f.       f  "},
		"failing elsewhere meanwhile":       {"frFfFr", "fr.r1"},
	} {
		t.Run(name, func(t *testing.T) {
			p := policy{cooldown: 10 * time.Minute, jobs: map[string]*jobNotices{}}
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			var sent strings.Builder
			var before Kind
			for _, c := range tt.events {
				if k, ok := map[rune]Kind{'F': Failed, 'G': Succeeded}[c]; ok {
					before = k
					continue
				}
				sent.WriteString(letters(p.due(now)))
				kind, isEvent := map[rune]Kind{'f': Failed, 'o': Overdue, 'r': Recovered}[c]
				if n, ok := (notice{}), false; isEvent {
					if n, ok = p.onEvent(Event{Job: "j", Kind: kind, Before: before}, now); ok {
						sent.WriteString(letters([]notice{n}))
					} else {
						sent.WriteByte('.')
					}
				} else {
					sent.WriteByte(' ')
				}
				now, before = now.Add(time.Minute), ""
			}
			if got, want := squeeze(sent.String()), squeeze(tt.sent); got != want {
				t.Errorf("events %q: sent %q, want %q", tt.events, got, want)
			}
		})
	}
}

func letters(ns []notice) (out string) {
	for _, n := range ns {
		out += string(n.Kind[0])
		if n.heldBack > 0 {
			out += fmt.Sprint(n.heldBack)
		}
	}
	return out
}

func squeeze(s string) string { return strings.ReplaceAll(s, " ", "") }

// A cron file may have other names each time it is read.
func TestForeignNamesAreForgotten(t *testing.T) {
	p := policy{cooldown: time.Minute, jobs: map[string]*jobNotices{}}
	n := &Notifier{failing: map[string]bool{}}
	for i := range 3 * maxJobs {
		e := Event{Job: fmt.Sprint(i), Kind: Failed}
		if _, sent := p.onEvent(e, time.Now()); !sent {
			t.Fatalf("job %d is not reported", i)
		}
		if n.dispatch(e); len(p.jobs) > maxJobs || len(n.failing) > maxJobs {
			t.Fatalf("after %d jobs %d and %d are kept", i, len(p.jobs), len(n.failing))
		}
	}
}
