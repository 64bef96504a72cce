package api

import (
	"os"
	"os/user"
	"path/filepath"
)

const systemSocket = "/run/agent/agent.sock"

// DefaultSocket is where the agent listens when nothing names another place: the instance's for root, the
// user's own otherwise. Never in a temporary directory, where anybody may make it first.
func DefaultSocket() string {
	if os.Geteuid() == 0 {
		return systemSocket
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "agent", "agent.sock")
	}
	return filepath.Join(DefaultStateDir(), "run", "agent.sock")
}

// ClientSocket is the socket that a verb asks: DefaultSocket when it exists, else the instance's, so that ec2-user
// finds the agent that root runs.
func ClientSocket() string {
	own := DefaultSocket()
	if _, err := os.Lstat(own); err == nil {
		return own
	}
	return systemSocket
}

// DefaultStateDir is where spools and runs are kept when nothing names another place.
func DefaultStateDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/agent"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "agent")
	}
	return filepath.Join(home(), ".local", "state", "agent")
}

// home is this user's directory; where there is none, one that only root could make.
func home() string {
	if dir, err := os.UserHomeDir(); err == nil {
		return dir
	}
	if u, err := user.Current(); err == nil && u.HomeDir != "" {
		return u.HomeDir
	}
	return "/"
}
