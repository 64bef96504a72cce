package daemon

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/health"
)

// serveHealth answers nginx at its socket, and at the port of snippets from before.
func serveHealth(cfg config.Config, check *health.Checker, log *slog.Logger) func(context.Context) error {
	return func(ctx context.Context) error { return check.Serve(ctx, cfg.Health.Listen, nginxSocket(cfg, log)) }
}

// nginxUsers are whom nginx's workers run as: on Amazon Linux, on Debian.
var nginxUsers = []string{"nginx", "www-data"}

// nginxSocket makes the socket at which nginx asks for health, beside the agent's own: in root's directory nobody else
// can make one. An agent that is not root's has none (nil).
//
// Only root and nginx may connect. Others could hand in descriptors that take long to close, and fill the queue.
func nginxSocket(cfg config.Config, log *slog.Logger) func() (net.Listener, error) {
	if os.Geteuid() != 0 {
		return nil
	}
	return func() (net.Listener, error) {
		return listenForNginx(filepath.Join(filepath.Dir(cfg.Socket), "health.sock"), numbers(nginxUsers), log)
	}
}

func listenForNginx(path string, users []uint32, log *slog.Logger) (net.Listener, error) {
	ln, err := fdconn.Listen(path, users)
	if err != nil {
		return nil, err
	}
	ln.Alone = true
	ln.Admit = func(p fdconn.Peer) bool { return p.Owner() || slices.Contains(users, p.UID) }
	return &nginxListener{Listener: ln, log: log}, nil
}

// nginxListener has the kernel refuse a user of whose connections too many cannot be closed, for as long: where nginx's
// workers run as the application's user, that may attach to them what hangs in the kernel, with a thread each. nginx
// asks the application itself then.
type nginxListener struct {
	*fdconn.Listener
	log *slog.Logger

	mu   sync.Mutex
	kept map[uint32][]net.Conn // accepted meanwhile: no more than were in the kernel's queue
}

// lookAgain is how often it is looked whether closes have ended: one that hangs does not report its end.
const lookAgain = 50 * time.Millisecond

// Accept waits for a connection of a user whose connections can be closed.
func (l *nginxListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if uid := c.(*fdconn.Conn).Peer().UID; !l.keep(uid, c) {
			return c, nil
		}
	}
}

// keep leaves c open, if its close might hang.
func (l *nginxListener) keep(uid uint32, c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept, shut := l.kept[uid]
	if !shut && fdconn.Closing.Of(uid) < fdconn.MaxClosing {
		return false
	}
	if l.kept == nil {
		l.kept = map[uint32][]net.Conn{}
	}
	l.kept[uid] = append(kept, c)
	if !shut {
		_ = l.Shut(uid, true)
		l.log.Warn("nginx's user may not connect until what it handed in can be closed", "uid", uid)
		time.AfterFunc(lookAgain, func() { l.look(uid) })
	}
	return true
}

// look closes what is kept, so far as no more closes hang than may, and then lets the user connect again.
func (l *nginxListener) look(uid uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := fdconn.Closing.Of(uid); n < fdconn.MaxClosing && len(l.kept[uid]) > 0; n++ {
		go l.kept[uid][0].Close() // returns soon
		l.kept[uid] = l.kept[uid][1:]
	}
	if len(l.kept[uid]) == 0 && fdconn.Closing.Of(uid) < fdconn.MaxClosing {
		delete(l.kept, uid)
		_ = l.Shut(uid, false)
		return
	}
	time.AfterFunc(lookAgain, func() { l.look(uid) })
}
