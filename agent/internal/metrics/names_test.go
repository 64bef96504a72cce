package metrics

import (
	"slices"
	"testing"

	"beanstalk-agent/collectors"
)

// The page's table is what can be named; what the publisher says of losses is sent in any case.
func TestNamesAreThePages(t *testing.T) {
	sent := documented(t)["Sent"]
	for _, own := range []string{"metrics_spooled", "metrics_dropped", "possible_duplicates"} {
		delete(sent, own)
	}
	for _, name := range Names {
		if sent[name] == "" || unpublished[name] {
			t.Errorf("%s can be named, and is not sent", name)
		}
		delete(sent, name)
	}
	if len(sent) > 0 {
		t.Errorf("cannot be named: %v", sent)
	}
}

// One memory alarm costs one series (FIELD.md M2: it cost 26).
func TestSendOnlySkipsTheRest(t *testing.T) {
	for _, only := range [][]string{nil, {"mem_used_percent"}, {"mem_used_percent", "group_cpu"}} {
		skip := publisherConfig(Config{SendOnly: only}, beside(t, t.TempDir())).Skip
		for _, name := range append(slices.Clone(Names), "mem_total") {
			want := name == "mem_total" || only != nil && !slices.Contains(only, name)
			if skip(collectors.Sample{Name: name}) != want {
				t.Errorf("only %v: %s skipped: %v", only, name, !want)
			}
		}
	}
}
