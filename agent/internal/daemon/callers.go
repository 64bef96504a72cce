package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/strictpath"
)

// passwd says which number a user's name has.
const passwd = "/etc/passwd"

// callers are those who may connect: this user, root, and the users of exec.allow by the numbers that they have now.
// The kernel refuses others at the socket. ssm-user is made when he logs in for the first time, and asks in the same
// second; exec.allow may change. Both files are looked at when they change, and at each connection.
type callers struct {
	*fdconn.Listener
	configFile string
	reload     func() (config.Config, error)
	log        *slog.Logger

	mu    sync.Mutex
	seen  [2]os.FileInfo // of passwd and configFile
	names []string
	uids  []uint32
	err   error // why others than these may connect, or some of these may not
}

// makeDir makes a directory that is not there with just this mode: the unit's UMask= would keep nginx out.
func makeDir(name string, mode os.FileMode) error {
	_, err := os.Lstat(name)
	if err := strictpath.MkdirAll(name, mode); err != nil {
		return fmt.Errorf("make the socket's directory: %w", err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return os.Chmod(name, mode)
	}
	return nil
}

// listen takes the socket. In a place of the user's own the directory is closed to others as well.
func (o Options) listen(cfg config.Config, log *slog.Logger) (*callers, error) {
	mode := os.FileMode(0o755)
	if os.Geteuid() != 0 {
		mode = 0o700
	}
	if err := makeDir(filepath.Dir(cfg.Socket), mode); err != nil {
		return nil, err
	}
	c := &callers{configFile: o.ConfigFile, reload: o.Reload, log: log, names: cfg.Exec.Allow}
	c.changed()
	c.uids = numbers(c.names)
	ln, err := fdconn.Listen(cfg.Socket, c.uids)
	if used, ok := errors.AsType[*fdconn.InUse](err); ok {
		return nil, fmt.Errorf("an agent is running already: process %d holds %s", used.PID, cfg.Socket)
	}
	if err != nil {
		return nil, err
	}
	c.Listener = ln
	c.admit()
	return c, nil
}

// Follow looks when one of the files has changed, until ctx is done.
func (c *callers) Follow(ctx context.Context) error {
	dir := filepath.Dir(c.configFile)
	return changes(ctx, []string{filepath.Dir(passwd), dir, filepath.Dir(dir)}, c.Look)
}

func eachSecond(ctx context.Context, look func()) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			look()
		}
	}
}

// Allowed reports whether a user stands in exec.allow, as it is now.
func (c *callers) Allowed(uid uint32) bool {
	c.Look()
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.uids, uid)
}

// Look takes up what has changed in either file.
func (c *callers) Look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	passwdChanged, configChanged := c.changed()
	if !passwdChanged && !configChanged {
		return
	}
	if configChanged && c.reload != nil {
		if cfg, err := c.reload(); err != nil {
			c.log.Error("exec.allow stays as it was: the configuration cannot be read", "err", err)
		} else {
			c.names = cfg.Exec.Allow
		}
	}
	if uids := numbers(c.names); !slices.Equal(uids, c.uids) {
		c.uids = uids
		c.log.Info("callers changed", "uids", uids)
		c.admit()
	}
}

// changed reports which of the files is another than at the last look.
func (c *callers) changed() (passwdChanged, configChanged bool) {
	look := func(i int, path string) bool {
		before := c.seen[i]
		now, err := os.Stat(path)
		if err != nil {
			now = nil
		}
		c.seen[i] = now
		if before == nil || now == nil {
			return before != now
		}
		return !os.SameFile(before, now) || before.Size() != now.Size() || !before.ModTime().Equal(now.ModTime())
	}
	return look(0, passwd), look(1, c.configFile)
}

// admit has the kernel let in whom Allowed does.
func (c *callers) admit() {
	before := c.err
	if c.err = c.AllowUsers(c.uids); c.err != nil && !errors.Is(c.err, before) {
		c.log.Warn("who may connect to the socket is not as it should be", "err", c.err)
	}
}

// Status has a line where the kernel does not refuse those who are not allowed.
func (c *callers) Status(context.Context) []api.Line {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case errors.Is(c.err, fdconn.ErrNoACL):
		hint := "move socket: in agent.yaml to a file system with ACLs, such as tmpfs"
		return []api.Line{api.NewLine("socket", api.Warn, hint, "%v; strangers are refused then", c.err)}
	case c.err != nil:
		return []api.Line{api.NewLine("socket", api.Bad, "", "only root may connect: %v", c.err)}
	}
	return nil
}

// numbers are the users that names have now, but for root and this one, who need none. A name that is none is no fault:
// it may become one.
func numbers(names []string) (uids []uint32) {
	for _, name := range names {
		if u, err := user.Lookup(name); err == nil {
			name = u.Uid
		}
		n, err := strconv.ParseUint(name, 10, 32)
		if err == nil && n != math.MaxUint32 && !(fdconn.Peer{UID: uint32(n)}).Owner() {
			uids = append(uids, uint32(n))
		}
	}
	slices.Sort(uids)
	return slices.Compact(uids)
}
