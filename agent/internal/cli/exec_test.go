package cli

import (
	"strings"
	"testing"

	"beanstalk-agent/agent/internal/api"
)

// A request is JSON, which replaces what is no text: "rm" would get another file's name.
func TestExecRefusesWhatWouldNotArriveAsItIs(t *testing.T) {
	for name, r := range map[string]api.ExecRequest{
		"an argument": {Args: []string{"rm", "J\xf6rg"}}, "a variable": {Args: []string{"env"}, Env: []string{"A=\xff"}}, "the directory": {Args: []string{"ls"}, Dir: "\xff"},
	} {
		if err := (&execOptions{req: r, noTTY: true}).check(nil); err == nil || !strings.Contains(err.Error(), "not valid UTF-8") {
			t.Errorf("%s: %v", name, err)
		}
		if err := (&execOptions{req: r, noTTY: true, direct: true}).check(nil); err != nil {
			t.Errorf("%s, without the agent: %v", name, err)
		}
	}
}
