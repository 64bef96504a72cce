package cli

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

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

// exec and stop name the range of --grace as misuse, before anything is asked of the agent.
func TestGraceHasARange(t *testing.T) {
	most := "10m0.000000001s"
	if os.Geteuid() == 0 {
		most = "-1s" // root may ask for more
	}
	for _, grace := range []string{"-1ns", most} {
		d, _ := time.ParseDuration(grace)
		o := &execOptions{req: api.ExecRequest{Args: []string{"true"}, Grace: d}, noTTY: true}
		if err := o.check(nil); err == nil || !strings.Contains(err.Error(), "--grace: expected 0s to 10m") {
			t.Errorf("exec --grace %s: %v", grace, err)
		}
		c := newStopCmd(&globals{})
		c.SetArgs([]string{"--grace=" + grace, "ID"})
		c.SilenceErrors, c.SilenceUsage = true, true
		err := c.Execute()
		e, misused := errors.AsType[*exitError](err)
		if !misused || e.code != 2 || !strings.Contains(err.Error(), "--grace: expected 0s to 10m") {
			t.Errorf("stop --grace %s: %v", grace, err)
		}
	}
}
