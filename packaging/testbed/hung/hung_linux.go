// Package hung mounts file systems that do not answer.
package hung

import (
	"encoding/binary"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"beanstalk-agent/packaging/testbed/gotool"
)

// Mount returns a directory in which no path is ever answered, to any user, until the test ends. A process that waits
// for one can be killed, unless the file system has taken the request: for ever.
func Mount(t testing.TB, takes bool) (dir string) {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil || os.Getuid() != 0 {
		gotool.Need(t, "root and /dev/fuse")
	}
	dir, err = os.MkdirTemp("", "hung") // not in the test's own, which is removed by walking it
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
	if err := unix.Mount("hung", dir, "fuse", 0, options); err != nil {
		gotool.Need(t, "to mount a file system: "+err.Error())
	}
	t.Cleanup(func() {
		unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH) // whoever waits is answered with an error, the reader below too
		unix.Close(fd)
		os.Remove(dir)
	})
	if takes {
		answerInit(t, fd)
		go func() { // ends with the test
			request := make([]byte, 1<<20)
			for {
				if _, err := unix.Read(fd, request); err != nil && err != unix.EINTR {
					return
				}
			}
		}()
	}
	return dir
}

// answerInit makes the mount ready: FUSE's first request, answered as its protocol 7.19 was.
func answerInit(t testing.TB, fd int) {
	request := make([]byte, 1<<20)
	if _, err := unix.Read(fd, request); err != nil {
		t.Fatal("read the kernel's first request: ", err)
	}
	const size = 16 + 24
	answer := make([]byte, size)
	binary.NativeEndian.PutUint32(answer, size)
	copy(answer[8:16], request[8:16]) // unique
	binary.NativeEndian.PutUint32(answer[16:], 7)
	binary.NativeEndian.PutUint32(answer[20:], 19)
	if _, err := unix.Write(fd, answer); err != nil {
		t.Fatal("answer the kernel's first request: ", err)
	}
}
