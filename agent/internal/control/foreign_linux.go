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
// who may not answer, and the supervisor's next children would have to close their copies before they begin. Nothing is
// asked of a file system here: it answers from what the kernel has (AT_STATX_DONT_SYNC).
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
			mounts, err := os.ReadFile("/proc/self/mountinfo")
			if err != nil {
				return err
			}
			if trusted(mounts, st.Dev_minor) {
				continue
			}
		}
		return &api.Error{Status: http.StatusForbidden, Exit: 125,
			Message: "standard input or output is a file of a file system that a user may have made, " +
				"or that is not mounted here",
			Hint: "put cat between: cat FILE | agent exec …, agent exec … | cat >FILE\nor try again with sudo"}
	}
	return nil
}

// trusted reports whether the file system of device 0:minor is mounted here and made by the kernel alone.
func trusted(mountinfo []byte, minor uint32) bool {
	device := fmt.Sprintf("0:%d", minor)
	for s := bufio.NewScanner(bytes.NewReader(mountinfo)); s.Scan(); {
		// proc(5): id parent major:minor root mountpoint options [optional …] - type source options
		before, after, _ := strings.Cut(s.Text(), " - ")
		if f := strings.Fields(before); len(f) > 2 && f[2] == device {
			return !strings.HasPrefix(after, "fuse")
		}
	}
	return false
}
