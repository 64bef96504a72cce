package scheduler

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"beanstalk-agent/scheduler/yamlnode"
)

// The application's user can write the cron file, and the agent that reads it is root on
// a small host: no file may cost it much, whatever is in it.
func TestHostileFilesCostLittle(t *testing.T) {
	if testing.Short() || raceDetector {
		t.Skip("takes 3 s, many more with the race detector, and starts nothing")
	}
	bomb := "x-0: &a0 {K: v}\n"
	for i := range 20 {
		bomb += fmt.Sprintf("x-%d: &a%d {<<: [*a%d, *a%d, *a%d], K%d: v}\n", i+1, i+1, i, i, i, i)
	}
	long := "x-l: &l [" + strings.Repeat("abcdefgh, ", 10_000) + "z]\ncron:\n" + strings.Repeat("- {name: a, schedule: '@daily', notify: *l}\n", 50_000)
	for name, text := range map[string]string{
		"brackets":     "x-a: " + strings.Repeat("[", 1<<20),
		"braces":       "cron:\n- " + strings.Repeat("{a: ", 1<<20),
		"quoted":       "x-a: " + strings.Repeat(`["]",`, 1<<19),
		"dashes":       "cron:\n- " + strings.Repeat("- ", 1<<20),
		"questions":    strings.Repeat("? ", 1<<20),
		"anchors":      "x-a: " + strings.Repeat("&a ", 1<<20),
		"tags":         "x-a: " + strings.Repeat("!!map ", 1<<19),
		"indentation":  deepMap(2000),
		"self":         "x-a: &a {<<: *a}\ncron:\n- <<: *a\n- name: *n\n",
		"self list":    "x-a: &a [*a, *a]\ncron: *a\n",
		"bomb":         bomb + "cron:\n- {<<: *a20, name: x}\n",
		"long lists":   long,
		"empty lines":  strings.Repeat("\n", 4<<20),
		"words":        strings.Repeat("x\n", 1<<18),
		"jobs":         "cron:\n" + strings.Repeat("- x\n", 1<<17),
		"one line":     strings.Repeat("x", 4<<20),
		"keys":         "cron:\n- " + strings.Repeat("k: 1\n  ", 30_000),
		"flow keys":    "cron:\n- {" + strings.Repeat("k: 1, ", 8_000) + "}\n",
		"flow list":    "x-a: [" + strings.Repeat("k,", 30_000) + "]\n",
		"plain text":   "x-a: " + strings.Repeat("k\n  ", 900) + "\n",
		"colons":       "x-a: " + strings.Repeat("k:", 30_000) + "\n",
		"colons far":   "x-a: " + strings.Repeat("k: ", 20_000) + "\n",
		"quotes":       "x-a: " + strings.Repeat("\"\"", 30_000) + "\n",
		"pipes":        "x-a:\n" + strings.Repeat("  a: |\n   x\n", 400) + "\n",
		"comments":     "x-a: 1\n" + strings.Repeat("#\n", 900) + "b:",
		"unknown keys": "cron:\n" + strings.Repeat("- name: a\n"+strings.Repeat("  a_b: v\n", 30), 3000),
		"too long":     strings.Repeat("#", 5<<20),
		"commas":       "cron:\n- {name: a, schedule: '" + strings.Repeat("1,", 50_000) + "1 * * * *'}\n",
	} {
		for _, file := range []string{"cron.yaml", "crontab"} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Parse(file, []byte(text), ParseOptions{})
			runtime.ReadMemStats(&after)
			if fs, ok := err.(Faults); ok && len(fs) > yamlnode.MaxFaults+1 {
				t.Errorf("%s as %s: %d faults", name, file, len(fs))
			}
			total := (after.TotalAlloc - before.TotalAlloc) >> 20
			t.Logf("%-12s as %-9s: %4d MB allocated", name, file, total)
			if total > 300 && !raceDetector {
				t.Errorf("%s as %s: %d MB allocated", name, file, total)
			}
		}
	}
}

func deepMap(depth int) string {
	var b strings.Builder
	for i := range depth {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}
