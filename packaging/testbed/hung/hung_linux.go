// Package hung mounts file systems that do not answer.
package hung

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"beanstalk-agent/packaging/testbed/gotool"
)

// Mount returns a directory in which no path is ever answered, to any user, until the test ends. A process that waits
// for one can be killed, unless the file system has taken the request: for ever.
func Mount(t testing.TB, takes bool) (dir string) {
	t.Helper()
	dir, fd := mount(t)
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

// mount mounts a file system whose requests are to be read from fd.
func mount(t testing.TB) (dir string, fd int) {
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
	return dir, fd
}

// Unclosed returns the path of a file that opens, and that a process of which one thread closes it is held up for ever,
// until the test ends. Only this process is answered; one that it starts meanwhile is not.
func Unclosed(t testing.TB) (path string) {
	t.Helper()
	dir, fd := mount(t)
	answerInit(t, fd)
	go func() { // ends with the test
		request := make([]byte, 1<<20)
		for {
			n, err := unix.Read(fd, request)
			if err == nil && n >= 40 {
				answer(fd, request)
			} else if err != unix.EINTR {
				return
			}
		}
	}()
	return filepath.Join(dir, "file")
}

// answer answers a request, unless it is another process's close. The formats are those of linux/fuse.h, 7.19.
func answer(fd int, request []byte) {
	const lookup, forget, getattr, open, release, flush, interrupt, batchForget = 1, 2, 3, 14, 18, 25, 36, 42
	le := binary.NativeEndian
	node, thread := le.Uint64(request[16:]), le.Uint32(request[32:])
	attr := func(node uint64) []byte {
		mode := uint32(unix.S_IFREG | 0o666)
		if node == 1 {
			mode = unix.S_IFDIR | 0o755
		}
		b := make([]byte, 88)
		le.PutUint64(b, node)
		le.PutUint32(b[60:], mode)
		le.PutUint32(b[64:], 1) // links
		return b
	}
	var body []byte
	errno := int32(0)
	switch le.Uint32(request[4:]) {
	case lookup:
		entry := make([]byte, 40)
		le.PutUint64(entry, 2)
		body = append(entry, attr(2)...)
	case getattr:
		body = append(make([]byte, 16), attr(node)...)
	case open:
		body = make([]byte, 16)
	case flush:
		if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", thread)); err != nil {
			return
		}
	case forget, interrupt, batchForget:
		return
	case release:
	default:
		errno = -int32(unix.ENOSYS)
	}
	b := make([]byte, 16, 16+len(body))
	le.PutUint32(b, uint32(16+len(body)))
	le.PutUint32(b[4:], uint32(errno))
	copy(b[8:], request[8:16]) // unique
	unix.Write(fd, append(b, body...))
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
