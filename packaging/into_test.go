package packaging

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"beanstalk-agent/packaging/testbed/shapes"
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

// repository makes a repository with these files.
func repository(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// aboutNginx are the notes beside those that each repository gets.
func aboutNginx(r Report) string {
	var notes []string
	for _, n := range r.Notes {
		if strings.Contains(n, "nginx") {
			notes = append(notes, n)
		}
	}
	return strings.Join(notes, "\n")
}

// What nginx makes of each shape itself is TestShapesBehindNginx of the health checks.
func TestIntoNamesWhatClashes(t *testing.T) {
	for _, s := range shapes.All {
		for _, dry := range []bool{true, false} {
			dir := t.TempDir()
			if err := s.Write(dir); err != nil {
				t.Fatal(err)
			}
			before := tree(t, filepath.Join(dir, nginxDir))
			report, err := InstallInto(dir, dry)
			if err != nil {
				t.Fatal(err)
			}
			if got := aboutNginx(report); !strings.Contains(got, s.Note) || s.Note == "" && got != "" {
				t.Errorf("%s, dry %v: notes %q, want %q", s.Name, dry, got, s.Note)
			}
			written := slices.ContainsFunc(report.Steps, func(s Step) bool { return s.Path == nginxFile })
			if after := tree(t, filepath.Join(dir, nginxDir)); written == s.Refused || (s.Refused || dry) != slices.Equal(before, after) {
				t.Errorf("%s, dry %v: written %v, want %v:\n%s", s.Name, dry, written, !s.Refused, strings.Join(after, "\n"))
			}
		}
	}
}

// Any spelling of a location of our path or name, and any file that reaches nginx's folder.
func TestIntoFindsOurPathInAnySpelling(t *testing.T) {
	const file = nginxDir + "/conf.d/elasticbeanstalk/health.conf"
	for name, files := range map[string]map[string]string{
		"exact":           {file: "location = /agent-health { return 200; }"},
		"no blank":        {file: "location =/agent-health{ return 200; }"},
		"quoted":          {file: "location = '/agent-health' { return 200; }"},
		"over lines":      {file: "location\n    =\n    /agent-health\n{ return 200; }"},
		"prefix":          {file: "location /agent-health { return 200; }"},
		"folder":          {file: "location ^~ /agent-health/ { return 200; }"},
		"expression":      {file: "location ~ ^/agent-health$ { return 200; }"},
		"within":          {file: "location / { location /agent-health { return 200; } }"},
		"our other name":  {file: "location @agent_down { return 503; }"},
		"in a server":     {nginxDir + "/conf.d/site.conf": "server { listen 80; location = /agent-health { return 200; } }"},
		"own nginx.conf":  {nginxDir + "/nginx.conf": "http { server { listen 80; location = /agent-health { return 200; } include conf.d/elasticbeanstalk/*.conf; } }"},
		"another ending":  {nginxDir + "/health.inc": "location = /agent-health { return 200; }"},
		"not to be read":  {file: "location = /agent-health { return 200 'never ends; }"},
		"by ebextensions": {".ebextensions/nginx.config": "files:\n  /etc/nginx/conf.d/elasticbeanstalk/health.conf:\n    content: |\n      location = /agent-health { return 200; }\n"},
	} {
		dir := repository(t, files)
		report := into(t, dir)
		if got := aboutNginx(report); !strings.Contains(got, "was not written") || !strings.Contains(got, "Either") || exists(dir)(nginxFile) {
			t.Errorf("%s: %q, written %v", name, got, exists(dir)(nginxFile))
		}
		if !exists(dir)(configName) {
			t.Errorf("%s: the rest was not written", name)
		}
	}
	for name, text := range map[string]string{
		"a comment":    "# location = /agent-health { return 200; }",
		"another path": "location = /agent-healthz { return 200; } location = /health { return 200; } location /agent { return 200; }",
		"a value":      "location = /x { return 301 /agent-health; }",
	} {
		dir := repository(t, map[string]string{file: text})
		if got := aboutNginx(into(t, dir)); got != "" || !exists(dir)(nginxFile) {
			t.Errorf("%s: %q, written %v", name, got, exists(dir)(nginxFile))
		}
	}
}

// An earlier file goes on; what the present one does more is said.
func TestIntoNamesAnEarlierLocation(t *testing.T) {
	present := string(embeddedFile("nginx/agent-health.conf"))
	for name, tt := range map[string]struct{ text, want string }{
		"earlier path":   {strings.Replace(present, "= /agent-health", "= /health", 1), "takes two deployments"},
		"earlier limits": {strings.ReplaceAll(present, "    limit_req_dry_run on;\n", ""), "inherits passwords and limits"},
		"edited":         {strings.Replace(present, "127.0.0.1:8000", "127.0.0.1:3000", 1), "was edited"},
	} {
		dir := repository(t, map[string]string{nginxFile: tt.text})
		got := aboutNginx(into(t, dir))
		if text, _ := os.ReadFile(filepath.Join(dir, nginxFile)); string(text) != tt.text || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q; kept %v", name, got, tt.want, string(text) == tt.text)
		}
		if name == "edited" && strings.Contains(got, "delete") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// Another proxy than nginx never reads the file. Sources: the developer guide's ProxyServer of
// aws:elasticbeanstalk:environment:proxy, and its two forms of option_settings.
func TestIntoNamesAnotherProxy(t *testing.T) {
	const namespace = "aws:elasticbeanstalk:environment:proxy"
	for text, want := range map[string]string{
		"option_settings:\n  " + namespace + ":\n    ProxyServer: apache\n":                                                    "a.config sets ProxyServer to apache",
		"option_settings:\n  - namespace: " + namespace + "\n    option_name: ProxyServer\n    value: none\n":                  "a.config sets ProxyServer to none",
		`{"option_settings": [{"namespace": "` + namespace + `", "option_name": "ProxyServer", "value": "apache"}]}`:           "sets ProxyServer to apache",
		"option_settings:\n  " + namespace + ":\n    ProxyServer: nginx\n":                                                     "",
		"option_settings:\n  other:\n    ProxyServer: apache\n":                                                                "",
		"option_settings:\n  " + namespace + ":\n    # ProxyServer: apache\nfiles:\n  /a:\n    content: {\"Fn::Join\": [a]}\n": "",
		"option_settings: [\n": "",
	} {
		dir := repository(t, map[string]string{".ebextensions/a.config": text})
		got := aboutNginx(into(t, dir))
		if !strings.Contains(got, want) || exists(dir)(nginxFile) != (want == "") || want == "" && got != "" {
			t.Errorf("%s: %q, want %q; written %v", text, got, want, exists(dir)(nginxFile))
		}
	}
}

// Source: pathspec's gitwildmatch, the EB CLI's, which was asked about each row (0.11.0).
var ebignores = []struct {
	text, name string
	want       bool
}{
	{"*\n!src/\n!.ebextensions/\n", ".agent/SHA256SUMS", true},
	{"*\n!src/\n!.ebextensions/\n", ".ebextensions/agent.config", false},
	{"/*\n!/app.py\n", ".agent/SHA256SUMS", true},
	{".*\n", ".agent/SHA256SUMS", true},
	{".*\n!.agent/\n", ".agent/SHA256SUMS", false},
	{".*/\n!.agent/**\n", ".agent/SHA256SUMS", false},
	{"**\n!.agent/SHA256SUMS\n", ".agent/SHA256SUMS", false},
	{"**/*linux*\n", ".agent/agent-linux-amd64", true},
	{"agent-linux-*\n", ".agent/agent-linux-amd64", true},
	{"/agent-linux-*\n", ".agent/agent-linux-amd64", false},
	{".agent\n", ".agent/SHA256SUMS", true},
	{".agent/\n# !.agent/\n", ".agent/SHA256SUMS", true},
	{"SHA256SUMS/\n", ".agent/SHA256SUMS", false},
	{".a[fg]ent/SHA???SUMS\n", ".agent/SHA256SUMS", true},
	{".a[!g]ent\n", ".agent/SHA256SUMS", false},
	{"node_modules/\n*.pyc\n.git\n", ".agent/SHA256SUMS", false},
	{"\\.agent\n", ".agent/SHA256SUMS", true},
	{".platform/**/*.conf\n", nginxFile, true},
	{"conf.d/\n", nginxFile, true},
	{"a/**/b\n", "a/b", true},
	{"a/**/b\n", "a/x/y/b/c", true},
	{"", ".agent/SHA256SUMS", false},
}

func TestIgnored(t *testing.T) {
	for _, tt := range ebignores {
		if got := ignored(tt.text, tt.name); got != tt.want {
			t.Errorf("%q leaves out %s: %v, want %v (%s)", tt.text, tt.name, got, tt.want, ignorePattern(strings.TrimSpace(tt.text)))
		}
	}
}

// A bundle without the agent is deployed without a word.
func TestIntoSaysWhatEbignoreLeavesOut(t *testing.T) {
	dir := repository(t, map[string]string{".ebignore": "*\n!src/\n!.ebextensions/\n!.platform/\n"})
	notes := strings.Join(into(t, dir).Notes, "\n")
	if !strings.Contains(notes, ".ebignore leaves out .agent/SHA256SUMS, .agent/agent-linux-amd64") || !strings.Contains(notes, "a line each: !.agent/") ||
		strings.Contains(notes, "!.platform/") {
		t.Error(notes)
	}
	os.WriteFile(filepath.Join(dir, ".ebignore"), []byte("*\n!src/\n!.ebextensions/\n!.platform/\n!.agent/\n"), 0o644)
	if notes := strings.Join(into(t, dir).Notes, "\n"); strings.Contains(notes, ".ebignore") {
		t.Errorf("as it asked for: %s", notes)
	}
}
