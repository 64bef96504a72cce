package testbed

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"beanstalk-agent/packaging/testbed/planted"
)

// box is one environment of instances in containers, driven as a person drives it.
type box struct {
	t      *testing.T
	name   string
	dir    string // of the environment, on this machine
	status string // what agent status said last
	works  int    // how often work was started
}

// newBox gives a test an environment of its own, which nothing else on this machine
// uses, and takes it away at the end. Its agents come from agentOf.
func newBox(t *testing.T, name string) *box {
	t.Helper()
	if testing.Short() {
		t.Skip("takes minutes")
	}
	if os.Geteuid() != 0 {
		need(t, "root")
	}
	for _, tool := range []string{"systemd-nspawn", "nginx", "gunicorn", "ip", "sudo", "curl", "/usr/bin/aws"} {
		if _, err := exec.LookPath(tool); err != nil {
			need(t, tool)
		}
	}
	if err := readTree(); err != nil {
		t.Fatal(err)
	}
	t.Parallel() // most of the time of a deployment is waiting
	name = fmt.Sprintf("%s-%d", name, os.Getpid())
	b := &box{t: t, name: name, dir: "/tmp/agent-box." + name}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last status:\n%s", b.status)
		}
		b.try("down")
	})
	return b
}

// need ends a test that lacks something: on the gate it must be there.
func need(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("needs %s", what)
	}
	t.Skipf("needs %s", what)
}

// try runs the box and returns what it printed. Before an instance ends, its logs are
// looked at.
func (b *box) try(args ...string) (string, error) {
	switch args[0] {
	case "down", "scale-in", "swap":
		b.silent()
	}
	cmd := exec.Command("./box", args...)
	cmd.Env = append(os.Environ(), "BOX="+b.name, "BOX_AGENT="+agentOf(b.t, "1.0.0"))
	began := time.Now()
	out, err := cmd.CombinedOutput()
	if took := time.Since(began); took > time.Second {
		b.t.Logf("%.1f s: box %s", took.Seconds(), strings.ReplaceAll(fmt.Sprintf("%.100q", args), planted.Value, "…"))
	}
	if err != nil {
		err = fmt.Errorf("box %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), err
}

// do is try for what must work.
func (b *box) do(args ...string) string {
	b.t.Helper()
	out, err := b.try(args...)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// on runs a shell command as root on an instance.
func (b *box) on(instance, script string) string {
	b.t.Helper()
	return b.do("exec", instance, "/bin/bash", "-c", script)
}

// silent checks that no log of any instance has the planted secret, which is a
// property of the application's, the role's key, and what its tests add: not the
// journal of its systemd, and nothing in /var/log.
func (b *box) silent() {
	b.t.Helper()
	files, _ := filepath.Glob(b.dir + "/instances/*.json")
	for _, file := range files {
		n := strings.TrimLeft(strings.TrimSuffix(filepath.Base(file), ".json"), "i-0")
		out, err := b.try("exec", n, "/bin/bash", "-c", `logs() { journalctl --no-pager --all; grep -r '' /var/log --exclude-dir=journal --binary-files=text; }
			logs | wc -l; logs | grep -a -m 5 -F `+planted.Value+` || :`)
		if lines, found, _ := strings.Cut(out, "\n"); err != nil || found != "" || len(lines) < 3 {
			b.t.Errorf("instance %s has %s lines of logs, among them: %s%v", n, lines, found, err)
		}
	}
}

// holds reports whether a shell command succeeds on an instance.
func (b *box) holds(instance, script string) bool {
	_, err := b.try("exec", instance, "/bin/bash", "-c", script)
	return err == nil
}

// app writes the sample application with the agent of a version, and returns where.
func (b *box) app(version string) string {
	b.t.Helper()
	dir := filepath.Join(b.t.TempDir(), "app")
	b.do("app", dir, agentOf(b.t, version))
	return dir
}

// agentOf builds the agent under a version's name, once in the life of this test
// program.
func agentOf(t *testing.T, version string) string {
	t.Helper()
	building.Lock()
	defer building.Unlock()
	path := filepath.Join(binaries, version)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w -X beanstalk-agent/agent/internal/buildinfo.release="+version, "-o", path, "./agent")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v\n%s", err, out)
	}
	return path
}

var (
	building sync.Mutex
	binaries string // where agentOf keeps them
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "agent-versions-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binaries = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// readTree looks into every directory of the source. The tests build the agent from
// it and run scripts, of which go test knows nothing: it would call a result of
// before a change "(cached)", but for the directories that it has seen being read in
// a test.
func readTree() error {
	return filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if name := d.Name(); d.IsDir() && path != "../.." && (strings.HasPrefix(name, ".") || name == "dist" || name == "bin") {
			return filepath.SkipDir
		}
		return err
	})
}

// wait polls until ok, for at most three minutes: a machine may be busy.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(3 * time.Minute); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited three minutes for: %s", what)
		}
	}
}

// write and remove change a file of an application before it is deployed.
func write(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
}

func edit(t *testing.T, dir, name, old, new string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%s has no %q to replace", name, old)
	}
	write(t, dir, name, strings.Replace(string(text), old, new, 1))
}

// pid is the main process of a unit, "0" when there is none.
func (b *box) pid(instance, unit string) string {
	b.t.Helper()
	return b.on(instance, "systemctl show -p MainPID --value "+unit)
}

// version is the running agent's, or what stands in its way. The socket is named,
// because a faulty configuration is a client's fault, too.
func (b *box) version(instance string) string {
	var status struct{ Version string }
	text, err := b.try("exec", instance, "agent", "--socket", "/run/agent/agent.sock", "status", "--json")
	if err == nil {
		err = json.Unmarshal([]byte(text), &status)
	}
	if err != nil {
		return err.Error()
	}
	return status.Version
}
