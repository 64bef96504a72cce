//go:build systemd

package collectors

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// These tests start real units and so want a machine, a container or a VM that
// systemd has booted: go test -tags systemd, as root.

// startUnit runs testdata/prefork.py as a transient unit.
func startUnit(t *testing.T, unit string, options ...string) {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"--unit", unit, "-p", "Type=exec", "-p", "TimeoutStopSec=2"}, options...)
	args = append(args, "/usr/bin/python3", dir+"/testdata/prefork.py", "3", "24", "6", "0")
	if out, err := exec.Command("systemd-run", args...).CombinedOutput(); err != nil {
		t.Fatalf("systemd-run: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("systemctl", "stop", unit).Run() })
}

func hasProcesses(t *testing.T, g *Group, n float64) {
	t.Helper()
	var got map[string]Sample
	var err error
	defer func() {
		if t.Failed() {
			t.Logf("last: %v, %v", got, err)
		}
	}()
	eventually(t, fmt.Sprintf("%v processes", n), func() bool {
		got, err = collect(t, g)
		return got["group_processes"].Value == n
	})
}

// A unit is found in system.slice, in a slice of its own and as a template's
// instance, and again after a restart, without its cgroup being told.
func TestUnitIsFoundWhereverItIs(t *testing.T) {
	for _, tt := range []struct {
		unit    string
		options []string
	}{
		{"collectors-web.service", nil},
		{"collectors-far.service", []string{"-p", "Slice=collectors-deep.slice"}},
		{"collectors-at@1.service", []string{"-p", "MemoryAccounting=yes", "-p", "CPUAccounting=yes"}},
	} {
		t.Run(tt.unit, func(t *testing.T) {
			startUnit(t, tt.unit, tt.options...)
			g := rich(NewGroup(GroupConfig{Name: "web", Unit: tt.unit}))
			defer g.Close()
			hasProcesses(t, g, 4)
			got, err := collect(t, g)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s: %v", g.Snapshot().Found, got)
			exec.Command("systemctl", "stop", tt.unit).Run()
			hasProcesses(t, g, 0)
			startUnit(t, tt.unit, tt.options...)
			hasProcesses(t, g, 4)
		})
	}
}

// A listener in a unit leads to the unit, with what else runs in it.
func TestPortLeadsToTheUnit(t *testing.T) {
	startUnit(t, "collectors-port.service")
	byUnit := NewGroup(GroupConfig{Name: "web", Unit: "collectors-port.service"})
	defer byUnit.Close()
	hasProcesses(t, byUnit, 4)
	var port uint16
	for _, p := range byUnit.Snapshot().Processes {
		port = max(port, listeningPort(t, p.PID))
	}
	byPort := NewGroup(GroupConfig{Name: "web", Port: port})
	defer byPort.Close()
	hasProcesses(t, byPort, 4)
	if got, want := byPort.Snapshot().Found, byUnit.Snapshot().Found; got != want {
		t.Errorf("by port: got %s, want %s", got, want)
	}
}

// listeningPort asks ss which port the process listens on.
func listeningPort(t *testing.T, pid int) (port uint16) {
	t.Helper()
	script := fmt.Sprintf(`ss -ltnpH | grep -w pid=%d | awk '{sub(/.*:/, "", $4); print $4}'`, pid)
	out, err := exec.Command("/bin/sh", "-c", script).Output()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Sscan(string(out), &port)
	return port
}
