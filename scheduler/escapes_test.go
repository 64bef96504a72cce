package scheduler

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"beanstalk-agent/scheduler/yamlnode"
)

// YAML's escapes make characters that no line of the file has. In what is shown each is a fault at its place, in what
// a job gets only the one that the kernel cannot pass on.
func TestControlCharactersOfEscapes(t *testing.T) {
	shown := []string{"name", "lock", "dir", "enabled", "notify", "environments", "timezone", "url", "overlap", "on", "timeout", "retries", "process_types", "grace", "lock_scope", "on_owner_loss"}
	for _, key := range shown {
		for _, escape := range []string{`\e]52;c;eA==\a`, `\x9b2J`, `\u202e`, `\u2066`, `a\nok    runs`, `a\tb`, `\0`, `\x7f`} {
			job := fmt.Sprintf("cron:\n- schedule: '@daily'\n  %s: \"/a%s\"\n", key, escape)
			wants(t, job, 3, len(key)+5)
		}
	}
	for _, job := range []string{
		`- {name: a, schedule: "@daily", command: "printf '\e[1m\n'", env: {A: "\e\u202e\n", B: "\t"}}`,
		`- {name: a, schedule: "@daily", command: [printf, "\e[1m"], env: ["A=\e\n"]}`,
		"- name: a\n  schedule: >\n    @daily\n  command: |\n    a\n    b\n  lock: |\n    x\n",
		`- {name: "häuser 家 🏠", schedule: "@daily", command: x}`,
	} {
		if _, err := Parse("cron.yaml", []byte("cron:\n"+job), ParseOptions{}); err != nil {
			t.Errorf("%s\n%v", job, err)
		}
	}
	wants(t, "cron:\n- name: a\n  schedule: '@daily'\n  command: \"a\\0b\"\n", 4, 12)
	wants(t, "cron:\n- name: a\n  schedule: '@daily'\n  command: [a, \"\\0\"]\n", 4, 16)
	wants(t, "cron:\n- name: a\n  schedule: '@daily'\n  command: a\n  env: {A: \"\\0\"}\n", 5, 12)
}

// wants one fault for a control character, which does not repeat it, at its place.
func wants(t *testing.T, text string, line, column int) {
	t.Helper()
	_, err := Parse("cron.yaml", []byte(text), ParseOptions{})
	faults, _ := errors.AsType[Faults](err)
	n := 0
	for _, f := range faults {
		if strings.Contains(f.Message, "control character") {
			n++
			if f.Line != line || f.Column != column {
				t.Errorf("%s\nat %d:%d, want %d:%d", text, f.Line, f.Column, line, column)
			}
		}
		if strings.ContainsFunc(f.String(), yamlnode.IsCommand) {
			t.Errorf("%s\nrepeats it: %q", text, f)
		}
	}
	if n != 1 {
		t.Errorf("%s\n%d faults tell of a control character, want 1: %v", text, n, err)
	}
}
