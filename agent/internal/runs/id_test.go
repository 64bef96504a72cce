package runs

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// Every name that a job may have gives ids that the supervisor takes. One that began with a capital never ran, and one
// of more than 32 bytes could not be run by hand.
func TestEveryJobNameGivesAnID(t *testing.T) {
	valid := regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	at := time.Date(2026, 11, 30, 1, 2, 3, 4000, time.UTC)
	seen := map[string]string{}
	for _, name := range []string{"a", "nightly", "Nightly", "nightlY", "_a", "a_", "äöü", "öäü", "A", "B", strings.Repeat("n", 32),
		strings.Repeat("n", 100), strings.Repeat("N", 32), strings.Repeat("n", 99) + "m"} {
		for _, id := range []string{SlotID(name, at, 1), SlotID(name, at, 999), ManualID(name, at, 1)} {
			if !valid.MatchString(id) {
				t.Errorf("%q: %q", name, id)
			}
			if other := seen[id]; other != "" {
				t.Errorf("%q is of %q and %q", id, name, other)
			}
			seen[id] = name
		}
	}
	for name, want := range map[string]string{ // as earlier agents named them, who may have started the slot
		"nightly": "nightly-20261130t010203z-1", "a b": "a-b10a3f9f2-20261130t010203z-1",
		strings.Repeat("n", 40): "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnac92a0e5-20261130t010203z-1",
	} {
		if got := SlotID(name, at, 1); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestWholeIDsAreNoBeginnings(t *testing.T) {
	at := time.Date(2026, 11, 30, 1, 2, 3, 4000, time.UTC)
	for range 100 {
		id := NewID()
		if !IsCommandID(id) || !Begins(id, id[:7]) || Begins(id+"x", id) || Begins(SlotID(id, at, 1), id) || Begins(ManualID(id[:7], at, 1), id[:7]) {
			t.Errorf("%s stands for a job, or not for a command", id)
		}
	}
	for _, id := range []string{SlotID("a", at, 1), ManualID("a", at, 2), SlotID("Sendmail", at, 1)} {
		if IsCommandID(id) || !Begins(id, id[:len(id)-2]) || !Begins(id, id[:len(id)-12]) || Begins(id+"0", id) || Begins(SlotID(id, at, 1), id) {
			t.Errorf("%s stands for another's, or none for it", id)
		}
	}
}
