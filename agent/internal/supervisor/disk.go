package supervisor

import (
	"os"

	"golang.org/x/sys/unix"
)

// Shares of a disk, each at most roomMost.
const (
	roomFree   = 20 // a twentieth is left free, for records: old output goes for that
	roomOutput = 8  // an eighth is the newest output, which stays whoever fills the disk, and at most one run's
	roomMost   = 64 << 20
)

// diskSpace returns the size of the disk below dir and what we may still write; zeros where that is not known.
func diskSpace(dir string) (size, free int64) {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return 0, 0
	}
	blocks := uint64(st.Bavail)
	if os.Geteuid() == 0 {
		blocks = uint64(st.Bfree)
	}
	return int64(uint64(st.Blocks) * uint64(st.Bsize)), int64(blocks * uint64(st.Bsize))
}

// maxOutput bounds what is kept of one run's output by the disk below dir, too.
func maxOutput(dir string, asked int64) int64 {
	if size, _ := diskSpace(dir); size > 0 {
		return min(asked, max(size/roomOutput, 4<<10))
	}
	return asked
}
