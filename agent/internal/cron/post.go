package cron

import (
	"context"
	"os"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/scheduler"
)

// Where `agent post` posts to, and with what, comes in the environment: everybody can read a command line, and a header
// or a query may be a secret.
const (
	PostTarget  = "AGENT_POST_TARGET"  // http://HOST:PORT or unix:/SOCKET
	PostPath    = "AGENT_POST_PATH"    // with its query
	PostHost    = "AGENT_POST_HOST"    // Host header
	PostHeaders = "AGENT_POST_HEADERS" // NAME: value, one a line
)

// poster is how a url: job reaches the application: the agent's own binary makes the request, as the application's
// user, so that such a job has output, history and limits like every other.
type poster struct {
	app *app.App
	exe string
}

func newPoster(a *app.App) poster {
	exe, _ := os.Executable()
	return poster{a, exe}
}

func (p poster) argv(f scheduler.Firing) []string {
	due := f.Due.UTC().Format(time.RFC3339)
	return []string{p.exe, "post", "--task", f.Job.Name, "--scheduled-at", due}
}

func (p poster) env(ctx context.Context, f scheduler.Firing) []string {
	host, _ := p.app.Host(ctx)
	from, _ := p.app.Origin(ctx)
	return []string{PostTarget + "=" + strings.TrimSuffix(from, ":"), PostPath + "=" + f.Job.URL, PostHost + "=" + host,
		PostHeaders + "=" + strings.Join(p.app.Headers(), "\n")}
}
