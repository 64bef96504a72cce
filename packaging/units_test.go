package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// settings reads a unit file: every value of each key, sections ignored since no
// key of ours stands in two.
func settings(t *testing.T, unit string) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for line := range strings.Lines(string(UnitFile(unit))) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "[") {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			t.Errorf("%s: %q is no setting", unit, line)
		}
		all[key] = append(all[key], value)
	}
	return all
}

func one(t *testing.T, unit, key string) string {
	t.Helper()
	values := settings(t, unit)[key]
	if len(values) != 1 {
		t.Fatalf("%s has %d lines %s=, want one", unit, len(values), key)
	}
	return values[0]
}

func duration(t *testing.T, unit, key string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(one(t, unit, key))
	if err != nil {
		t.Fatalf("%s: %v", unit, err)
	}
	return d
}

// Each of these breaks a promise without a word.
func TestUnitsDoNotSetWhatBreaksAPromise(t *testing.T) {
	for _, unit := range units {
		s := settings(t, unit)
		for key, why := range map[string]string{
			"PrivateUsers":      "callers are told apart by their real user ids",
			"ProcSubset":        "memory and pressure are in /proc",
			"ProtectKernelLogs": "takes /dev/kmsg away, which names the victim",
			"PartOf":            "Beanstalk disables members of its targets; neither unit may take the other down",
			"BindsTo":           "neither unit may take the other down",
			"Requires":          "neither unit may take the other down",
			"EnvironmentFile":   "the application's variables would steer the agent",
			"ProtectHome=yes":   "an application may live there",
		} {
			key, value, _ := strings.Cut(key, "=")
			if got := s[key]; len(got) > 0 && (value == "" || slices.Contains(got, value)) {
				t.Errorf("%s sets %s=%s: %s", unit, key, got, why)
			}
		}
		for _, values := range s {
			for _, v := range values {
				if strings.Contains(v, "eb-app.target") || strings.Contains(v, "aws-eb.target") {
					t.Errorf("%s names a target of Beanstalk's: %s", unit, v)
				}
			}
		}
	}
}

func TestAgentUnitKeepsWhatItsReadingsNeed(t *testing.T) {
	caps := strings.Fields(one(t, agentUnit, "CapabilityBoundingSet"))
	for _, c := range []string{"CAP_SYS_PTRACE", "CAP_SYSLOG", "CAP_DAC_READ_SEARCH"} {
		if !slices.Contains(caps, c) {
			t.Errorf("%s is not in CapabilityBoundingSet=%s", c, caps)
		}
	}
	families := strings.Fields(one(t, agentUnit, "RestrictAddressFamilies"))
	for _, f := range []string{"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"} {
		if !slices.Contains(families, f) {
			t.Errorf("%s is not in RestrictAddressFamilies=%s", f, families)
		}
	}
}

// systemd 219 knows no @groups: an allow list of them would be empty there, and
// kill the agent at its first system call.
func TestSystemCallFilterOnlyDenies(t *testing.T) {
	if f := one(t, agentUnit, "SystemCallFilter"); !strings.HasPrefix(f, "~") {
		t.Errorf("SystemCallFilter=%s allows", f)
	}
}

func TestRunsUnitSetsNoLimitOnWhatItStarts(t *testing.T) {
	s := settings(t, runsUnit)
	for _, key := range []string{"NoNewPrivileges", "ProtectSystem", "PrivateTmp", "CapabilityBoundingSet", "SystemCallFilter",
		"MemoryMax", "MemoryHigh", "CPUQuota", "UMask", "RestrictAddressFamilies", "DevicePolicy", "LimitNOFILE", "RuntimeMaxSec", "WatchdogSec"} {
		if len(s[key]) > 0 {
			t.Errorf("%s=%s would fall on every run", key, s[key])
		}
	}
	for key, want := range map[string]string{
		"Restart": "always", "Delegate": "yes", "KillMode": "mixed", "OOMPolicy": "continue", "TasksMax": "infinity", "RuntimeDirectoryMode": "0700",
	} {
		if got := one(t, runsUnit, key); got != want {
			t.Errorf("%s=%s, want %s", key, got, want)
		}
	}
}

