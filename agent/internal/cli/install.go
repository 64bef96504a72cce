package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging"
)

// newInstallCmd is "agent install": on this host, or into an application's repository.
func newInstallCmd(g *globals) *cobra.Command {
	var o packaging.Options
	var into string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "install",
		Short: "put the agent on this host, or what it needs into an application's repository",
		Long: `Put the agent on this host: the binary as /opt/agent/bin/agent, a link to it in
/usr/bin, the units agent.service and agent-runs.service, and their directories;
then start it, or restart it when its binary, unit or configuration changed. What
runs is never interrupted. When a new agent does not start, the one before it is put back.
Doing it again changes nothing.

With --into, write instead what an application's repository needs to have the
agent on Elastic Beanstalk, and say what to commit.

Exit codes: 0 done, or nothing to do; 1 it failed; 2 misuse.`,
		Example: `  sudo ./agent install
  agent install --into ~/src/myapp`,
		Args: arguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var report packaging.Report
			var err error
			if into != "" {
				report, err = packaging.InstallInto(into, o.DryRun)
			} else {
				report, err = installHere(cmd, g, o)
			}
			return printReport(cmd, report, asJSON, err)
		},
	}
	cmd.Flags().StringVar(&into, "into", "", "write into the application's repository in `DIR` instead")
	cmd.Flags().StringVar(&o.Root, "root", "", "put `DIR` before every path, and start nothing")
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "say what would be done")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.MarkFlagsMutuallyExclusive("into", "root")
	return cmd
}

func installHere(cmd *cobra.Command, g *globals, o packaging.Options) (packaging.Report, error) {
	exe, err := os.Executable()
	if err != nil {
		return packaging.Report{}, fmt.Errorf("find this binary: %w", err)
	}
	o.Binary = exe
	o.Preflight = func() error {
		_, err := config.Load(config.DefaultPath, false, g.Check)
		return err
	}
	o.Retire = func(ctx context.Context) error {
		_, err := (&runs.Client{Socket: runs.SystemSocket}).Retire(ctx)
		return err
	}
	// a closed terminal must not leave a half-done installation
	signal.Ignore(syscall.SIGHUP)
	return packaging.Install(cmd.Context(), o)
}

// printReport prints what was done, also before a failure: it is on the host now.
func printReport(cmd *cobra.Command, report packaging.Report, asJSON bool, err error) error {
	if asJSON {
		if encErr := printJSON(cmd.OutOrStdout(), cmd.Name(), report); err == nil {
			err = encErr
		}
		return err
	}
	writeReport(cmd.OutOrStdout(), cmd.ErrOrStderr(), report, err == nil)
	return err
}

// writeReport prints the steps as data and the notes as words.
func writeReport(data, words io.Writer, report packaging.Report, good bool) {
	for _, s := range report.Steps {
		printf(data, "%-7s %s\n", s.Action, s.Path)
	}
	if good && len(report.Steps) == 0 {
		printf(words, "nothing to do\n")
	}
	for _, note := range report.Notes {
		printf(words, "note: %s\n", note)
	}
}
