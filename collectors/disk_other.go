//go:build !linux

package collectors

import (
	"context"
	"fmt"
	"time"

	"github.com/shirou/gopsutil/v3/disk"
)

// Disk reads how full the fullest local filesystem is, by gopsutil.
type Disk struct {
	cfg  DiskConfig
	next time.Time
	out  []Sample
	full DiskUse
	err  error
}

// NewDisk returns a Disk.
func NewDisk(cfg DiskConfig) *Disk {
	if cfg.Every == 0 {
		cfg.Every = time.Minute
	}
	return &Disk{cfg: cfg}
}

// Name is "disk".
func (d *Disk) Name() string { return "disk" }

// Close does nothing.
func (d *Disk) Close() error { return nil }

// Fullest is the filesystem the last figures are of. It must not be called
// while Collect runs.
func (d *Disk) Fullest() DiskUse { return d.full }

// Collect gives the fullest filesystem's figures, read anew every so often.
func (d *Disk) Collect(ctx context.Context) ([]Sample, error) {
	if now := time.Now(); now.Before(d.next) {
		return d.out, d.err
	} else {
		d.next, d.out = now.Add(d.cfg.Every), d.out[:0]
	}
	var uses []DiskUse
	uses, d.err = d.read(ctx)
	if len(uses) > 0 {
		d.out, d.full = diskSamples(d.out, uses)
	}
	return d.out, d.err
}

func (d *Disk) read(ctx context.Context) (uses []DiskUse, err error) {
	paths := d.cfg.Paths
	if len(paths) == 0 {
		parts, err := disk.PartitionsWithContext(ctx, false)
		if err != nil {
			return nil, fmt.Errorf("list filesystems: %w", err)
		}
		for _, p := range parts {
			paths = append(paths, p.Mountpoint)
		}
	}
	for _, path := range paths {
		u, err := disk.UsageWithContext(ctx, path)
		if err != nil {
			return uses, fmt.Errorf("read size of filesystem %q: %w", path, err)
		}
		uses = append(uses, DiskUse{Path: path, Bytes: u.UsedPercent, Inodes: u.InodesUsedPercent})
	}
	return uses, nil
}
