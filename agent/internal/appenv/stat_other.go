//go:build !linux

package appenv

import (
	"io/fs"
	"syscall"
	"time"
)

// changeTime is a file's mtime: the field of ctime differs from system to system.
func changeTime(info fs.FileInfo) time.Time { return info.ModTime() }

func ownerOf(info fs.FileInfo) (uid, gid uint32, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return st.Uid, st.Gid, true
}

func hasACL(string) bool { return false }
