package appenv

import (
	"io/fs"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// changeTime is the later of a file's mtime and ctime, which cannot be set back.
func changeTime(info fs.FileInfo) time.Time {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return info.ModTime()
	}
	if c := time.Unix(st.Ctim.Unix()); c.After(info.ModTime()) {
		return c
	}
	return info.ModTime()
}

// hasACL reports whether an access list of the file says who may write it, too. The group's bits of its mode are then
// the most that the list gives.
func hasACL(path string) bool {
	n, err := unix.Lgetxattr(path, "system.posix_acl_access", nil)
	return err == nil && n > 0
}
