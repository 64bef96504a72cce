package main

// The rules of the terminal:
//
//   - Data goes to stdout, words to stderr; nothing of ours to an exec's stdout.
//   - An error is one line "error: …", then "hint: …" lines that say what to do.
//     Lower case, no final period.
//   - Every verb that prints data takes --json.
//   - Colour only on a terminal, never with NO_COLOR set, and never as the only
//     carrier of a meaning.
//   - Exit codes are chosen here and nowhere else: see exitCode.

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/config"
)

// stdio is where a verb reads and writes; files, because an exec hands them on.
type stdio struct{ in, out, err *os.File }

// globals are the flags that every verb takes.
type globals struct {
	stdio
	config string // --config, AGENT_CONFIG
	socket string // --socket, AGENT_SOCKET
}

const usage = `agent runs beside a web application on Elastic Beanstalk: cron jobs and one-off
commands with the application's own environment, memory metrics, and health
checks with the right Host.

  agent run                    start the agent (systemd does this on an instance)
  agent status                 what runs, what was found, what is wrong
  agent exec -- CMD…           run a command as the application would
  agent cron list              the application's jobs, when each is next due
  agent env                    the application's environment, values masked
  agent metrics --once         what one publish would send
  agent health                 ask the application, with the right Host`

// verbs is the table of verbs: adding one is a file cmd_NAME.go and a line here.
func verbs(g *globals) []*cobra.Command {
	return []*cobra.Command{
		newRunCmd(g), newSuperviseCmd(g), newPostCmd(g),
		newExecCmd(g), newAttachCmd(g), newPsCmd(g), newLogsCmd(g), newStopCmd(g), newWaitCmd(g),
		newCronCmd(g), newEnvCmd(g), newMetricsCmd(g), newCapacityCmd(g),
		newHealthCmd(g), newDrainCmd(g), newUndrainCmd(g),
		newStatusCmd(g), newReloadCmd(g), newHoldCmd(g), newReleaseCmd(g),
		newConfigCmd(g), newVersionCmd(g),
		newInstallCmd(), newUninstallCmd(),
	}
}

// run is the program: it returns the exit status.
func run(args []string, std stdio) int {
	g := &globals{stdio: std}
	root := &cobra.Command{
		Use: "agent", Long: usage, SilenceErrors: true, SilenceUsage: true,
		PersistentPreRun: func(*cobra.Command, []string) { g.fill() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().StringVar(&g.config, "config", "", "configuration `file` (AGENT_CONFIG; default "+config.DefaultPath+")")
	root.PersistentFlags().StringVar(&g.socket, "socket", "", "the agent's `socket` (AGENT_SOCKET)")
	root.SetArgs(args)
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	began := false
	for _, v := range verbs(g) {
		root.AddCommand(v)
		markBegin(v, &began)
	}
	root.DisableSuggestions = true // said as a hint instead
	err := root.Execute()
	if err != nil && !began {
		err = misuse(suggest(root, args, err))
	}
	report(std.err, err)
	return exitCode(err)
}

// suggest adds to misuse what was probably meant, or where help is.
func suggest(root *cobra.Command, args []string, err error) error {
	c, rest, _ := root.Find(args)
	if c == nil {
		c = root
	}
	if len(rest) > 0 && c.HasSubCommands() {
		root.SuggestionsMinimumDistance, c.SuggestionsMinimumDistance = 2, 2
		if names := c.SuggestionsFor(rest[0]); len(names) > 0 {
			return &api.Error{Message: err.Error(), Hint: "did you mean: " + c.CommandPath() + " " + strings.Join(names, ", "+c.CommandPath()+" ")}
		}
	}
	return &api.Error{Message: err.Error(), Hint: c.CommandPath() + " --help"}
}

// group is a verb that only holds others: without one of them it says which
// there are, with a word it does not know it is misuse.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unknown command %q for %q", args[0], c.CommandPath())
		}
		return nil
	}, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(subs...)
	return c
}

// markBegin notes that a verb's own code began: an error before that is misuse
// of the command line.
func markBegin(c *cobra.Command, began *bool) {
	if body := c.RunE; body != nil {
		c.RunE = func(c *cobra.Command, args []string) error { *began = true; return body(c, args) }
	}
	for _, sub := range c.Commands() {
		markBegin(sub, began)
	}
}

// fill takes from the environment what no flag gave.
func (g *globals) fill() {
	if g.config == "" {
		g.config = os.Getenv("AGENT_CONFIG")
	}
	if g.socket == "" {
		g.socket = os.Getenv("AGENT_SOCKET")
	}
}

// load reads the configuration. One that a client may not read is no error for
// it, and one that is faulty only a note, since the agent runs on with what it
// had: the defaults apply. One that was named and is missing is an error.
func (g *globals) load(client bool) (config.Config, error) {
	path, named := config.DefaultPath, g.config != ""
	if named {
		path = g.config
	}
	c, err := config.Load(path, named, healthFaults)
	if client && errors.Is(err, os.ErrPermission) {
		return config.Default(), nil
	}
	if faults, ok := errors.AsType[config.Faults](err); ok && client {
		fmt.Fprintf(g.err, "note: %s has %d faults (agent config check tells them): the default socket is asked\n", path, len(faults))
		return config.Default(), nil
	}
	return c, err
}

// client finds the running agent by flag, environment, configuration, default.
func (g *globals) client() (*api.Client, error) {
	if g.socket != "" {
		return api.NewClient(g.socket), nil
	}
	c, err := g.load(true)
	if err != nil {
		return nil, err
	}
	if c.Socket != "" {
		return api.NewClient(c.Socket), nil
	}
	return api.NewClient(api.ClientSocket()), nil
}

// exitError carries the exit status of a verb. A nil err says nothing more.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func misuse(err error) error  { return &exitError{2, err} }
func exitWith(code int) error { return exitIf(code, nil) }
func exitIf(code int, err error) error {
	if code == 0 && err == nil {
		return nil
	}
	return &exitError{code, err}
}

// exitCode gives 0 for good, 1 when the answer is no or something failed, 2 for
// misuse, and what an exitError says otherwise: the command's own code, 125 when
// it was the agent that failed (as coreutils' timeout and env do).
func exitCode(err error) int {
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if err != nil {
		return 1
	}
	return 0
}

// hinter is an error that knows what to do about itself.
type hinter interface {
	error
	Hints() []string
}

func report(w io.Writer, err error) {
	if e, ok := errors.AsType[*exitError](err); ok && e.err == nil {
		return
	}
	if err == nil {
		return
	}
	for line := range strings.Lines(err.Error()) { // one fault a line
		fmt.Fprintln(w, "error:", strings.TrimSuffix(line, "\n"))
	}
	if h, ok := errors.AsType[hinter](err); ok {
		for _, hint := range h.Hints() {
			fmt.Fprintln(w, "hint:", hint)
		}
	}
}
