package appenv_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"beanstalk-agent/packaging/testbed/gotool"
)

// box is a booted systemd in a container.
type box struct {
	t    *testing.T
	name string
	root string // its files, seen from here
}

func boot(t *testing.T) box {
	t.Helper()
	if os.Geteuid() != 0 {
		gotool.Need(t, "root, to boot a systemd")
	}
	if _, err := exec.LookPath("systemd-nspawn"); err != nil {
		gotool.Need(t, "the package systemd-container")
	}
	b := box{t: t, name: fmt.Sprintf("env-%d", os.Getpid())}
	if out, err := b.nspawn("start"); err != nil {
		t.Fatalf("start: %v: %s", err, out)
	}
	t.Cleanup(func() {
		lines := "all"
		if t.Failed() {
			lines = "60"
		}
		journal, err := b.nspawn("exec", "journalctl", "--no-pager", "--all", "--lines="+lines)
		if err != nil {
			t.Errorf("journal: %v", err)
		}
		io.WriteString(t.Output(), journal)
		if out, err := b.nspawn("stop"); err != nil {
			t.Errorf("stop: %v: %s", err, out)
		}
	})
	out, err := b.nspawn("root")
	if err != nil {
		t.Fatalf("root: %v", err)
	}
	b.root = strings.TrimSpace(out)
	return b
}

func (b box) nspawn(verb string, args ...string) (string, error) {
	out, err := exec.Command("../../../packaging/testbed/nspawn", append([]string{verb, b.name}, args...)...).CombinedOutput()
	return string(out), err
}

// run runs a command inside, which must succeed.
func (b box) run(args ...string) string {
	b.t.Helper()
	out, err := b.nspawn("exec", args...)
	if err != nil {
		b.t.Fatalf("%q: %v: %s", args, err, out)
	}
	return out
}

func (b box) write(path, text string, mode os.FileMode) {
	b.t.Helper()
	path = filepath.Join(b.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		b.t.Fatal(err)
	}
}
