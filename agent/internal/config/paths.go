package config

import (
	"fmt"
	"os"
	"path/filepath"
)

// DefaultSocket is where the agent listens and its clients look when nothing
// names another place: the instance's for root, the user's own otherwise.
//
// A client that is not root looks at the user's own socket first and falls back
// to the instance's, because on an instance ec2-user has no agent of its own.
func DefaultSocket() string {
	const system = "/run/agent/agent.sock"
	if os.Geteuid() == 0 {
		return system
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "agent", "agent.sock")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("agent-%d", os.Geteuid()), "agent.sock")
}

// ClientSocket is the socket a verb talks to: DefaultSocket when it exists,
// else the instance's, so that ec2-user finds the agent that root runs.
func ClientSocket() string {
	own := DefaultSocket()
	if _, err := os.Lstat(own); err == nil {
		return own
	}
	return "/run/agent/agent.sock"
}

// DefaultStateDir is where spools and runs are kept when nothing names another place.
func DefaultStateDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/agent"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "agent")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "state", "agent")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("agent-%d", os.Geteuid()), "state")
}
