//go:build !linux

package appenv

import (
	"io/fs"
	"time"
)

// changeTime is a file's mtime: the field of ctime differs from system to system.
func changeTime(info fs.FileInfo) time.Time { return info.ModTime() }
