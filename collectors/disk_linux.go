package collectors

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Disk reads how full the fullest local filesystem is. It is a collector of its
// own, apart from Host: a sick disk can make it wait.
type Disk struct {
	cfg  DiskConfig
	next time.Time
	out  []Sample
	full DiskUse
	err  error
	buf  []byte
}

// NewDisk returns a Disk.
func NewDisk(cfg DiskConfig) *Disk {
	if cfg.Every == 0 {
		cfg.Every = time.Minute
	}
	if cfg.Proc == nil {
		cfg.Proc = os.DirFS("/proc")
	}
	return &Disk{cfg: cfg}
}

// Name is "disk".
func (d *Disk) Name() string { return "disk" }

// Fullest is the filesystem the last figures are of. It must not be called
// while Collect runs.
func (d *Disk) Fullest() DiskUse { return d.full }

// Collect gives the fullest filesystem's figures, read anew every so often.
func (d *Disk) Collect(context.Context) ([]Sample, error) {
	now := time.Now()
	if now.Before(d.next) {
		return d.out, d.err
	}
	d.next, d.out = now.Add(d.cfg.Every), d.out[:0]
	var uses []DiskUse
	uses, d.err = d.read()
	if len(uses) > 0 {
		d.out, d.full = diskSamples(d.out, uses)
	}
	return d.out, d.err
}

func (d *Disk) read() (uses []DiskUse, err error) {
	paths, err := d.paths()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, path := range paths {
		use, err := statfs(path)
		if errors.Is(err, unix.ENOENT) {
			continue // unmounted since we looked
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		uses = append(uses, use)
	}
	if len(uses) == 0 && len(errs) == 0 {
		return nil, fmt.Errorf("%w: no local filesystem", ErrNoData)
	}
	return uses, errors.Join(errs...)
}

func (d *Disk) paths() ([]string, error) {
	if len(d.cfg.Paths) > 0 {
		return d.cfg.Paths, nil
	}
	b, err := readOnce(d.cfg.Proc, "self/mountinfo", &d.buf)
	if err != nil {
		return nil, err
	}
	ms, err := parseMountinfo(b)
	return localDisks(ms), err
}

// statfs computes as df does: what is reserved for root counts as neither used
// nor free.
func statfs(path string) (DiskUse, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return DiskUse{}, fmt.Errorf("read size of filesystem %q: %w", path, err)
	}
	use := DiskUse{Path: path}
	used := float64(st.Blocks - min(st.Bfree, st.Blocks))
	if reach := used + float64(st.Bavail); reach > 0 {
		use.Bytes = 100 * used / reach
	}
	if st.Files > 0 {
		use.Inodes = 100 * float64(st.Files-min(st.Ffree, st.Files)) / float64(st.Files)
	}
	return use, nil
}
