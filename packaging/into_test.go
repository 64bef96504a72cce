package packaging

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

func into(t *testing.T, dir string) Report {
	t.Helper()
	report, err := InstallInto(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestIntoWritesWhatARepositoryNeeds(t *testing.T) {
	dir := t.TempDir()
	into(t, dir)
	got := tree(t, dir)
	for _, want := range []string{
		"-rw-r--r-- /.ebextensions/agent.config",
		"-rwxr-xr-x /.platform/confighooks/postdeploy/99_agent_release.sh",
		"-rwxr-xr-x /.platform/confighooks/predeploy/00_agent_hold.sh",
		"-rwxr-xr-x /.platform/hooks/postdeploy/99_agent_release.sh",
		"-rwxr-xr-x /.platform/hooks/predeploy/00_agent_hold.sh",
		"-rw-r--r-- /.platform/nginx/conf.d/elasticbeanstalk/agent-health.conf",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("missing: %s", want)
		}
	}
	if again := into(t, dir); len(again.Steps) > 0 {
		t.Errorf("second time writes %v", again.Steps)
	}
}

// A repository of others may have links that lead anywhere.
func TestIntoDoesNotLeaveTheRepository(t *testing.T) {
	for _, link := range []string{".ebextensions", ".platform", ".platform/hooks/predeploy", ".platform/nginx/conf.d/elasticbeanstalk",
		".ebextensions/agent.config"} {
		dir, outside := t.TempDir(), t.TempDir()
		target := outside
		if strings.HasSuffix(link, ".config") {
			target = filepath.Join(outside, "secret")
			if err := os.WriteFile(target, []byte("      from='planted'\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, link)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
		before := tree(t, outside)
		if report, err := InstallInto(dir, false); err == nil || !strings.Contains(err.Error(), "escapes") {
			t.Errorf("%s leads out of the repository: %v, %v", link, report.Steps, err)
		}
		if after := tree(t, outside); !slices.Equal(before, after) {
			t.Errorf("through %s it wrote %v", link, after)
		}
	}
}

// exists is for a directory.
func exists(dir string) func(string) bool {
	return func(name string) bool { _, err := os.Stat(filepath.Join(dir, name)); return err == nil }
}

func TestAbsentNamesWhatADeploymentIsWithout(t *testing.T) {
	dir := t.TempDir()
	if got := Absent(exists(dir)); len(got) != 2 {
		t.Errorf("of an empty tree it says %q", got)
	}
	into(t, dir)
	if got := Absent(exists(dir)); len(got) != 0 {
		t.Errorf("of a whole one it says %q", got)
	}
	os.Remove(filepath.Join(dir, ".platform/confighooks/postdeploy/99_agent_release.sh"))
	if got := Absent(exists(dir)); len(got) != 1 || !strings.Contains(got[0], "hooks") {
		t.Errorf("without a hook it says %q", got)
	}
}

func TestIntoKeepsTheEditedLine(t *testing.T) {
	dir := t.TempDir()
	into(t, dir)
	config := filepath.Join(dir, configName)
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	const mine = "      from='s3://bucket/agent#0123'"
	edited := bytes.Replace(text, []byte("      from='.agent'"), []byte(mine), 1)
	if err := os.WriteFile(config, append(edited, "# of an older version\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	into(t, dir)
	got, _ := os.ReadFile(config)
	if !bytes.Contains(got, []byte(mine)) {
		t.Errorf("the edited line is gone:\n%s", got)
	}
	if bytes.Contains(got, []byte("older version")) {
		t.Error("the file was not brought up to date")
	}
}

func TestIntoKeepsAnEditedLocation(t *testing.T) {
	dir := t.TempDir()
	into(t, dir)
	const mine = "# mine\nproxy_pass http://127.0.0.1:8127;\n"
	location := filepath.Join(dir, ".platform/nginx/conf.d/elasticbeanstalk/agent-health.conf")
	if err := os.WriteFile(location, []byte(mine), 0o644); err != nil {
		t.Fatal(err)
	}
	report := into(t, dir)
	if got, _ := os.ReadFile(location); string(got) != mine {
		t.Errorf("it was overwritten: %s", got)
	}
	for _, want := range []string{"agent-health.conf was edited", "write proxy_pass http://unix:/run/agent/health.sock;"} {
		if !strings.Contains(strings.Join(report.Notes, "\n"), want) {
			t.Errorf("nothing said of it: %q", report.Notes)
		}
	}
}

func TestIntoSaysWhatIsLeftToDo(t *testing.T) {
	dir := t.TempDir()
	os.MkdirAll(filepath.Join(dir, ".platform/nginx"), 0o755)
	os.WriteFile(filepath.Join(dir, ".platform/nginx/nginx.conf"), []byte("events {}\n"), 0o644)
	notes := strings.Join(into(t, dir).Notes, "\n")
	for _, want := range []string{"git add", ".agent/", "nginx.conf"} {
		if !strings.Contains(notes, want) {
			t.Errorf("notes do not mention %s:\n%s", want, notes)
		}
	}
	if _, err := InstallInto(filepath.Join(dir, "missing"), false); err == nil {
		t.Error("no error for a directory that is not there")
	}
}

// The file to copy is the file the binary carries.
func TestCarriedConfigIsTheOneToCopy(t *testing.T) {
	copied, err := os.ReadFile("../.ebextensions/agent.config")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(copied, embeddedFile("ebextensions/agent.config")) {
		t.Error(".ebextensions/agent.config and packaging/ebextensions/agent.config differ")
	}
}

// Beanstalk ends a command after 600 s, and the deployment with it.
func TestConfigWaitsLessThanBeanstalk(t *testing.T) {
	text := string(embeddedFile("ebextensions/agent.config"))
	var limits []int
	for _, m := range regexp.MustCompile(`timeout -k (\d+) (\d+) `).FindAllStringSubmatch(text, -1) {
		kill, _ := strconv.Atoi(m[1])
		limit, _ := strconv.Atoi(m[2])
		limits = append(limits, kill+limit)
	}
	if len(limits) != 3 {
		t.Fatalf("time limits %d, want one for each kind of download and one for the installation", limits)
	}
	if all := 2*max(limits[0], limits[1]) + limits[2]; all > 400 {
		t.Errorf("two downloads and an installation may take %d s", all)
	}
}

// Beanstalk reads these keys and ignores a whole file for one it does not know;
// it takes a back-tick for a CloudFormation function.
func TestConfigHasOneGuardedCommand(t *testing.T) {
	text := embeddedFile("ebextensions/agent.config")
	var config struct {
		ContainerCommands map[string]struct {
			Command      string
			IgnoreErrors bool `yaml:"ignoreErrors"`
		} `yaml:"container_commands"`
	}
	if err := yaml.UnmarshalWithOptions(text, &config, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	if n := len(config.ContainerCommands); n != 1 {
		t.Fatalf("it has %d commands, want one", n)
	}
	for name, c := range config.ContainerCommands {
		if !c.IgnoreErrors || !strings.HasSuffix(c.Command, "exit 0\n") {
			t.Errorf("%s can fail a deployment", name)
		}
	}
	if bytes.ContainsRune(text, '`') {
		t.Error("it has a back-tick")
	}
	if n := len(fromLine.FindAll(text, -1)); n != 1 {
		t.Errorf("%d lines to edit, want one", n)
	}
}
