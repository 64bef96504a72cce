package cli

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/runs"
)

// anyCommand is what exec takes: a command with all that follows it.
func anyCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 || args[0] == "" {
		return fmt.Errorf("%s needs a command, such as: %[1]s -- bash", c.CommandPath())
	}
	return nil
}

// check decides what the flags leave open, and refuses those that contradict each other or would be ignored.
func (o *execOptions) check(g *globals) error {
	terminal := !o.detach && o.wantsTerminal(g)
	switch {
	case o.tty && o.noTTY:
		return errors.New("--tty and --no-tty exclude each other")
	case o.detach && o.tty:
		return errors.New("--detach and --tty exclude each other: a detached run has no terminal")
	case o.req.Idle != 0 && !terminal:
		return errors.New("--idle is that of a terminal, which this run does not get: see --tty")
	case o.req.Share && (!terminal || o.direct):
		return errors.New("--share is that of a terminal of the agent's, which this run does not get: see --tty")
	case o.req.Timeout < 0 || o.req.Idle < 0:
		return errors.New("--timeout and --idle cannot be negative")
	case o.req.AppEnv && o.req.User == "":
		return errors.New("--app-env goes with --user: the application's own user has its environment")
	case o.detach && o.direct:
		return errors.New("--detach and --direct exclude each other: without the agent there is no record of the run")
	case !o.direct && slices.ContainsFunc(slices.Concat(o.req.Args, o.req.Env, []string{o.req.Dir}), notText):
		// JSON would replace the byte
		return errors.New("an argument is not valid UTF-8 and would not arrive as it is; --direct takes any bytes")
	}
	if err := runs.CheckGrace(uint32(os.Geteuid()), o.req.Grace); err != nil {
		return fmt.Errorf("--%w", err)
	}
	for _, e := range o.req.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			return fmt.Errorf("--env: expected NAME=value, have %q", name)
		}
	}
	var err error
	if o.req.Memory, err = parseBytes(o.memory); err != nil {
		return fmt.Errorf("--memory: %w", err)
	}
	o.req.Mode = api.Pipes
	if o.detach {
		o.req.Mode = api.Detached
	} else if terminal {
		o.req.Mode = api.Terminal
		o.req.Env = withTerm(o.req.Env, os.Getenv("TERM"))
	}
	return nil
}

// emptyFlag refuses a flag whose value is empty, as a script's variable that is not set: it would count as left out.
func emptyFlag(c *cobra.Command) (err error) {
	c.Flags().Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "string" && f.Value.String() == "" {
			err = fmt.Errorf("--%s is empty: leave it out, or give a value", f.Name)
		}
	})
	return err
}

// wantsTerminal reports whether the command is to get a terminal: as asked, else when stdin and stdout are one.
func (o *execOptions) wantsTerminal(g *globals) bool {
	return o.tty || !o.noTTY && term.IsTerminal(int(g.In.Fd())) && term.IsTerminal(int(g.Out.Fd()))
}

func notText(s string) bool { return !utf8.ValidString(s) }

// withTerm hands the kind of the caller's terminal on, as ssh does: the application's environment does not have it, and
// without it no program can draw. Nothing else of the caller's environment goes along.
func withTerm(env []string, term string) []string {
	given := slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "TERM=") })
	if term == "" || given {
		return env
	}
	return append(env, "TERM="+term)
}

// parseBytes reads 512M, 1G, 300k or a number of bytes.
func parseBytes(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	number, unit := strings.ToUpper(s), int64(1)
	if i := strings.IndexAny(number, "KMGT"); i > 0 && i == len(number)-1 {
		unit = 1 << (10 * (1 + strings.IndexByte("KMGT", number[i])))
		number = number[:i]
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > (1<<62)/unit {
		return 0, fmt.Errorf("expected a size such as 512M, have %q", s)
	}
	return n * unit, nil
}
