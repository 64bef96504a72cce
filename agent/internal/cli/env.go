package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
)

func newEnvCmd(g *globals) *cobra.Command {
	var o envOptions
	c := &cobra.Command{
		Use:   "env [NAME]",
		Short: "the application's environment, exactly as the web process gets it",
		Long: `Without NAME: the names, where each comes from, values masked.
With NAME: that value, its exact bytes, with nothing added; on a terminal what it
would obey is escaped.
With --json: one JSON object of strings, the resolved environment.
With --diff: what the live web process has against what a run started now would
get, by name only unless --values; exit 1 when they differ.
With --file: reads a file instead of asking the agent, in one of these grammars:
  systemd      an EnvironmentFile=, as Beanstalk's own (systemd-219: Amazon Linux 2)
  dotenv       .env, as python-dotenv reads it; what other readers read otherwise is
               noted on stderr
  docker       docker run --env-file
  shell        NAME='value', as heroku config -s prints it; what needs a shell is an error
  json         one object of strings, as heroku config --json prints it

Exit status: 0; 1 when there is no such variable, a file is faulty, --diff finds
a difference, or the agent cannot be asked; 2 misuse.

  agent env DATABASE_URL
  agent env --diff
  agent env --file .env --format dotenv --json`,
		Args: arguments,
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.check(c, args); err != nil {
				return misuse(err)
			}
			switch {
			case o.file != "":
				return o.fromFile(g, args)
			case o.diff:
				return o.compare(c, g)
			}
			return o.ask(c, g, args)
		},
	}
	f := c.Flags()
	f.BoolVar(&o.json, "json", false, "print JSON, with values")
	f.BoolVar(&o.diff, "diff", false, "compare with the live web process")
	f.BoolVar(&o.values, "values", false, "with --diff: show the values")
	f.StringVar(&o.file, "file", "", "read this `file` instead")
	f.StringVar(&o.format, "format", "systemd", "of --file: systemd, systemd-219, dotenv, docker, shell or json")
	return c
}

type envOptions struct {
	json, diff, values bool
	file, format       string
}

// check refuses flags that would be ignored: who typed one meant something.
func (o *envOptions) check(c *cobra.Command, args []string) error {
	switch {
	case o.diff && len(args) > 0:
		return errors.New("--diff and NAME exclude each other: --diff compares all of them")
	case o.diff && o.file != "":
		return errors.New("--diff and --file exclude each other: --diff compares with the live web process")
	case o.values && !o.diff:
		return errors.New("--values goes with --diff; --json prints values")
	case o.file == "" && c.Flags().Changed("format"):
		return errors.New("--format is that of --file, which is missing")
	case o.json && len(args) > 0:
		return errors.New("--json and NAME exclude each other: NAME prints exact bytes")
	}
	return nil
}

func (o *envOptions) ask(c *cobra.Command, g *globals, args []string) error {
	path := "/v1/env"
	if o.json || len(args) > 0 {
		path += "?values"
	}
	var env api.Environment
	if err := g.get(c.Context(), path, &env); err != nil {
		return err
	}
	for _, w := range env.Warnings {
		printf(g.Err, "note: %s\n", w)
	}
	return o.print(g, env.Variables, args)
}

func (o *envOptions) print(g *globals, vars []api.Variable, args []string) error {
	if len(args) > 0 {
		for _, v := range vars {
			if v.Name == args[0] {
				out := g.output(false)
				defer out.Close()
				_, err := io.WriteString(out, *v.Value)
				return err
			}
		}
		return fmt.Errorf("the application has no variable %q", args[0])
	}
	if o.json {
		m := map[string]string{}
		for _, v := range vars {
			m[v.Name] = *v.Value
		}
		return printJSON(g.Out, "env", m)
	}
	var rows [][]string
	for _, v := range vars {
		rows = append(rows, []string{v.Name, fmt.Sprintf("%d bytes", v.Length), v.Source})
	}
	return table(g.Out, []string{"NAME", "VALUE", "FROM"}, rows)
}
