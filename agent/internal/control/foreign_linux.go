package control

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/api"
)

// checkForeign refuses descriptors of files whose file system a user may have made (FUSE): closing one asks its owner,
// who may not answer, and so would the supervisor's next children, before they begin. Root's too: root need not know
// whose it is. Nothing is asked of a file system here: it answers from what the kernel has (AT_STATX_DONT_SYNC). The
// descriptors are the calling thread's.
func checkForeign(files []int) error {
	for _, fd := range files {
		var st unix.Statx_t
		err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st)
		switch {
		case err == unix.ENOSYS, err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Dev_major != 0):
			continue // a pipe, a device, a socket; a file on a disk
		case err == nil:
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0); err == nil {
				continue // a file in memory
			}
			if mountedHere(fd) {
				continue
			}
		}
		return &api.Error{Status: http.StatusForbidden, Exit: 125,
			Message: "standard input or output is a file of a file system that a user may have made, " +
				"or that is not mounted here",
			Hint: "put cat between: cat FILE | agent exec …, agent exec … | cat >FILE"}
	}
	return nil
}

// mountedHere reports whether fd's mount is one of the host's, or of the agent's own copies of them, and not FUSE. What
// its device's number is says nothing: an overlay's files have others than it has itself.
func mountedHere(fd int) bool {
	info, err := os.ReadFile(fmt.Sprintf("/proc/thread-self/fdinfo/%d", fd))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(info), "mnt_id:")
	id, _, _ := strings.Cut(strings.TrimSpace(after), "\n")
	for _, process := range []string{"1", "self"} {
		if mounts, err := os.ReadFile("/proc/" + process + "/mountinfo"); err == nil && trusted(mounts, id) {
			return true
		}
	}
	return false
}

// trusted reports whether a mount is in the list and is made by the kernel alone.
func trusted(mountinfo []byte, id string) bool {
	for s := bufio.NewScanner(bytes.NewReader(mountinfo)); s.Scan(); {
		// proc(5): id parent major:minor root mountpoint options [optional …] - type source options
		before, after, _ := strings.Cut(s.Text(), " - ")
		if mount, _, _ := strings.Cut(before, " "); mount == id && id != "" {
			return !strings.HasPrefix(after, "fuse")
		}
	}
	return false
}
