package strictpath

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"beanstalk-agent/packaging/testbed/gotool"
)

// What the way leads to is what the kernel finds, and everything on it is named.
func TestAWayIsTheKernels(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(root, name) }
	if err := os.MkdirAll(at("a/b/c"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at("a/b/file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"relative": "a/b", "absolute": at("a"), "up": "a/b/c/../..", "a/b/c/back": "../../../relative/file",
		"slash": at("a/b") + "/", "loop": "loop", "dangling": "nothing"} {
		if err := os.Symlink(to, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(at(strings.Repeat("d/", 150)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(at("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"a/b/file": "file", "relative/file": "a b relative file", "absolute/b/file": "absolute file", "up/b/file": "up c file",
		"a/b/c/back": "back relative b file", "slash/file": "slash b file", "a/b/": "b", "fifo": "fifo", ".": ""} {
		way, err := Follow("/", root+"/"+path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		info, err := os.Stat(root + "/" + path)
		var names []string
		for _, p := range way {
			names = append(names, filepath.Base(p.Path))
		}
		last := way[len(way)-1]
		if err != nil || !os.SameFile(last.Info, info) || !last.End {
			t.Errorf("%s leads to %s, %v", path, last.Path, err)
		}
		for _, name := range strings.Fields(want) {
			if !strings.Contains(" "+strings.Join(names, " ")+" ", " "+name+" ") {
				t.Errorf("%s goes by %q, not by %s", path, names, name)
			}
		}
	}
	for path, want := range map[string]error{"loop": syscall.ELOOP, strings.Repeat("d/", 150): syscall.ELOOP, "dangling": os.ErrNotExist, "a/b/file/x": syscall.ENOTDIR, "fifo/x": syscall.ENOTDIR} {
		if way, err := Follow("/", root+"/"+path); !errors.Is(err, want) {
			t.Errorf("%.20s: %v, %v", path, way, err)
		}
	}
}

// Whoever mounts a file system of his own says who owns what there, root too.
func TestAUsersFileSystemIsTheUsers(t *testing.T) {
	users := parseMounters("36 35 0:42 / /mnt rw,nosuid - fuse.sshfs host: rw,user_id=1000,group_id=1000,allow_other\n" +
		"37 35 0:43 / /sys/fs/fuse rw - fusectl fusectl rw\n38 35 8:1 / / rw - ext4 /dev/sda1 rw\n39 35 0:44 / /x rw shared:1 - fuse y rw,user_id=0,group_id=0\n" +
		"40 35 0:45 / /y - fuse\n")
	if len(users) != 2 || users[unix.Mkdev(0, 42)] != 1000 {
		t.Error(users)
	}
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		gotool.Need(t, err.Error())
	}
	var st syscall.Stat_t
	if err := syscall.Stat("/proc", &st); err != nil {
		t.Fatal(err)
	}
	users = parseMounters(strings.ReplaceAll(string(text), " - proc proc rw", " - fuse x rw,user_id=77"))
	if users[uint64(st.Dev)] != 77 {
		t.Errorf("device %d is not among %v", st.Dev, users)
	}
}
