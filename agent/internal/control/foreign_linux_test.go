package control

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"beanstalk-agent/packaging/testbed/gotool"
)

// Who may choose how a close() is answered may hold up every start.
func TestFilesOfFileSystemsOfUsersAreRefused(t *testing.T) {
	for id, want := range map[string]bool{"25": true, "60": false, "61": false, "62": true, "2": false, "99": false, "": false} {
		const mounts = `24 1 259:1 / / rw,noatime shared:1 - xfs /dev/nvme0n1p1 rw
25 24 0:23 / /run rw shared:2 master:7 - tmpfs tmpfs rw
60 24 0:45 / /home/ann/mnt rw,nosuid - fuse.sshfs ann@host:/ rw,user_id=1000
61 24 0:46 / /mnt/x rw - fuse x rw
62 24 0:47 / /mnt/fuse\040- rw - nfs4 127.0.0.1:/ rw
`
		if got := trusted([]byte(mounts), id); got != want {
			t.Errorf("mount %q is trusted: %t", id, got)
		}
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	memory, err := unix.MemfdCreate("memory", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(memory)
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	if err := checkForeign([]int{int(file.Fd()), memory, p[0], p[1], null}); err != nil {
		t.Errorf("what people redirect to: %v", err)
	}
	if os.Geteuid() != 0 {
		gotool.Need(t, "root, to make a file system")
	}
	if err := checkForeign([]int{null, overlaid(t), null}); err != nil {
		t.Errorf("a file of an overlay, as a container's root is: %v", err)
	}
	if err := checkForeign([]int{null, unmounted(t), null}); err == nil {
		t.Error("a file system that is mounted nowhere here is trusted")
	}
}

// Who sends such files, root too, is told what to do, and answered on the next connection.
func TestFilesOfFileSystemsOfUsersAreAnswered(t *testing.T) {
	socket := serveAt(t, &fake{}, member)
	const body = `{"args":["true"],"mode":"pipes"}`
	request := fmt.Sprintf("POST /v1/runs HTTP/1.1\r\nHost: agent\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	for _, uid := range []int{0, member} {
		fd := unmounted(t)
		c := dialAs(t, uid, socket)
		if code, text := ask(t, c, request, fd, fd, fd); code != http.StatusForbidden || !strings.Contains(text, "cat FILE | agent exec") {
			t.Errorf("user %d is answered %d %s", uid, code, text)
		}
		if code, text := ask(t, dialAs(t, uid, socket), getStatus); code != http.StatusOK {
			t.Errorf("user %d is answered %d %s afterwards", uid, code, text)
		}
	}
}

// overlaid returns a file of an overlay whose layers are of two file systems: its device is none that is mounted.
func overlaid(t *testing.T) int {
	dir, upper := t.TempDir(), t.TempDir()
	if err := unix.Mount("none", upper, "tmpfs", 0, ""); err != nil {
		gotool.Need(t, "to mount a file system: "+err.Error())
	}
	t.Cleanup(func() { unix.Unmount(upper, unix.MNT_DETACH) })
	for _, d := range []string{filepath.Join(upper, "u"), filepath.Join(upper, "w")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	lower := t.TempDir()
	if err := os.WriteFile(filepath.Join(lower, "file"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", dir, "overlay", 0, "lowerdir="+lower+",upperdir="+upper+"/u,workdir="+upper+"/w"); err != nil {
		gotool.Need(t, "overlays: "+err.Error())
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	fd, err := unix.Open(filepath.Join(dir, "file"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// unmounted returns a file of a file system that is mounted nowhere.
func unmounted(t *testing.T) int {
	fs, err := unix.Fsopen("ramfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		gotool.Need(t, "fsopen, of kernel 5.2: "+err.Error())
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		t.Fatal(err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(mount) })
	fd, err := unix.Openat(mount, "file", unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}
