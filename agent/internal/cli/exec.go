package cli

import (
	"cmp"
	"errors"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

type execOptions struct {
	req                        api.ExecRequest
	tty, noTTY, detach, direct bool
	memory                     string
}

func newExecCmd(g *globals) *cobra.Command {
	var o execOptions
	c := &cobra.Command{Use: "exec [flags] -- COMMAND [ARG…]", Args: anyCommand,
		Short: "run a command as the application would: its environment, user and directory",
		Long: `Runs COMMAND with the application's environment, as the application's user, in
the application's directory. When stdin and stdout are terminals, or with -t, it
gets a terminal of its own that outlives a dropped connection: agent ps and agent
attach find it again. "~." at the beginning of a line leaves it running, as does
closing the window. A terminal that is idle for 24 hours, or open for a week, is
ended after a warning in it. You and root may attach to it.

Else the command gets exactly this command's stdin, stdout and stderr, but a pipe
in place of each that is a terminal. What you type is passed on a line at a time
while this command is in the foreground and the terminal echoes.

With --user another user runs it, in that user's home directory and without what
the application could make that user run: no virtualenv, no file's variables, of
Beanstalk's properties none such as LD_PRELOAD, PYTHONPATH or NODE_OPTIONS.

In a deployment's container_commands and predeploy hooks the application is still
the old release, and a note on stderr says so: --dir /var/app/staging runs the
new one's code.

Exit status: the command's own; 128+n when signal n ended it; 124 time limit;
125 the agent failed, refused, cannot be reached or answers nothing for 3 s; 126 found but not
executable; 127 not found; 2 misuse of these flags.

  agent exec -- python manage.py migrate
  agent exec -- pg_dump mydb | gzip > dump.gz
  agent exec -d --timeout 2h -- python manage.py rebuild_index`,
		RunE: func(c *cobra.Command, args []string) error {
			o.req.Args = args
			if err := cmp.Or(o.check(g), emptyFlag(c)); err != nil {
				return misuse(err)
			}
			if o.req.Mode == api.Terminal && !term.IsTerminal(int(g.In.Fd())) { // before anything runs
				return exitIf(125, errors.New("standard input is not a terminal: leave -t out, or use -T"))
			}
			if note := o.staged(stagingDir); note != "" {
				printf(g.Err, "note: %s\n", note)
			}
			if o.direct {
				return o.runDirect(c.Context(), g)
			}
			return o.run(c, g)
		}}
	f := c.Flags()
	f.SetInterspersed(false)
	f.BoolVarP(&o.tty, "tty", "t", false, "give the command a terminal (default: when stdin and stdout are one)")
	f.BoolP("interactive", "i", false, "")
	f.Lookup("interactive").Hidden = true // it always is: for hands that type -it
	f.BoolVarP(&o.noTTY, "no-tty", "T", false, "give it none")
	f.BoolVarP(&o.detach, "detach", "d", false, "print an id and return; see logs, wait, stop")
	f.BoolVar(&o.direct, "direct", false, "as root, without the agent: for when the agent itself is broken")
	f.StringVarP(&o.req.User, "user", "u", "", "run as this `user` (root only; default: the application's)")
	f.BoolVar(&o.req.AppEnv, "app-env", false,
		"with --user: in the application's directory, with all of its environment, which can run its code")
	f.StringVar(&o.req.Dir, "dir", "", "run in this `directory`, relative to the application's")
	f.StringArrayVarP(&o.req.Env, "env", "e", nil, "set `NAME=value` over the application's environment")
	f.DurationVar(&o.req.Timeout, "timeout", 0, "end it after this long: TERM, grace, KILL (exit 124)")
	f.DurationVar(&o.req.Grace, "grace", 0, "between TERM and KILL (default 5s); at most 10m but for root")
	f.DurationVar(&o.req.Idle, "idle", 0, "end a terminal after this long without input and output (default 24h)")
	f.BoolVar(&o.req.Share, "share", false, "let all who may exec attach to this terminal (default: you and root)")
	f.StringVar(&o.memory, "memory", "", "memory limit, such as 512M (needs cgroups)")
	f.StringVar(&o.req.Lock, "lock", "", "refuse while another run holds this `name`; shared with cron")
	return c
}

func (o *execOptions) run(c *cobra.Command, g *globals) error {
	cl, err := g.client()
	if err != nil {
		return exitIf(125, err)
	}
	if o.req.Mode == api.Detached {
		var r runs.Run
		if err := cl.Post(c.Context(), "/v1/runs", o.req, &r); err != nil {
			return exitIf(refusal(err), err)
		}
		return printf(g.Out, "%s\n", r.ID)
	}
	o.req.Size = g.size()
	conn, err := cl.Exec(c.Context(), o.req, g.In, g.Out, g.Err)
	if err != nil {
		return exitIf(refusal(err), err)
	}
	code, err := conn.Run(c.Context(), session.Options{Stdin: g.In, Stdout: g.Out, Stderr: g.Err})
	return exitIf(code, err)
}

// size is that of the caller's terminal; zero where there is none.
func (g *globals) size() session.Size {
	w, h, err := term.GetSize(int(g.Out.Fd()))
	if err != nil {
		return session.Size{}
	}
	return session.Size{Rows: uint16(h), Cols: uint16(w)}
}

// refusal is the exit status of a run that did not start: as the agent's answer says, else 125.
func refusal(err error) int {
	if e, ok := errors.AsType[*api.Error](err); ok && e.Exit != 0 {
		return e.Exit
	}
	return 125
}
