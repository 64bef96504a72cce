package scheduler

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// crontabThatChanges has 499 variables, and then rounds entries, each after a variable
// was set anew: their environments would take rounds × 8 kB.
func crontabThatChanges(rounds int) string {
	var b strings.Builder
	for i := range maxEnv - 1 {
		fmt.Fprintf(&b, "V%d=x\n", i)
	}
	for i := range rounds {
		fmt.Fprintf(&b, "A=%d\n* * * * * true\n", i)
	}
	return b.String()
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// The agent has 96 MB for all it does: both formats have one limit on the bytes of a table,
// which is a fault before the memory is taken.
func TestTableHasABudget(t *testing.T) {
	jobs := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, strings.ReplaceAll(format, "#", "%[1]d"), i)
		}
		return b.String()
	}
	list := strings.Repeat("a,", 3900) + "a"
	var zones strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&zones, "CRON_TZ=Europe%sBerlin\n0 0 * * * true\n", strings.Repeat("/", i+1))
	}
	for _, c := range []struct{ name, file, text string }{
		{"environments of a crontab", "crontab", crontabThatChanges(9000)},
		{"references to a list", "cron.yaml", "x-l: &l [" + list + "]\ncron:\n" +
			jobs(1000, "- {name: j#, schedule: '@daily', command: x, notify: *l}\n")},
		{"references in an environment", "cron.yaml", "x-e: &e {A: " + strings.Repeat("a", 60_000) + "}\ncron:\n" +
			jobs(1000, "- {name: j#, schedule: '@daily', command: x, env: {<<: *e, B: #}}\n")},
		{"references to a command", "cron.yaml", "x-c: &c " + strings.Repeat("a", 60_000) + "\ncron:\n" +
			jobs(1000, "- {name: j#, schedule: '@daily', command: *c}\n")},
		{"trees kept by anchors", "cron.yaml", "cron:\n" +
			jobs(450, "- {name: j#, schedule: '@daily', command: x, notify: &a# ["+list+"]}\n")},
		{"names of one zone", "crontab", zones.String()},
	} {
		t.Run(c.name, func(t *testing.T) {
			var err error
			n := allocated(func() { _, err = Parse(c.file, []byte(c.text), ParseOptions{}) })
			faults, _ := err.(Faults)
			if len(faults) != 1 || !strings.Contains(faults[0].Message, "more than the 8 MB that a cron file may") || faults[0].Line < 2 {
				t.Errorf("want one fault that names the line and the limit, have %.300v", err)
			}
			if most := uint64(8*maxTable + 4*len(c.text)); n > most && !raceDetector {
				t.Errorf("parsing allocated %d MB, more than %d", n>>20, most>>20)
			}
		})
	}
}

// What is refused costs the same however much more of it there is.
func TestTableBeyondTheBudgetCostsNoMore(t *testing.T) {
	cost := func(rounds int) float64 {
		text := crontabThatChanges(rounds)
		n := allocated(func() { Parse("crontab", []byte(text), ParseOptions{}) })
		return float64(n) - 5*float64(len(text)) // the text and its lines
	}
	if small, large := cost(2500), cost(9900); large > 1.5*small {
		t.Errorf("four times as many environments cost %.1f times as much", large/small)
	}
}

// A merge key reads a mapping anew each time, also one of which nothing is taken.
func TestMergesHaveABudget(t *testing.T) {
	text := "x-m: &m {" + strings.Repeat("k: 1, ", 1900) + "}\ncron:\n" +
		strings.Repeat("- {name: j, schedule: '@daily', command: x, <<: ["+strings.Repeat("*m,", 2500)+"*m]}\n", 20)
	if n := allocated(func() { Parse("cron.yaml", []byte(text), ParseOptions{}) }); n > 300<<20 && !raceDetector {
		t.Errorf("20 jobs that merge 2500 mappings each: %d MB allocated", n>>20)
	}
}

// A message quotes the file, and a file may have a thousand faults.
func TestFaultsOfLongValuesAreShort(t *testing.T) {
	text := "x-n: &n " + strings.Repeat("\u00ad", 30_000) + "\ncron:\n" + strings.Repeat("- {name: *n, schedule: '@daily', command: x}\n", 50)
	_, err := Parse("cron.yaml", []byte(text), ParseOptions{})
	if n := len(err.Error()); n > 50*1000 {
		t.Errorf("50 faults of %d bytes", n)
	}
}

func TestTenThousandJobsAreTheMost(t *testing.T) {
	if testing.Short() || raceDetector {
		t.Skip("takes 2 s, many more with the race detector, and starts nothing")
	}
	for name, text := range map[string]func(int) string{"cron.yaml": tenThousand, "crontab": tenThousandLines} {
		tab, err := Parse(name, []byte(text(10_000)), ParseOptions{})
		if err != nil || len(tab.Jobs) != 10_000 {
			t.Errorf("%s: %d jobs: %.300v", name, len(tab.Jobs), err)
		}
		_, err = Parse(name, []byte(text(10_001)), ParseOptions{})
		if err == nil || !strings.Contains(err.Error(), "more than 10000 jobs") {
			t.Errorf("%s with 10,001 jobs: %.300v", name, err)
		}
	}
}

// Jobs share their environment until it changes.
func TestEnvironmentIsSharedButNotChanged(t *testing.T) {
	tab := mustParse(t, "crontab", "A=1\nB=1\n* * * * * a\nC=1\n* * * * * b\nA=2\n* * * * * c\nA=3\nD=1\n* * * * * d\n")
	for i, want := range []string{"A=1 B=1", "A=1 B=1 C=1", "B=1 C=1 A=2", "B=1 C=1 A=3 D=1"} {
		if got := strings.Join(tab.Jobs[i].Env, " "); got != want {
			t.Errorf("%s has %s, want %s", tab.Jobs[i].Name, got, want)
		}
	}
	tab = mustParse(t, "cron.yaml", "x-e: &e {A: 1}\ncron:\n"+
		"- {name: a, schedule: '@daily', command: x, env: *e}\n- {name: b, schedule: '@daily', command: x, env: *e}\n")
	if a, b := tab.Jobs[0].Env, tab.Jobs[1].Env; !slices.Equal(a, []string{"A=1"}) || &a[0] != &b[0] {
		t.Errorf("%q and %q, want one", a, b)
	}
}

// One job may name a variable two thousand times, and a variable may have 128 kB.
func TestEnabledExpandsOnlyShortValues(t *testing.T) {
	long := strings.Repeat("x", 128<<10)
	h := Host{Getenv: func(name string) (string, bool) { return long, name == "A" }}
	j := Job{Enabled: strings.Repeat("${A}", 2000)}
	var why string
	n := allocated(func() { why = j.OffReason(h) })
	if !strings.HasSuffix(why, "is neither true nor false") || len(why) > 200 || n > 4<<20 && !raceDetector {
		t.Errorf("%d MB allocated: %.40s", n>>20, why)
	}
}
