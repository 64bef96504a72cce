package daemon

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"

	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/health"
)

// serveHealth answers nginx at its socket, and at the port of snippets from before.
func serveHealth(cfg config.Config, check *health.Checker) func(context.Context) error {
	return func(ctx context.Context) error { return check.Serve(ctx, cfg.Health.Listen, nginxSocket(cfg)) }
}

// nginxUsers are whom nginx's workers run as: on Amazon Linux, on Debian.
var nginxUsers = []string{"nginx", "www-data"}

// nginxSocket makes the socket at which nginx asks for health, beside the agent's own: in root's directory nobody else
// can make one. An agent that is not root's has none (nil).
//
// Only root and nginx may connect. Others could hand in descriptors that take long to close, and fill the queue.
func nginxSocket(cfg config.Config) func() (net.Listener, error) {
	if os.Geteuid() != 0 {
		return nil
	}
	return func() (net.Listener, error) {
		users := numbers(nginxUsers)
		ln, err := fdconn.Listen(filepath.Join(filepath.Dir(cfg.Socket), "health.sock"), users)
		if err != nil {
			return nil, err
		}
		ln.Admit = func(p fdconn.Peer) bool { return p.Owner() || slices.Contains(users, p.UID) }
		return ln, nil
	}
}
