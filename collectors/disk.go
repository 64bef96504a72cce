package collectors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
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
	// Holding, if given, is a path: the one sample is then disk_used_percent of the filesystem that holds it, whatever
	// its kind, with the label path.
	Holding string

	// Paths are the mount points to look at. Optional: those backed by a local
	// block device and writable, the root, and /tmp.
	Paths []string

	// Every is how often they are read; in between the last figures are given
	// again, for a disk does not fill in seconds. Optional, 1 minute.
	Every time.Duration

	Proc string // optional: where /proc is; Linux only
}

// Disk reads how full the fullest local filesystem is, or one that is named. It is a collector of its
// own, apart from Host: a sick disk can make it wait.
type Disk struct {
	cfg    DiskConfig
	labels []Label
	next   time.Time
	out    []Sample
	err    error

	fullest atomic.Pointer[Filesystem]
}

// Filesystem is one of those that are looked at.
type Filesystem struct {
	Path        string  `json:"path"` // where it is mounted
	UsedPercent float64 `json:"used_percent"`
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
	d := &Disk{cfg: cfg}
	if cfg.Holding != "" {
		d.labels = []Label{{"path", cfg.Holding}}
	}
	return d
}

// Name is "disk", with the path that is named.
func (d *Disk) Name() string { return strings.TrimSpace("disk " + d.cfg.Holding) }

// Collect gives the figures, read anew every so often. The percentages are those of df: what is reserved for root
// counts as neither used nor free.
func (d *Disk) Collect(ctx context.Context) ([]Sample, error) {
	now := time.Now()
	if now.Before(d.next) {
		return d.out, d.err
	}
	d.next, d.out = now.Add(d.cfg.Every), d.out[:0]
	if path := d.cfg.Holding; path != "" {
		use, err := disk.UsageWithContext(ctx, path)
		if d.err = err; err != nil {
			d.err = fmt.Errorf("read size of the filesystem that holds %q: %w", path, err)
			return nil, d.err
		}
		d.out = append(d.out, Sample{"disk_used_percent", Percent, use.UsedPercent, d.labels})
		return d.out, nil
	}
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
	return localDisks(all, isDir), nil
}

// isDir reports whether path is no file: in a container the host's disk is mounted on files, too.
func isDir(path string) bool {
	info, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir() // what is gone is passed over later
}

// localDisks picks the filesystems that can fill up and whose size can be asked without waiting for another machine: a
// block device, the root whatever it is (a container's is an overlay), and /tmp, in memory on Amazon Linux 2023. One
// device mounted several times counts once, by the name that df has: where all of it is mounted, else the shortest.
//
// On Linux the mounts are those of process 1. Our own, by our unit's ProtectSystem=strict, are all read-only.
func localDisks(mounts []disk.PartitionStat, isDir func(string) bool) (paths []string) {
	mounts = slices.Clone(mounts)
	slices.SortStableFunc(mounts, func(a, b disk.PartitionStat) int {
		return cmp.Or(cmp.Compare(ofAPart(a), ofAPart(b)), cmp.Compare(len(a.Mountpoint), len(b.Mountpoint)))
	})
	seen := map[string]bool{}
	for _, m := range mounts {
		isDevice := strings.HasPrefix(m.Device, "/dev/") && !strings.HasPrefix(m.Fstype, "fuse")
		switch {
		case slices.Contains(m.Opts, "ro"), slices.Contains(remote, m.Fstype), slices.Contains(images, m.Fstype),
			strings.HasPrefix(m.Device, "/dev/loop"), isDevice && seen[m.Device]:
		case !isDevice && m.Mountpoint != "/" && m.Mountpoint != "/tmp":
		case isDir(m.Mountpoint):
			seen[m.Device] = true
			paths = append(paths, m.Mountpoint)
		}
	}
	return paths
}

// ofAPart is 1 where a directory or file of a filesystem is mounted, and not all of it.
func ofAPart(m disk.PartitionStat) int {
	if slices.Contains(m.Opts, "bind") {
		return 1
	}
	return 0
}

// images are filesystems that have no room left from the beginning, as what is on a loop device.
var images = []string{"squashfs", "erofs", "iso9660", "udf", "cramfs", "romfs"}

// remote filesystems can make statfs wait for ever.
var remote = []string{"nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "lustre", "afs"}
