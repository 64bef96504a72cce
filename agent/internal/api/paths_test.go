package api

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) {
	if os.Getenv("API_TEST_PATHS") != "" {
		os.Stdout.WriteString(DefaultSocket() + "\n" + DefaultStateDir() + "\n")
		os.Exit(0)
	}
	if socket := os.Getenv("API_TEST_LISTEN"); socket != "" {
		listenAsStranger(socket)
	}
	os.Exit(m.Run())
}

// A directory in /tmp belongs to whoever makes it first, who would then be the agent of this user.
func TestAUsersOwnPlacesAreNeverTemporary(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be a user without a home")
	}
	f := thisBinary(t)
	for _, tc := range []struct {
		name string
		env  []string
		want string
	}{
		{"a session without systemd's directory", []string{"HOME=/home/ann"}, "/home/ann/.local/state/agent/run/agent.sock\n/home/ann/.local/state/agent\n"},
		{"systemd's", []string{"HOME=/home/ann", "XDG_RUNTIME_DIR=/run/user/7"}, "/run/user/7/agent/agent.sock\n/home/ann/.local/state/agent\n"},
		{"no home", nil, "/.local/state/agent/run/agent.sock\n/.local/state/agent\n"},
	} {
		cmd := exec.Command("/proc/self/fd/3")
		cmd.ExtraFiles = []*os.File{f}
		cmd.Env = append(tc.env, "API_TEST_PATHS=1", "TMPDIR=/tmp")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54321}}
		if out, err := cmd.Output(); err != nil || strings.TrimSpace(string(out)) != strings.TrimSpace(tc.want) {
			t.Errorf("%s: %v\n%swant\n%s", tc.name, err, out, tc.want)
		}
	}
}

// thisBinary is this binary, open, for another user to execute.
func thisBinary(t *testing.T) *os.File {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(t.TempDir(), "api-test")
	if err := os.WriteFile(exe, self, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
