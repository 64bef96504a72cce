package cloudwatch

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"beanstalk-agent/packaging/testbed/gotool"
)

// A disk without room, in the middle of an outage: memory takes over, and all of it arrives.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if os.Getuid() != 0 {
		gotool.Need(t, "root, to mount a small tmpfs")
	}
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=32k"); err != nil {
		gotool.Need(t, "a tmpfs: "+err.Error())
	}
	t.Cleanup(func() { syscall.Unmount(dir, 0) })
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.config.SpoolDir = dir
		w.down.Store(true)
		p, stop := w.start()
		w.sample(p, 30*time.Minute)
		if s := p.Status(); s.SpooledBatches < 29 || s.Dropped != 0 {
			t.Errorf("got %+v", s)
		}
		if !strings.Contains(w.logs.String(), "no space left on device") {
			t.Errorf("the full disk is not logged: %s", &w.logs)
		}
		if s := p.Status(); !strings.Contains(s.DiskError, "no space left on device") {
			t.Errorf("status does not say that the disk is full: %+v", s)
		}
		w.down.Store(false)
		w.sample(p, 2*time.Minute)
		time.Sleep(10 * time.Second)
		stop()
		w.check(p)
		files, _ := os.ReadDir(dir)
		if len(files) != 0 {
			t.Errorf("%d files left behind", len(files))
		}
	})
}