func TestUnitsShareWhatTheyMustAgreeOn(t *testing.T) {
	if wants := strings.Fields(one(t, agentUnit, "Wants")); !slices.Contains(wants, runsUnit) {
		t.Errorf("%s does not want %s", agentUnit, runsUnit)
	}
	if after := strings.Fields(one(t, agentUnit, "After")); !slices.Contains(after, runsUnit) {
		t.Errorf("%s does not stop before %s", agentUnit, runsUnit)
	}
	for _, unit := range units {
		if got := strings.Fields(one(t, unit, "ExecStart"))[0]; got != binaryPath {
			t.Errorf("%s starts %s, Install writes %s", unit, got, binaryPath)
		}
		if got := "/var/lib/" + one(t, unit, "StateDirectory"); got != stateDir {
			t.Errorf("%s has state in %s, Install makes %s", unit, got, stateDir)
		}
		if one(t, unit, "RuntimeDirectoryPreserve") != "yes" {
			t.Errorf("%s loses its sockets at a restart", unit)
		}
	}
	if stop, watchdog := duration(t, agentUnit, "TimeoutStopSec"), duration(t, agentUnit, "WatchdogSec"); stop >= watchdog {
		t.Errorf("a stop may take %s, longer than the watchdog's %s", stop, watchdog)
	}
}

// systemd before 235 removes a unit's RuntimeDirectory= when that ends, before a restart too: there a drain would be
// forgotten, by the agent and by nginx, whenever the agent ends.
func TestNoSystemdForgetsADrain(t *testing.T) {
	for version, own := range map[int]bool{0: false, 219: true, 231: true, 232: false, 252: false} {
		text := string(unitFor(agentUnit, version))
		if strings.Contains(text, "\nRuntimeDirectory=") == own || strings.Contains(text, "\nRuntimeDirectoryMode=") == own {
			t.Errorf("systemd %d: the unit has\n%s", version, text)
		}
		if !own && text != string(UnitFile(agentUnit)) {
			t.Errorf("systemd %d: %s is another", version, agentUnit)
		}
	}
}

// The graces are constants of other packages; what counts is that systemd waits
// longer than any of them.
func TestStopLimitsExceedTheLongestGrace(t *testing.T) {
	stop := duration(t, agentUnit, "TimeoutStopSec")
	for _, source := range []string{"../agent/internal/daemon/run.go", "../agent/internal/daemon/supervisor.go", "../agent/internal/lifecycle/lifecycle.go"} {
		for _, grace := range seconds(t, source, `[gG]race(?::| =|  *=) (\d+) \* time\.Second`) {
			if stop <= grace {
				t.Errorf("%s stops after %s, %s has %s", agentUnit, stop, source, grace)
			}
		}
	}
	// The supervisor asks for more before the limit that it starts with, and systemd
	// 219 does not hear it.
	stop = duration(t, runsUnit, "TimeoutStopSec")
	if step := seconds(t, "../agent/internal/supervisor/supervisor.go", `stopStep = (\d+) \* time\.Second`)[0]; step/3 >= stop {
		t.Errorf("it is asked every %s for more than %s", step/3, stop)
	}
	for version, want := range map[int]string{0: "45s", 219: "11min", 235: "11min", 236: "45s", 252: "45s"} {
		text := string(unitFor(runsUnit, version))
		if !strings.Contains(text, "\nTimeoutStopSec="+want+"\n") || strings.Count(text, "\nTimeoutStopSec=") != 1 {
			t.Errorf("systemd %d: TimeoutStopSec= is not %s", version, want)
		}
	}
	if minutes := seconds(t, "../agent/internal/runs/wire.go", `MaxGrace = (\d+) \* time\.Minute`)[0] * 60; minutes >= 11*time.Minute {
		t.Errorf("a grace may be %s", minutes)
	}
}

// seconds are the numbers that a pattern finds in a source.
func seconds(t *testing.T, source, pattern string) (found []time.Duration) {
	t.Helper()
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(text, -1) {
		n, _ := strconv.Atoi(string(m[1]))
		found = append(found, time.Duration(n)*time.Second)
	}
	if len(found) == 0 {
		t.Fatalf("%s names no grace", source)
	}
	return found
}

func TestSystemdsVersionIsRead(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	for said, want := range map[string]int{
		"systemd 219\n+PAM +AUDIT": 219, "systemd 252 (252.16-1.amzn2023.0.2)\n": 252, "systemd 257~rc1": 257, "": 0, "sh: not found": 0,
	} {
		script := "#!/bin/sh\nprintf '%s' '" + said + "'\n"
		if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		if got := systemdVersion(t.Context()); got != want {
			t.Errorf("%q is version %d, want %d", said, got, want)
		}
	}
}

