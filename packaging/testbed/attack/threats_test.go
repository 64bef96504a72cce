package attack

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestThreatsNameTests: a promise of threats.md is worth the test that it names, and an attack that is not there has
// nothing to say.
func TestThreatsNameTests(t *testing.T) {
	page, err := os.ReadFile("../../docs/threats.md")
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	out, err := exec.Command("grep", "-rhoE", `^func (Test|Fuzz)[[:alnum:]]+`, "../../..", "--include=*_test.go").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		there[strings.TrimSpace(strings.TrimPrefix(line, "func "))] = true
	}
	for _, attack := range attacks {
		there[nameOf(attack)] = true
		if !strings.Contains(string(page), "`"+nameOf(attack)+"`") {
			t.Errorf("threats.md does not have %s", nameOf(attack))
		}
	}
	lines := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(cells[0], "---") || strings.TrimSpace(cells[len(cells)-1]) == "test" {
			continue
		}
		lines++
		names := regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(cells[len(cells)-1], -1)
		if len(names) == 0 {
			t.Errorf("no test stands by\n%s", line)
		}
		for _, name := range names {
			if !there[name[1]] {
				t.Errorf("there is no test %s, which threats.md names", name[1])
			}
		}
	}
	if lines < 40 {
		t.Errorf("only %d lines", lines)
	}
}
