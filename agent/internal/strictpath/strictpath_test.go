package strictpath

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"beanstalk-agent/packaging/testbed/gotool"
)

const web, stranger = 62390, 62391 // users that are nobody's

// TestMain makes the test binary one that checks a path as another user.
func TestMain(m *testing.M) {
	if path := os.Getenv("STRICTPATH_TEST"); path != "" {
		if err := Check(path, false); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// tree is a directory with folders below it, "PATH UID MODE" each.
func tree(t *testing.T, folders ...string) (at func(string) string) {
	t.Helper()
	if os.Geteuid() != 0 {
		gotool.Need(t, "root, to be another user")
	}
	root, err := os.MkdirTemp("", "strict")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	at = func(name string) string { return filepath.Join(root, name) }
	for _, folder := range folders {
		var name string
		var uid int
		var mode uint32
		if _, err := fmt.Sscanf(folder, "%s %d %o", &name, &uid, &mode); err != nil {
			t.Fatal(folder, err)
		}
		if err := os.MkdirAll(at(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(at(name), uid, uid); err != nil {
			t.Fatal(err)
		}
		if err := unix.Chmod(at(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	return at
}

// checkAs is Check by a process of another user.
func checkAs(t *testing.T, uid uint32, path string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	there, err := os.Open(self) // its directory may be closed to the user
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	cmd := exec.Command("/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{there}
	cmd.Dir = "/"
	cmd.Env = []string{"STRICTPATH_TEST=" + path}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out)
}

// Whoever owns or may write a directory renames what is in it: each that leads to a path counts, and links do.
func TestEveryPartOfAPathCounts(t *testing.T) {
	at := tree(t, "own/state 0 700", "home 62391 700", "home/state 0 700", "open 0 777", "open/state 0 700",
		"group 0 770", "group/state 0 700", "tmp 0 1777", "tmp/state 0 700", "theirs 62391 1777", "theirs/state 0 700",
		"end 0 1777", "deep 62391 755", "deep/a 0 755", "deep/a/b 0 755", "deep/a/b/state 0 700")
	if err := os.Chown(at("group"), 0, stranger); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"link": at("own/state"), "home/link": "../own/state", "through": "home/link", "dangling": "home/none"} {
		if err := os.Symlink(to, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"own/state": "", "link": "", "tmp/state": "", "own/none/yet": "", "own/state/..": "",
		"home/state":        fmt.Sprintf(`%q belongs to 62391 (mode drwx------)`, at("home")),
		"home/none/yet":     "chown root " + at("home"),
		"deep/a/b/state":    at("deep"),
		"through":           at("home"),
		"home/../own/state": at("home"), // as the kernel goes
		"open/state":        "chmod o-w " + at("open"),
		"group/state":       "chmod g-w " + at("group"),
		"theirs/state":      "belongs to 62391",
		"end":               "everybody may write",
		"dangling/state":    "leads nowhere",
	} {
		err := Check(at("")+"/"+path, false)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	for _, path := range []string{"end", "end/none/yet", "tmp/state"} {
		if err := Check(at(path), true); err != nil {
			t.Errorf("%s, where others may make files: %v", path, err)
		}
	}
	for path, made := range map[string]bool{"home/new/state": false, "own/new/state": true} {
		err := MkdirAll(at(path), 0o700)
		if _, there := os.Lstat(filepath.Dir(at(path))); (err == nil) != made || (there == nil) != made {
			t.Errorf("make %s: %v, %v", path, err, there)
		}
	}
}

// A user's own agent keeps its state in his home, also where the homes of all cannot be listed; and nobody else's.
func TestAUsersOwnHomeIsHisOwn(t *testing.T) {
	at := tree(t, "homes 0 711", "homes/web 62390 700", "homes/web/.local/state 62390 700", "homes/other 62391 711",
		"homes/other/web 62390 700", "homes/web/open 62390 777", "homes/web/open/state 62390 700", "homes/web/shared 62390 770")
	if err := os.Chown(at("homes/web/shared"), web, stranger); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(at("homes/web/.local"), web, web); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"homes/web/.local/state":     "",
		"homes/web/.local/state/new": "",
		"homes/other/web":            "only root and 62390 may: chown 62390 " + at("homes/other"),
		"homes/web/open/state":       "everybody may write",
		"homes/web/shared":           "group 62391 may write",
	} {
		got := checkAs(t, web, at(path))
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
