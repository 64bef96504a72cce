package packaging

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// systemctlLimit bounds one call of systemctl. It exceeds the units' TimeoutStartSec
// and TimeoutStopSec together, so that systemd's own limits apply; not the longest
// grace of a run.
const systemctlLimit = 100 * time.Second

// manage makes systemd load and run what was placed, and rolls back what did not start.
func (h *host) manage(ctx context.Context, o Options) error {
	if !o.live() {
		return nil
	}
	if _, err := os.Stat(bootedPath); err != nil {
		h.note("systemd does not run here: the units are in place and enabled, nothing was started")
		return nil
	}
	reloaded, err := h.reloadUnits(ctx)
	if err != nil {
		return errors.Join(err, h.rollBack())
	}
	agent, runs := unitState(ctx, agentUnit), unitState(ctx, runsUnit)
	switch {
	case agent["LoadState"] == "masked":
		return nil
	case agent["ActiveState"] != "active" || reloaded || h.wrote(binaryPath) || !h.runsInstalled(agent["MainPID"]):
	case h.configChanged():
		h.note("%s changed: the agent is restarted to take it", ConfigPath)
	default:
		return nil
	}
	if err := h.systemctl(ctx, "restart", agentUnit); err != nil {
		return h.putBack(ctx, agent["ActiveState"] == "active", err)
	}
	h.retireSupervisor(ctx, runs["MainPID"], o.Retire)
	return nil
}

// preflight keeps a running agent from being replaced by one that cannot start.
func (h *host) preflight(ctx context.Context, o Options) error {
	if o.Preflight == nil || !o.live() || unitState(ctx, agentUnit)["ActiveState"] != "active" {
		return nil
	}
	if err := o.Preflight(); err != nil {
		return fmt.Errorf("install: the running agent is unchanged: %w", err)
	}
	return nil
}

// wrote reports whether path was, or in a dry run would be, written.
func (h *host) wrote(path string) bool {
	return slices.Contains(h.report.Steps, Step{"write", path})
}

// reloadUnits makes systemd read unit files that changed, now or in an earlier
// installation that was interrupted, and reports whether it did.
func (h *host) reloadUnits(ctx context.Context) (bool, error) {
	need := false
	for _, name := range units {
		state := unitState(ctx, name)
		need = need || state["NeedDaemonReload"] == "yes" || state["LoadState"] == "not-found"
	}
	for _, s := range h.report.Steps {
		need = need || strings.HasPrefix(s.Path, unitDir)
	}
	if !need {
		return false, nil
	}
	return true, h.systemctl(ctx, "daemon-reload")
}

// putBack undoes an installation whose agent did not start. When none ran before, the new one stays, to be examined.
func (h *host) putBack(ctx context.Context, ran bool, cause error) error {
	if !ran {
		return fmt.Errorf("start the agent: %w (see journalctl -u %s; systemd goes on trying)", cause, agentUnit)
	}
	err := h.rollBack()
	err = errors.Join(err, h.systemctl(ctx, "daemon-reload"), h.systemctl(ctx, "restart", agentUnit))
	if err != nil {
		return fmt.Errorf("start the agent: %w; restore the old one: %w", cause, err)
	}
	return fmt.Errorf("start the new agent: %w; the old one is restored and runs", cause)
}

// retireSupervisor asks the old supervisor to end once nothing runs in it, when its
// binary or its unit changed. Its runs continue, so an error is only noted.
func (h *host) retireSupervisor(ctx context.Context, before string, retire func(context.Context) error) {
	now := unitState(ctx, runsUnit)["MainPID"]
	current := h.runsInstalled(now) && !h.wrote(filepath.Join(unitDir, runsUnit))
	if now == "0" || now != before || current {
		return
	}
	h.note("%s keeps the old version until nothing runs in it", runsUnit)
	if retire == nil || h.dry {
		return
	}
	if err := retire(ctx); err != nil {
		h.note("ask %s to end: %v", runsUnit, err)
	}
}

// runsInstalled reports whether the process runs the installed binary: after a rename the old one is another file.
func (h *host) runsInstalled(pid string) bool {
	running, err := os.Stat("/proc/" + pid + "/exe")
	if err != nil {
		return false
	}
	placed, err := os.Stat(h.at(binaryPath))
	return err == nil && os.SameFile(running, placed)
}

// systemctl runs one command that changes something, and reports it.
func (h *host) systemctl(ctx context.Context, args ...string) error {
	h.did("run", "systemctl "+strings.Join(args, " "))
	if h.dry {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, systemctlLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "systemctl", args...)
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("systemctl %s: %s: %w", strings.Join(args, " "), bytes.TrimSpace(out), err)
	}
	return nil
}

// systemdVersion is that of the host's, or 0: its answer begins with "systemd 219" or "systemd 252 (252.16-1)".
func systemdVersion(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, systemctlLimit)
	defer cancel()
	out, _ := exec.CommandContext(ctx, "systemctl", "--version").Output()
	var version int
	fmt.Sscanf(string(out), "systemd %d", &version)
	return version
}

// unitState asks systemd. Properties without an answer are missing from the map.
func unitState(ctx context.Context, unit string) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, systemctlLimit)
	defer cancel()
	out, _ := exec.CommandContext(ctx, "systemctl", "show",
		"--property=LoadState,ActiveState,MainPID,NeedDaemonReload", unit).Output()
	state := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			state[key] = value
		}
	}
	return state
}
