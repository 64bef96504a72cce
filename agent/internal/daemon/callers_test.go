package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/packaging/testbed/planted"
)

// exec.allow is taken up as the file has it now; a faulty file changes nothing.
func TestCallersFollowTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "agent.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	cfg := config.Default()
	cfg.Socket, cfg.Exec.Allow = filepath.Join(dir, "s"), []string{"4000000001"}
	o := Options{ConfigFile: file, Reload: func() (config.Config, error) { return config.Load(file, false, Check) }}
	c, err := o.listen(cfg, planted.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	expect := func(what string, want ...uint32) {
		t.Helper()
		for uid := uint32(4_000_000_001); uid < 4_000_000_004; uid++ {
			if c.Allowed(uid) != slices.Contains(want, uid) {
				t.Errorf("%s: user %d is allowed: %t", what, uid, c.Allowed(uid))
			}
		}
		if !slices.Equal(c.uids, want) {
			t.Errorf("%s: the socket is open to %d", what, c.uids)
		}
	}
	expect("as it started", 4_000_000_001)
	write("exec: {allow: ['4000000003', '4000000002', '4000000003', root, '0', nobody-of-this-name, '4294967295']}")
	expect("another list", 4_000_000_002, 4_000_000_003)
	write("exec: {allow: 7")
	expect("a faulty file", 4_000_000_002, 4_000_000_003)
	write("exec: {allow: []}")
	expect("an empty list")
	if c.Status(t.Context()) != nil {
		t.Errorf("status %v", c.Status(t.Context()))
	}
}

// Where systemd does not make the directory of the socket, nginx reaches what is in it whatever the unit's UMask= is; one
// that is there stays as it is.
func TestDirectoryOfTheSocketIsOpenToNginx(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "agent")
	if err := makeDir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("made: %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(dir, 0o710); err != nil {
		t.Fatal(err)
	}
	if err := makeDir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o710 {
		t.Errorf("it was there: %v, %v", info.Mode(), err)
	}
}
