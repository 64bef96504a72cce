package appenv

import (
	"io/fs"
	"syscall"
	"time"
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
