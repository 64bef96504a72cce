// Package cli is the command line: one file a verb, which parses its flags, asks the agent through api, and prints.
//
// Contract: a verb is a client, and may meet an agent of another version. None imports the agent's parts: main hands
// them in as Programs.
package cli

// The rules of the terminal:
//
//   - Data goes to stdout, words to stderr; nothing of ours to an exec's stdout.
//   - An error is one line "error: …", then "hint: …" lines that say what to do.
//     Lower case, no final period.
//   - Every verb that prints data takes --json.
//   - Colour only on a terminal, never with NO_COLOR set, and never as the only
//     carrier of a meaning.
//   - Exit codes are chosen in exit.go and nowhere else: see exitCode.

import (
	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/config"
)

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

// verbs is the table of verbs: adding one is a file of its name and a line here.
func verbs(g *globals) []*cobra.Command {
	return []*cobra.Command{
		newRunCmd(g), newSuperviseCmd(g), newPostCmd(g),
		newExecCmd(g), newAttachCmd(g), newPsCmd(g), newLogsCmd(g), newStopCmd(g), newWaitCmd(g),
		newCronCmd(g), newEnvCmd(g), newMetricsCmd(g), newCapacityCmd(g),
		newHealthCmd(g), newDrainCmd(g), newUndrainCmd(g),
		newStatusCmd(g), newReloadCmd(g), newHoldCmd(g), newReleaseCmd(g),
		newConfigCmd(g), newVersionCmd(g),
		newInstallCmd(g), newUninstallCmd(g),
	}
}

// Main runs the verb of args and returns the exit status.
func Main(args []string, std Stdio, p Programs) int {
	g := &globals{Stdio: std, Programs: p}
	root := &cobra.Command{
		Use: "agent", Long: usage, SilenceErrors: true, SilenceUsage: true,
		PersistentPreRun: func(*cobra.Command, []string) { g.fill() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	f := root.PersistentFlags()
	f.StringVar(&g.config, "config", "", "configuration `file` (AGENT_CONFIG; default "+config.DefaultPath+")")
	f.StringVar(&g.socket, "socket", "", "the agent's `socket` (AGENT_SOCKET)")
	root.SetArgs(args)
	root.SetIn(std.In)
	root.SetOut(std.Out)
	root.SetErr(std.Err)
	began := false
	help := newHelpCmd(root)
	root.SetHelpCommand(help)
	markBegin(help, &began)
	for _, v := range verbs(g) {
		root.AddCommand(v)
		markBegin(v, &began)
	}
	root.DisableSuggestions = true // said as a hint instead
	root.SetFlagErrorFunc(flagError)
	root.SetHelpTemplate(helpPage)
	err := root.Execute()
	if err != nil && !began {
		err = misuse(suggest(root, args, err))
	}
	report(std.Err, err)
	return exitCode(err)
}

// markBegin sets began when a verb's own code starts: an error before that is misuse of the command line.
func markBegin(c *cobra.Command, began *bool) {
	if body := c.RunE; body != nil {
		c.RunE = func(c *cobra.Command, args []string) error { *began = true; return body(c, args) }
	}
	for _, sub := range c.Commands() {
		markBegin(sub, began)
	}
}
