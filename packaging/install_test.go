package packaging

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// binary writes an executable file to install; what it does is of no matter below
// a Root, where nothing is started.
func binary(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent")
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func install(t *testing.T, root, binary string) Report {
	t.Helper()
	report, err := Install(t.Context(), Options{Root: root, Binary: binary})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// tree lists every file, link and leaf directory below root with its mode.
func tree(t *testing.T, root string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if entries, _ := os.ReadDir(path); d.IsDir() && len(entries) > 0 {
			return nil
		}
		line := info.Mode().String() + " " + strings.TrimPrefix(path, root)
		if target, err := os.Readlink(path); err == nil {
			line += " -> " + target
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// The list is a contract: documents, the rpm and Uninstall rest on it.
func TestInstallWritesTheseFilesAndNoOthers(t *testing.T) {
	root := t.TempDir()
	report := install(t, root, binary(t, "one"))
	want := []string{
		"drwxr-xr-x /etc/agent",
		"Lrwxrwxrwx /etc/systemd/system/multi-user.target.wants/agent.service -> ../agent.service",
		"-rw-r--r-- /etc/systemd/system/agent-runs.service",
		"-rw-r--r-- /etc/systemd/system/agent.service",
		"-rwxr-xr-x /opt/agent/bin/agent",
		"Lrwxrwxrwx /usr/bin/agent -> /opt/agent/bin/agent",
		"drwx------ /var/lib/agent",
	}
	got := tree(t, root)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(report.Steps) != 8 { // the seven, and the directory of the binary
		t.Errorf("got %d steps, want 8: %v", len(report.Steps), report.Steps)
	}
}

func TestInstallAgainChangesNothing(t *testing.T) {
	root, bin := t.TempDir(), binary(t, "one")
	install(t, root, bin)
	before := stamps(t, root)
	for range 2 {
		if report := install(t, root, bin); len(report.Steps) > 0 {
			t.Errorf("second installation reports %v", report.Steps)
		}
	}
	if after := stamps(t, root); !slices.Equal(before, after) {
		t.Errorf("files were touched:\n%v\n%v", before, after)
	}
}

// stamps tells each path's inode time, which any change moves.
func stamps(t *testing.T, root string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, _ error) error {
		info, err := d.Info()
		lines = append(lines, path+" "+info.ModTime().String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestInstallReplacesOnlyWhatDiffers(t *testing.T) {
	root := t.TempDir()
	install(t, root, binary(t, "one"))
	report := install(t, root, binary(t, "two"))
	if want := []Step{{"write", binaryPath}}; !slices.Equal(report.Steps, want) {
		t.Errorf("got %v, want %v", report.Steps, want)
	}
	if got, _ := os.ReadFile(filepath.Join(root, binaryPath)); string(got) != "two" {
		t.Errorf("binary is %q, want the new one", got)
	}
	if left, _ := filepath.Glob(filepath.Join(root, "/opt/agent/bin/.*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestInstallRepairsWhatWasChangedByHand(t *testing.T) {
	root, bin := t.TempDir(), binary(t, "one")
	install(t, root, bin)
	os.Chmod(filepath.Join(root, binaryPath), 0o600)
	os.Remove(filepath.Join(root, wantsLink))
	os.WriteFile(filepath.Join(root, unitDir, agentUnit), []byte("[Unit]\n"), 0o644)
	if report := install(t, root, bin); len(report.Steps) != 3 {
		t.Errorf("got %v, want three steps", report.Steps)
	}
	if report := install(t, root, bin); len(report.Steps) != 0 {
		t.Errorf("still to repair: %v", report.Steps)
	}
}

func TestInstallLeavesWhatIsSomeoneElses(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"/usr/bin", unitDir} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	other := filepath.Join(root, linkPath)
	if err := os.WriteFile(other, []byte("theirs"), 0o755); err != nil {
		t.Fatal(err)
	}
	masked := filepath.Join(root, unitDir, agentUnit)
	if err := os.Symlink("/dev/null", masked); err != nil {
		t.Fatal(err)
	}
	report := install(t, root, binary(t, "one"))
	if got, _ := os.ReadFile(other); string(got) != "theirs" {
		t.Errorf("%s was overwritten", linkPath)
	}
	if target, _ := os.Readlink(masked); target != "/dev/null" {
		t.Errorf("%s was unmasked", agentUnit)
	}
	if len(report.Notes) != 2 {
		t.Errorf("got notes %q, want one for each", report.Notes)
	}
}

func TestDryRunReportsTheSameAndWritesNothing(t *testing.T) {
	root, bin := t.TempDir(), binary(t, "one")
	dry, err := Install(t.Context(), Options{Root: root, Binary: bin, DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(root); len(entries) > 0 {
		t.Errorf("wrote %v", entries)
	}
	if real := install(t, root, bin); !slices.Equal(dry.Steps, real.Steps) {
		t.Errorf("dry run says %v, installation did %v", dry.Steps, real.Steps)
	}
}

// A file in the way of a directory stands for any failure half way: what was done
// before it is taken back.
func TestFailedInstallLeavesTheOldOne(t *testing.T) {
	root := t.TempDir()
	install(t, root, binary(t, "one"))
	os.Remove(filepath.Join(root, stateDir))
	if err := os.WriteFile(filepath.Join(root, stateDir), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Install(t.Context(), Options{Root: root, Binary: binary(t, "two")})
	if err == nil || !strings.Contains(err.Error(), stateDir) {
		t.Errorf("got error %v, want one naming %s", err, stateDir)
	}
	if got, _ := os.ReadFile(filepath.Join(root, binaryPath)); string(got) != "one" {
		t.Errorf("binary is %q, want the old one", got)
	}
}

// A link that cannot be made fails the installation after the units are written: each comes back with its own mode.
func TestFailedInstallRestoresContentAndMode(t *testing.T) {
	root := t.TempDir()
	install(t, root, binary(t, "one"))
	unit := filepath.Join(root, unitDir, agentUnit)
	if err := errors.Join(os.WriteFile(unit, []byte("[Unit]\n"), 0o600), os.Chmod(unit, 0o600),
		os.Remove(filepath.Join(root, linkPath)), os.Remove(filepath.Join(root, "usr/bin")),
		os.WriteFile(filepath.Join(root, "usr/bin"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, err := Install(t.Context(), Options{Root: root, Binary: binary(t, "one")}); err == nil {
		t.Fatal("a link below a file was made")
	}
	info, err := os.Stat(unit)
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(unit); string(text) != "[Unit]\n" || info.Mode() != 0o600 {
		t.Errorf("unit is %q with mode %v, want it as it was", text, info.Mode())
	}
}

// A deployment writes the configuration each time, mostly the same.
func TestConfigIsNewOnlyWhenItsTextIs(t *testing.T) {
	h := newHost(t.TempDir(), false)
	changed := func(text string) bool {
		t.Helper()
		if _, err := h.file(ConfigPath, 0o644, []byte(text)); err != nil {
			t.Fatal(err)
		}
		return h.configChanged()
	}
	if changed("cron: {}\n") {
		t.Error("an agent that left no word is restarted")
	}
	if err := os.MkdirAll(h.at("/run/agent"), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(digest string) {
		if err := os.WriteFile(h.at("/run/agent/"+startedWith), []byte(digest+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(configDigest(h.root))
	if changed("cron: {}\n") {
		t.Error("the same text is called a change")
	}
	if !changed("cron: {timezone: UTC}\n") {
		t.Error("another text is called no change")
	}
	os.Remove(h.at(ConfigPath))
	if !h.configChanged() {
		t.Error("a configuration that was taken away is called no change")
	}
	write(configDigest(h.root))
	if h.configChanged() {
		t.Error("none then and none now is called a change")
	}
}

func TestInstallWithoutABinarySaysSo(t *testing.T) {
	_, err := Install(t.Context(), Options{Root: t.TempDir(), Binary: "/no/such/agent"})
	if err == nil || !strings.Contains(err.Error(), `"/no/such/agent"`) {
		t.Errorf("got error %v, want one naming the file", err)
	}
}

func TestUninstallLeavesNothing(t *testing.T) {
	root := t.TempDir()
	install(t, root, binary(t, "one"))
	for _, path := range []string{"/run/agent/agent.sock", "/run/agent-runs/supervisor.sock", installLog, stateDir + "/runs/1"} {
		os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755)
		if err := os.WriteFile(filepath.Join(root, path), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if _, err := Uninstall(t.Context(), Options{Root: root}); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range tree(t, root) {
		if !strings.HasPrefix(line, "d") {
			t.Errorf("left: %s", line)
		}
	}
	for _, dir := range []string{"/opt/agent", configDir, stateDir, "/run/agent", "/run/agent-runs"} {
		if _, err := os.Stat(filepath.Join(root, dir)); err == nil {
			t.Errorf("left: %s", dir)
		}
	}
}

func TestUninstallKeepsWhatIsAsked(t *testing.T) {
	root := t.TempDir()
	install(t, root, binary(t, "one"))
	if _, err := Uninstall(t.Context(), Options{Root: root, KeepData: true, KeepBinary: true}); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{configDir, stateDir, binaryPath} {
		if _, err := os.Stat(filepath.Join(root, dir)); err != nil {
			t.Errorf("removed: %v", err)
		}
	}
}
