package collectors

import (
	"cmp"
	"io/fs"
	"time"
)

// DiskConfig says which filesystems count. Its zero value is right for a live host.
//
// A Disk's samples, each of the fullest filesystem:
//
//	disk_used_percent         Percent
//	disk_inodes_used_percent  Percent
//
// They carry no path: the series must not change its name when another
// filesystem becomes the fullest. Fullest says which one it is.
type DiskConfig struct {
	// Paths are the mount points to look at. Optional: those backed by a local
	// block device and writable, the root, and /tmp.
	Paths []string

	// Every is how often they are read; in between the last figures are given
	// again, for a disk does not fill in seconds. Optional, 1 minute.
	Every time.Duration

	Proc fs.FS // optional: what /proc is; Linux only
}

// DiskUse is one filesystem's use.
type DiskUse struct {
	Path   string
	Bytes  float64 // percent used of what users other than root can have, as df says it
	Inodes float64 // percent; 0 where the filesystem has no fixed number
}

// diskSamples gives the fullest filesystem's figures, and which one it is.
func diskSamples(out []Sample, uses []DiskUse) ([]Sample, DiskUse) {
	full := fullest(uses, func(u DiskUse) float64 { return u.Bytes })
	inodes := fullest(uses, func(u DiskUse) float64 { return u.Inodes })
	return append(out,
		Sample{"disk_used_percent", Percent, full.Bytes, nil},
		Sample{"disk_inodes_used_percent", Percent, inodes.Inodes, nil}), full
}

func fullest(uses []DiskUse, by func(DiskUse) float64) (most DiskUse) {
	for _, u := range uses {
		if most.Path == "" || cmp.Compare(by(u), by(most)) > 0 {
			most = u
		}
	}
	return most
}
