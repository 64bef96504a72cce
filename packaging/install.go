package packaging

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Options says what to install and where.
type Options struct {
	// Required by Install: the binary, usually os.Executable().
	Binary string

	// Optional. Root goes before every path; "" is the live host, where only root may
	// install. Below another Root nothing is started or stopped.
	Root string
	// DryRun reports what would be done and does nothing.
	DryRun bool
	// Preflight is called before any change on a live host where an agent runs: an
	// error means that the new one would not start, and nothing is changed.
	Preflight func() error
	// Retire is called when agent-runs.service still runs the old binary: it asks that
	// process to end after its last run. Nil leaves that to the agent or the next boot.
	Retire func(context.Context) error
	// KeepData makes Uninstall leave /etc/agent and /var/lib/agent.
	KeepData bool
	// KeepBinary makes Uninstall leave the binary, which a package manager removes.
	KeepBinary bool
}

func (o Options) host() (*host, error) {
	if o.live() && !o.DryRun {
		if runtime.GOOS != "linux" {
			return nil, fmt.Errorf("install on this host: it runs %s, and the units are for systemd on Linux",
				runtime.GOOS)
		}
		if os.Geteuid() != 0 {
			return nil, errors.New("install on this host: only root may")
		}
	}
	return newHost(o.Root, o.DryRun), nil
}

func (o Options) live() bool { return filepath.Clean("/"+o.Root) == "/" }

// Install puts binary, link, directories and units in place and starts agent.service, or restarts it when its binary,
// its unit or its configuration changed. When the new agent does not become ready, binary and units are restored and
// the old agent is started; the error says so. Runs in progress continue. It may be called at any time, by several
// processes at once, below another Root by one.
func Install(ctx context.Context, o Options) (Report, error) {
	h, err := o.host()
	if err != nil {
		return Report{}, err
	}
	err = h.install(ctx, o)
	return h.report, err
}

func (h *host) install(ctx context.Context, o Options) error {
	if err := h.dir(filepath.Dir(binaryPath), 0o755); err != nil {
		return err
	}
	if o.live() && !h.dry {
		held, err := lock(ctx, lockPath)
		if err != nil {
			return err
		}
		defer held.Close()
	}
	if err := h.preflight(ctx, o); err != nil {
		return err
	}
	if o.live() {
		h.systemd = systemdVersion(ctx)
	}
	if err := h.place(o.Binary); err != nil {
		return errors.Join(err, h.rollBack())
	}
	if err := h.manage(ctx, o); err != nil {
		return err
	}
	if !h.dry {
		os.Remove(h.at(previousBin))
	}
	return nil
}

// place writes all files.
func (h *host) place(binary string) error {
	if err := h.binary(binary); err != nil {
		return err
	}
	if err := h.dir(configDir, 0o755); err != nil {
		return err
	}
	if err := h.dir(stateDir, 0o700); err != nil {
		return err
	}
	for _, name := range units {
		if err := h.unit(name); err != nil {
			return err
		}
	}
	if err := h.link(wantsLink, "../"+agentUnit); err != nil {
		return err
	}
	return h.link(linkPath, binaryPath)
}

// unit writes a unit file, unless the unit is masked: an operator did that.
func (h *host) unit(name string) error {
	path := filepath.Join(unitDir, name)
	if target, err := os.Readlink(h.at(path)); err == nil && target == "/dev/null" {
		h.note("%s is masked and stays so; to undo: sudo systemctl unmask %s", name, name)
		return nil
	}
	_, err := h.file(path, 0o644, unitFor(name, h.systemd))
	return err
}

// extends is the first systemd that a service can ask for more time to stop, sd_notify(3).
const extends = 236

// keeps is the first systemd with ProtectSystem=strict. One before it, which knows no RuntimeDirectoryPreserve= either,
// lets the agent make its directory itself.
const keeps = 232

// unitFor is a unit for a version of systemd; 0: not known. The file itself says what changes and why.
func unitFor(name string, systemd int) []byte {
	text := UnitFile(name)
	if name == runsUnit && systemd != 0 && systemd < extends {
		return bytes.Replace(text, []byte("\nTimeoutStopSec=45s\n"), []byte("\nTimeoutStopSec=11min\n"), 1)
	}
	if name == agentUnit && systemd != 0 && systemd < keeps {
		return bytes.Replace(text, []byte("\nRuntimeDirectory=agent\nRuntimeDirectoryMode=0755\n"), []byte("\n"), 1)
	}
	return text
}

// binary copies from to its place and keeps the old one until the new one has started.
func (h *host) binary(from string) error {
	same, err := sameContent(from, h.at(binaryPath))
	if err != nil {
		return fmt.Errorf("read binary %q: %w", from, err)
	}
	if same && h.hasMode(binaryPath, 0o755) {
		return nil
	}
	h.did("write", binaryPath)
	if h.dry {
		return nil
	}
	os.Remove(h.at(previousBin)) // of a run that was killed
	err = os.Link(h.at(binaryPath), h.at(previousBin))
	had := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keep %q: %w", binaryPath, err)
	}
	src, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("read binary: %w", err)
	}
	defer src.Close()
	if err := h.replace(binaryPath, 0o755, src); err != nil {
		os.Remove(h.at(previousBin))
		return err
	}
	h.undo = append(h.undo, func() error {
		if had {
			return os.Rename(h.at(previousBin), h.at(binaryPath))
		}
		return os.Remove(h.at(binaryPath))
	})
	return nil
}

// sameContent reports whether two files hold the same bytes. b may be missing.
func sameContent(a, b string) (bool, error) {
	fa, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer fb.Close()
	ia, err := fa.Stat()
	if err != nil {
		return false, err
	}
	ib, err := fb.Stat()
	if err != nil || ia.Size() != ib.Size() {
		return false, err
	}
	return os.SameFile(ia, ib) || sameBytes(fa, fb), nil
}

// sameBytes compares two readers of equal length.
func sameBytes(a, b io.Reader) bool {
	bufA, bufB := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errA := io.ReadFull(a, bufA)
		m, errB := io.ReadFull(b, bufB)
		if !bytes.Equal(bufA[:n], bufB[:m]) {
			return false
		}
		if errA != nil || errB != nil {
			return errors.Is(errA, io.EOF) || errors.Is(errA, io.ErrUnexpectedEOF)
		}
	}
}
