package collectors

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/shirou/gopsutil/v3/disk"
)

// DiskConfig says which filesystems count. Its zero value is right for a live host.
//
// A Disk's samples, each of the fullest filesystem:
//
//	disk_used_percent         Percent
//	disk_inodes_used_percent  Percent
//
// They carry no path: the series must not change its name when another filesystem becomes the fullest.
type DiskConfig struct {
	// Paths are the mount points to look at. Optional: those backed by a local
	// block device and writable, the root, and /tmp.
	Paths []string

	// Every is how often they are read; in between the last figures are given
	// again, for a disk does not fill in seconds. Optional, 1 minute.
	Every time.Duration

	Proc string // optional: where /proc is; Linux only
}

// Disk reads how full the fullest local filesystem is. It is a collector of its
// own, apart from Host: a sick disk can make it wait.
type Disk struct {
	cfg  DiskConfig
	next time.Time
	out  []Sample
	err  error

	fullest atomic.Pointer[Filesystem]
}

// Filesystem is one of those that are looked at.
type Filesystem struct {
	Path        string // where it is mounted
	UsedPercent float64
}

// Fullest returns the filesystem that disk_used_percent is of; nil until one was read. It may be called at any time.
func (d *Disk) Fullest() *Filesystem { return d.fullest.Load() }

// NewDisk returns a Disk.
func NewDisk(cfg DiskConfig) *Disk {
	if cfg.Every == 0 {
		cfg.Every = time.Minute
	}
	if cfg.Proc == "" {
		cfg.Proc = "/proc"
	}
	return &Disk{cfg: cfg}
}

// Name is "disk".
func (d *Disk) Name() string { return "disk" }

// Collect gives the fullest filesystem's figures, read anew every so often. The percentages are those of df: what is
// reserved for root counts as neither used nor free.
func (d *Disk) Collect(ctx context.Context) ([]Sample, error) {
	now := time.Now()
	if now.Before(d.next) {
		return d.out, d.err
	}
	d.next, d.out = now.Add(d.cfg.Every), d.out[:0]
	paths, err := d.paths(gopsutilContext(ctx, d.cfg.Proc))
	if err != nil {
		d.err = err
		return nil, err
	}
	var bytes, inodes float64
	var errs []error
	read := 0
	var fullest Filesystem
	for _, path := range paths {
		use, err := disk.UsageWithContext(ctx, path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // unmounted since we looked
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("read size of filesystem %q: %w", path, err))
			continue
		}
		if read == 0 || use.UsedPercent > bytes {
			fullest = Filesystem{path, use.UsedPercent}
		}
		bytes, inodes = max(bytes, use.UsedPercent), max(inodes, use.InodesUsedPercent)
		read++
	}
	if read > 0 {
		d.fullest.Store(&fullest)
		d.out = append(d.out,
			Sample{"disk_used_percent", Percent, bytes, nil},
			Sample{"disk_inodes_used_percent", Percent, inodes, nil})
	} else if len(errs) == 0 {
		errs = append(errs, fmt.Errorf("%w: no local filesystem", ErrNoData))
	}
	d.err = errors.Join(errs...)
	return d.out, d.err
}

func (d *Disk) paths(ctx context.Context) ([]string, error) {
	if len(d.cfg.Paths) > 0 {
		return d.cfg.Paths, nil
	}
	all, err := disk.PartitionsWithContext(ctx, true)
	if err != nil {
		return nil, fmt.Errorf("list filesystems: %w", err)
	}
	return localDisks(all), nil
}

// localDisks picks the filesystems that can fill up and whose size can be asked without waiting for another machine: a
// block device, the root whatever it is (a container's is an overlay), and /tmp, in memory on Amazon Linux 2023. One
// device mounted twice counts once.
//
// On Linux the mounts are those of process 1. Our own, by our unit's ProtectSystem=strict, are all read-only.
func localDisks(mounts []disk.PartitionStat) (paths []string) {
	seen := map[string]bool{}
	for _, m := range mounts {
		isDevice := strings.HasPrefix(m.Device, "/dev/") && !strings.HasPrefix(m.Fstype, "fuse")
		switch {
		case slices.Contains(m.Opts, "ro"), slices.Contains(remote, m.Fstype):
		case isDevice && !seen[m.Device]:
			seen[m.Device] = true
			paths = append(paths, m.Mountpoint)
		case !isDevice && (m.Mountpoint == "/" || m.Mountpoint == "/tmp"):
			paths = append(paths, m.Mountpoint)
		}
	}
	return paths
}

// remote filesystems can make statfs wait for ever.
var remote = []string{"nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "lustre", "afs"}
