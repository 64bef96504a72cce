// Package boxed gives a test an environment of instances in containers: packaging/testbed/box, driven as a person
// drives it.
package boxed

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

	"beanstalk-agent/packaging/testbed/gotool"
	"beanstalk-agent/packaging/testbed/planted"
)

// Box is one environment.
type Box struct {
	T   *testing.T // whose failures they are: a test with parts sets that of the part
	Dir string     // of the environment, on this machine; the instances have it as /box

	name string
	env  []string
}

// New gives a test an environment of its own, which nothing else on this machine uses, and takes it away at the end.
// Its agents come from AgentOf. env is of the box: BOX_MODE=v1.
func New(t *testing.T, name string, env ...string) *Box {
	t.Helper()
	if testing.Short() {
		t.Skip("takes minutes")
	}
	if os.Geteuid() != 0 {
		gotool.Need(t, "root")
	}
	for _, tool := range []string{"systemd-nspawn", "nginx", "gunicorn", "ip", "sudo", "curl", "/usr/bin/aws"} {
		if _, err := exec.LookPath(tool); err != nil {
			gotool.Need(t, tool)
		}
	}
	if err := readTree(); err != nil {
		t.Fatal(err)
	}
	name = fmt.Sprintf("%s-%d", name, os.Getpid())
	b := &Box{T: t, name: name, Dir: "/tmp/agent-box." + name, env: env}
	t.Cleanup(func() { b.Try("down") })
	return b
}

// Try runs the box and returns what it printed. Before an instance ends, its logs are
// looked at.
func (b *Box) Try(args ...string) (string, error) {
	switch args[0] {
	case "down", "scale-in", "swap":
		b.silent()
	}
	cmd := exec.Command(filepath.Join(tree(), "packaging/testbed/box"), args...)
	cmd.Env = append(append(os.Environ(), "BOX="+b.name, "BOX_AGENT="+AgentOf(b.T, "1.0.0")), b.env...)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	if took := time.Since(began); took > time.Second {
		b.T.Logf("%.1f s: box %s", took.Seconds(), strings.ReplaceAll(fmt.Sprintf("%.100q", args), planted.Value, "…"))
	}
	if err != nil {
		err = fmt.Errorf("box %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), err
}

// Do is Try for what must work.
func (b *Box) Do(args ...string) string {
	b.T.Helper()
	out, err := b.Try(args...)
	if err != nil {
		b.T.Fatal(err)
	}
	return out
}

// On runs a shell command as root on an instance.
func (b *Box) On(instance, script string) string {
	b.T.Helper()
	return b.Do("exec", instance, "/bin/bash", "-c", script)
}

// Holds reports whether a shell command succeeds on an instance.
func (b *Box) Holds(instance, script string) bool {
	_, err := b.Try("exec", instance, "/bin/bash", "-c", script)
	return err == nil
}

// silent checks that no log of any instance has the planted secret, which is a
// property of the application's, the role's key, and what its tests add: not the
// journal of its systemd, and nothing in /var/log.
func (b *Box) silent() {
	b.T.Helper()
	files, _ := filepath.Glob(b.Dir + "/instances/*.json")
	for _, file := range files {
		n := strings.TrimLeft(strings.TrimSuffix(filepath.Base(file), ".json"), "i-0")
		out, err := b.Try("exec", n, "/bin/bash", "-c", `logs() { journalctl --no-pager --all; grep -r '' /var/log --exclude-dir=journal --binary-files=text; }
			logs | wc -l; logs | grep -a -m 5 -F `+planted.Value+` || :`)
		if lines, found, _ := strings.Cut(out, "\n"); err != nil || found != "" || len(lines) < 3 {
			b.T.Errorf("instance %s has %s lines of logs, among them: %s%v", n, lines, found, err)
		}
	}
}

// App writes the sample application with the agent of a version, and returns where.
func (b *Box) App(version string) string {
	b.T.Helper()
	dir := filepath.Join(b.T.TempDir(), "app")
	b.Do("app", dir, AgentOf(b.T, version))
	return dir
}

// PID is the main process of a unit, "0" when there is none.
func (b *Box) PID(instance, unit string) string {
	b.T.Helper()
	return b.On(instance, "systemctl show -p MainPID --value "+unit)
}

// Version is the running agent's, or what stands in its way. The socket is named,
// because a faulty configuration is a client's fault, too.
func (b *Box) Version(instance string) string {
	var status struct{ Version string }
	text, err := b.Try("exec", instance, "agent", "--socket", "/run/agent/agent.sock", "status", "--json")
	if err == nil {
		err = json.Unmarshal([]byte(text), &status)
	}
	if err != nil {
		return err.Error()
	}
	return status.Version
}

// Main is for a TestMain: it takes away at the end what AgentOf built.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "agent-versions-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaries = dir
	return m.Run()
}

var (
	building sync.Mutex
	binaries string // where AgentOf keeps them
)

// AgentOf builds the agent under a version's name, once in the life of this test
// program.
func AgentOf(t *testing.T, version string) string {
	t.Helper()
	building.Lock()
	defer building.Unlock()
	path := filepath.Join(binaries, version)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w -X beanstalk-agent/agent/internal/buildinfo.release="+version, "-o", path, "./agent")
	cmd.Dir = tree()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v\n%s", err, out)
	}
	return path
}

// tree is where this repository begins: a test runs in its package's directory.
var tree = sync.OnceValue(func() string {
	dir := "."
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		dir = filepath.Join("..", dir)
	}
})

// readTree looks into every directory of the source. The tests build the agent from
// it and run scripts, of which go test knows nothing: it would call a result of
// before a change "(cached)", but for the directories that it has seen being read in
// a test.
func readTree() error {
	return filepath.WalkDir(tree(), func(path string, d fs.DirEntry, err error) error {
		if name := d.Name(); d.IsDir() && path != tree() && (strings.HasPrefix(name, ".") || name == "dist" || name == "bin") {
			return filepath.SkipDir
		}
		return err
	})
}

// Wait polls until ok, for at most three minutes: a machine may be busy.
func Wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(3 * time.Minute); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited three minutes for: %s", what)
		}
	}
}
