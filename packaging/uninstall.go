package packaging

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// Uninstall stops both services with every run, and removes every file that Install, the services and agent.config's
// command have written. It may be called again, and on a host where only a part is left.
func Uninstall(ctx context.Context, o Options) (Report, error) {
	h, err := o.host()
	if err != nil {
		return Report{}, err
	}
	err = h.uninstall(ctx, o)
	return h.report, err
}

func (h *host) uninstall(ctx context.Context, o Options) error {
	_, err := os.Stat(bootedPath)
	manage := o.live() && err == nil
	var errs []error
	if manage {
		errs = append(errs, h.stopUnits(ctx))
	}
	for _, path := range installed(o) {
		errs = append(errs, h.remove(path))
	}
	if target, err := os.Readlink(h.at(linkPath)); err == nil && target == binaryPath {
		errs = append(errs, h.remove(linkPath))
	}
	if manage && len(h.report.Steps) > 0 {
		errs = append(errs, h.systemctl(ctx, "daemon-reload"))
	}
	for _, name := range units {
		if left, _ := filepath.Glob(h.at(filepath.Join(unitDir, name+".d"))); len(left) > 0 {
			h.note("%s was not written by us, left alone", filepath.Join(unitDir, name+".d"))
		}
	}
	return errors.Join(errs...)
}

// installed lists what Uninstall removes, without the link in /usr/bin, which may not be ours.
func installed(o Options) []string {
	paths := []string{wantsLink}
	for _, name := range units {
		paths = append(paths, filepath.Join(unitDir, name))
	}
	paths = append(paths, "/run/agent", "/run/agent-runs", installLog, lockPath)
	if !o.KeepBinary {
		paths = append(paths, "/opt/agent")
	}
	if !o.KeepData {
		paths = append(paths, configDir, stateDir)
	}
	return paths
}

// stop kills what has not stopped in time: an uninstallation, perhaps within a deployment, does not wait for a grace of
// minutes.
func (h *host) stop(ctx context.Context, unit string) error {
	if h.systemctl(ctx, "stop", unit) == nil {
		return nil
	}
	return errors.Join(h.systemctl(ctx, "kill", "--signal=KILL", unit), h.systemctl(ctx, "stop", unit))
}

// stopUnits stops the agent first, so that it starts no more runs. A missing unit is no error.
func (h *host) stopUnits(ctx context.Context) error {
	var errs []error
	for _, name := range []string{agentUnit, runsUnit} {
		state := unitState(ctx, name)
		if state["LoadState"] == "not-found" && state["ActiveState"] == "inactive" {
			continue
		}
		if state["ActiveState"] != "inactive" {
			errs = append(errs, h.stop(ctx, name))
		}
		if unitState(ctx, name)["ActiveState"] == "failed" {
			errs = append(errs, h.systemctl(ctx, "reset-failed", name))
		}
	}
	return errors.Join(errs...)
}
