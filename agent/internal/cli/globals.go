package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/metrics"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

// Stdio is where a verb reads and writes; files, because an exec hands them on.
type Stdio struct{ In, Out, Err *os.File }

// globals are what every verb has.
type globals struct {
	Stdio
	Programs
	config string // --config, AGENT_CONFIG
	socket string // --socket, AGENT_SOCKET
}

// fill takes from the environment the places that no flag gave.
func (g *globals) fill() {
	if g.config == "" {
		g.config = os.Getenv("AGENT_CONFIG")
	}
	if g.socket == "" {
		g.socket = os.Getenv("AGENT_SOCKET")
	}
}

// load reads the configuration. For a client the defaults stand in for a file that it may not read, and, with a note,
// for a faulty one: the agent still runs with what it read before. A file that was named and is missing is an error.
func (g *globals) load(client bool) (config.Config, error) {
	path, named := config.DefaultPath, g.config != ""
	if named {
		path = g.config
	}
	c, err := config.Load(path, named, g.Check)
	if client && errors.Is(err, os.ErrPermission) {
		return config.Default(), nil
	}
	if faults, ok := errors.AsType[config.Faults](err); ok && client {
		printf(g.Err, "note: %s has %d faults (see agent config check): the default socket is asked\n",
			path, len(faults))
		return config.Default(), nil
	}
	return c, err
}

// client finds the running agent by flag, environment, configuration, default.
func (g *globals) client() (*api.Client, error) {
	if g.socket != "" {
		return g.clientOf(g.socket), nil
	}
	c, err := g.load(true)
	if err != nil {
		return nil, err
	}
	if c.Socket != "" {
		return g.clientOf(c.Socket), nil
	}
	return g.clientOf(api.ClientSocket()), nil
}

// clientOf is a client that says on stderr that an agent is busy; its error says that one is down or hung.
func (g *globals) clientOf(socket string) *api.Client {
	cl := api.NewClient(socket)
	cl.Busy = func(within time.Duration) {
		printf(g.Err, "note: the agent is up, but busy: no answer to this within %s; still waiting\n", within)
	}
	return cl
}

// get asks the running agent for path.
func (g *globals) get(ctx context.Context, path string, out any) error {
	cl, err := g.client()
	if err != nil {
		return err
	}
	return cl.Get(ctx, path, out)
}

// Programs are the parts of the binary that verbs start. All are required.
type Programs struct {
	Run       func(context.Context, RunOptions) error       // the agent
	Supervise func(context.Context, SuperviseOptions) error // the parent of every run
	Check     config.Check                                  // what the agent would refuse of a configuration

	// Direct starts a run as a child of this process, and serves its session on conn.
	Direct func(req runs.Request, conn *os.File, files []int) (session.Child, error)

	Application func(context.Context, config.Config) *app.App      // the application, without an agent
	Metrics     func(context.Context, config.Config) *metrics.Here // collects without an agent
}

// RunOptions are what the command line says of an agent to start.
type RunOptions struct {
	Config     config.Config
	ConfigFile string                        // where Config was read, if it is there
	Reload     func() (config.Config, error) // reads it again
	Socket     string                        // "": as Config says
	App        string                        // the application's directory; "": as Config says
	Stderr     *os.File
}

// SuperviseOptions are the rules of the supervisor.
type SuperviseOptions struct {
	Socket      string
	StateDir    string
	AllowUsers  []string
	AllowGroups []string
	AllowRoot   bool
	IdleExit    time.Duration
	Log         *os.File
}

// group is a verb that only has others below it: alone it lists them, with an unknown one it is misuse.
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
