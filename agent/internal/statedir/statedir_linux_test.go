package statedir

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const stranger = 62391 // a user that is nobody's

func TestMain(m *testing.M) {
	if dir := os.Getenv("HOLD_LOCK_OF"); dir != "" {
		os.Exit(hold(dir))
	}
	os.Exit(m.Run())
}

// hold is an older version: it locks the directory, until its standard input ends.
func hold(dir string) int {
	f, err := os.Open(dir)
	if err != nil || unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return 1
	}
	os.Stdout.WriteString("locked\n")
	os.Stdin.Read(make([]byte, 1))
	return 0
}

// holds has a process hold a flock, and waits until it does.
func holds(t *testing.T, cmd *exec.Cmd) (end func()) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() { in.Close(); cmd.Wait() }
	t.Cleanup(end)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatal(line, err)
	}
	return end
}

// state is a directory that was made by hand, and that anybody may read.
func state(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "state")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func older(dir string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Path, _ = os.Executable()
	cmd.Env = []string{"HOLD_LOCK_OF=" + dir}
	return cmd
}

// A directory of mode 0755 was enough for any user to say "another agent is running".
func TestNoStrangerHoldsTheState(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start a process of another user")
	}
	dir := state(t)
	cmd := exec.Command("/usr/bin/flock", dir, "/bin/sh", "-c", "echo locked; read x")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
	holds(t, cmd)
	one, err := Lock(dir, "lock", dir)
	if err != nil {
		t.Fatalf("a stranger keeps us out: %v", err)
	}
	defer one.Close()
	if _, err := Lock(dir, "lock", dir); !errors.Is(err, ErrHeld) {
		t.Errorf("two have the lock: %v", err)
	}
	if info, err := os.Stat(filepath.Join(dir, "lock")); err != nil || info.Mode() != 0o600 {
		t.Errorf("others can open the lock: %v, %v", info, err)
	}
}

// A program of root's that a stranger started (sudo, su) has his descriptors.
func TestNoProgramOfRootsHoldsTheState(t *testing.T) {
	dir := state(t)
	holds(t, exec.Command("/usr/bin/flock", dir, "/bin/sh", "-c", "echo locked; read x"))
	held, err := Lock(dir, "lock", dir)
	if err != nil {
		t.Fatal(err)
	}
	held.Close()
}

// Two agents of two versions never run on one state.
func TestOlderVersionsAndThisOneExcludeEachOther(t *testing.T) {
	dir := state(t)
	end := holds(t, older(dir))
	if _, err := Lock(dir, "lock", dir); !errors.Is(err, ErrHeld) {
		t.Errorf("beside an older one: %v", err)
	}
	end()
	held, err := Lock(dir, "lock", dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := older(dir).Run(); err == nil {
		t.Error("an older one runs beside us")
	}
	held.Close()
	held, err = Lock(dir, "lock", dir)
	if err != nil {
		t.Fatal(err)
	}
	held.Close()
}

func TestStateThatOthersMayReplaceIsRefused(t *testing.T) {
	dir := state(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir, "lock", dir); err == nil || !strings.Contains(err.Error(), "chmod o-w") {
		t.Errorf("of mode 0777: %v", err)
	}
	if os.Geteuid() != 0 {
		return
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(dir, stranger, stranger)); err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir, "lock", dir); err == nil || !strings.Contains(err.Error(), "belongs to 62391") {
		t.Errorf("of a stranger's: %v", err)
	}
}

// Whoever owns a directory above the state renames it, puts another in its place, and the agent goes on in that.
func TestStateThatAStrangerCanRenameIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start a process of another user")
	}
	above := state(t)
	dir := filepath.Join(above, "state")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(above, stranger, stranger)); err != nil {
		t.Fatal(err)
	}
	held, err := Lock(dir, "lock", dir)
	if err == nil {
		held.Close()
		cmd := exec.Command("/bin/sh", "-c", `mv "$1" "$1.gone" && mkdir "$1" && echo forged >"$1/lock"`, "", dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
		out, err := cmd.CombinedOutput()
		now, _ := os.ReadFile(filepath.Join(dir, "lock"))
		t.Fatalf("state is kept where a stranger, who tried (%v %s), has it say %q now", err, out, now)
	}
	for _, want := range []string{above, "62391", "mode drwxr-xr-x", "chown root", "namei -l " + dir} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: does not say %q", err, want)
		}
	}
}

// The kernel names a lock by the number of its file, which a stranger's file elsewhere may have too: an agent's lock
// counts wherever it stands in the list.
func TestLocksOfOtherFilesHideNoAgents(t *testing.T) {
	f, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	self, _ := os.Executable()
	proc := t.TempDir()
	for pid, exe := range map[string]string{"41": "/usr/bin/flock", "42": self} {
		if err := os.Mkdir(filepath.Join(proc, pid), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(exe, filepath.Join(proc, pid, "exe")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, pid, "status"), []byte("Name:\tx\nUid:\t0\t0\t0\t0\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		pids []string
		want bool
	}{
		"a stranger's alone":     {[]string{"41"}, false},
		"a stranger's before":    {[]string{"41", "42"}, true},
		"a stranger's after":     {[]string{"42", "41"}, true},
		"one that has ended":     {[]string{"43"}, false},
		"two that have, and his": {[]string{"43", "44", "41"}, false},
		"none is known":          {nil, true},
	} {
		text := ""
		for i, pid := range c.pids {
			text += fmt.Sprintf("%d: FLOCK  ADVISORY  WRITE %s 00:%02d:%d 0 EOF\n", i+1, pid, i, info.Sys().(*syscall.Stat_t).Ino)
		}
		if err := os.WriteFile(filepath.Join(proc, "locks"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := ours(f, proc); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