// At shutdown the agent waits for the load balancer before its own stop begins, and
// what serves users stays until then.
func TestShutdownWaitsWithinItsLimit(t *testing.T) {
	m := regexp.MustCompile(`is-system-running.* != stopping .*agent drain --shutdown --wait (\d+)s`).FindStringSubmatch(one(t, agentUnit, "ExecStop"))
	if m == nil {
		t.Fatalf("ExecStop= does not drain at shutdown alone: %q", one(t, agentUnit, "ExecStop"))
	}
	if n, _ := strconv.Atoi(m[1]); time.Duration(n)*time.Second >= duration(t, agentUnit, "TimeoutStopSec") {
		t.Errorf("it waits %d s, systemd %s", n, duration(t, agentUnit, "TimeoutStopSec"))
	}
	after := strings.Fields(one(t, agentUnit, "After"))
	for _, server := range []string{"nginx.service", "web.service"} {
		if !slices.Contains(after, server) {
			t.Errorf("%s may stop before the agent: After=%s", server, after)
		}
	}
}

func TestUnitsPassSystemdsOwnCheck(t *testing.T) {
	verify, err := exec.LookPath("systemd-analyze")
	if err != nil {
		skip(t, "systemd-analyze")
	}
	dir := t.TempDir()
	var paths []string
	for _, unit := range units {
		// verify wants the program to exist; what it is does not matter here
		text := strings.ReplaceAll(string(UnitFile(unit)), binaryPath, "/bin/true")
		path := filepath.Join(dir, unit)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	// it exits 0 when a key is unknown, so silence is the test
	out, err := exec.CommandContext(t.Context(), verify, append([]string{"verify"}, paths...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// the figures that the files themselves name; another systemd counts in another way
	if v, _ := exec.CommandContext(t.Context(), verify, "--version").Output(); !strings.HasPrefix(string(v), "systemd 252 ") {
		skip(t, "systemd 252")
	}
	for i, said := range map[int]string{0: "9.6", 1: "2.6"} {
		out, _ := exec.CommandContext(t.Context(), verify, "security", "--offline=yes", "--no-pager", paths[i]).CombinedOutput()
		if !strings.Contains(string(out), "Overall exposure level for "+units[i]+": "+said) || !strings.Contains(string(UnitFile(units[i])), said) {
			t.Errorf("the exposure of %s is not %s, or it does not say so:\n%s", units[i], said, out)
		}
	}
}

// Amazon Linux has bash as sh, Debian dash: what a deployment runs must be plain
// enough for both.
func TestScriptsAreReadByBothShells(t *testing.T) {
	_, command, _ := strings.Cut(string(embeddedFile("ebextensions/agent.config")), "command: |\n")
	scripts := map[string]string{"agent.config": command}
	for _, name := range []string{"hooks/predeploy.sh", "hooks/postdeploy.sh"} {
		scripts[name] = string(embeddedFile(name))
	}
	for _, shell := range [][]string{{"dash"}, {"bash", "--posix"}} {
		path, err := exec.LookPath(shell[0])
		if err != nil {
			skip(t, shell[0])
		}
		for name, script := range scripts {
			cmd := exec.CommandContext(t.Context(), path, append(shell[1:], "-n")...)
			cmd.Stdin = strings.NewReader(script)
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%s does not read %s: %v\n%s", shell[0], name, err, out)
			}
		}
	}
}

// skip ends a test that needs something this machine has not; on the gate it must
// be there.
func skip(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("needs %s", what)
	}
	t.Skipf("needs %s", what)
}

// A run's grace may outlast what systemctl is given: an uninstallation then kills.
func TestStopThatTakesTooLongKills(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	script := `#!/bin/sh
echo "$*" >>` + dir + `/asked
[ "$1" != stop ] || [ -e ` + dir + `/killed ] || exit 1
[ "$1" != kill ] || touch ` + dir + `/killed
`
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	h := newHost(dir, false)
	if err := h.stop(t.Context(), runsUnit); err != nil {
		t.Error(err)
	}
	asked, _ := os.ReadFile(filepath.Join(dir, "asked"))
	if want := "stop agent-runs.service\nkill --signal=KILL agent-runs.service\nstop agent-runs.service\n"; string(asked) != want {
		t.Errorf("systemctl was asked %q, want %q", asked, want)
	}
	if err := h.stop(t.Context(), runsUnit); err != nil {
		t.Errorf("a stop that succeeds: %v", err)
	}
}
