package claim

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The model in model/claim.pml, which model/check explores, speaks of this package in its own names: what has been
// renamed here is renamed there.
func TestModelHasTheNamesOfTheCode(t *testing.T) {
	text, err := os.ReadFile("model/claim.pml")
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]bool{}
	for _, w := range regexp.MustCompile(`\w+`).FindAllString(string(text), -1) {
		said[w] = true
	}
	store := reflect.TypeFor[*Store]()
	for _, op := range []string{"Claim", "TakeOver", "Renew", "Finish", "SetPause"} {
		if _, ok := store.MethodByName(op); !ok || !said[op] {
			t.Errorf("%s is not in both: code %v, model %v", op, ok, said[op])
		}
	}
	for name, state := range map[string]State{"Won": Won, "Lost": Lost, "Busy": Busy, "Paused": Paused} {
		if !strings.EqualFold(name, string(state)) || !said[name] {
			t.Errorf("%s is not in both: code %q, model %v", name, state, said[name])
		}
	}
	until := time.Now()
	run := Run{Until: until}
	for name, is := range map[string]bool{
		"live": run.live(until), "expired": run.expired(until.Add(1)), "lost": strings.HasPrefix(lostText(run), "lost: "),
		"finished": run.Finished.IsZero(), "low": true, "high": true, "margin": margin > 0, "lease": lease > 0,
	} {
		if !is || !said[name] && !said[strings.ToUpper(name)] {
			t.Errorf("%s is not in both: code %v, model %v", name, is, said[name])
		}
	}
}
