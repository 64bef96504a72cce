package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/config"
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
		fmt.Fprintf(g.Err, "note: %s has %d faults (see agent config check): the default socket is asked\n",
			path, len(faults))
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

// get asks the running agent for path.
func (g *globals) get(ctx context.Context, path string, out any) error {
	cl, err := g.client()
	if err != nil {
		return err
	}
	return cl.Get(ctx, path, out)
}
