package supervisor

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/gotool"
)

// What a cron run's files need to survive a power cut is one fsync of each: the name of a file that was just
// made, and of the directory it was made in, are written with it. A person's run is not synced and is lost,
// which shows that this cut does lose what the disk has not been told to keep.
func TestRecordSurvivesPowerCut(t *testing.T) {
	if os.Getuid() != 0 {
		gotool.Need(t, "root, to mount a disk of its own")
	}
	for _, fs := range []struct {
		mkfs []string
		size int64
	}{ // Amazon Linux has XFS
		{[]string{"mkfs.ext4", "-q", "-F"}, 32 << 20},
		{[]string{"mkfs.xfs", "-q", "-f"}, 320 << 20},
	} {
		t.Run(fs.mkfs[0], func(t *testing.T) {
			if _, err := exec.LookPath(fs.mkfs[0]); err != nil {
				gotool.Need(t, fs.mkfs[0]+" (Debian: e2fsprogs, xfsprogs)")
			}
			disk := newDisk(t, fs.size, fs.mkfs)
			s := open(t, filepath.Join(disk.dir, "runs"), Keep{})
			unix.Sync()
			for _, id := range []string{"typed", "live", "ended"} {
				run := newRun(&runs.Request{ID: id, Args: []string{"x"}, Name: "nightly", Kind: "cron", IO: runs.IOSpool})
				if id == "typed" {
					run.Kind = "exec"
				}
				if err := s.create(&run); err != nil {
					t.Fatal(err)
				}
				if id == "ended" {
					run.State, run.ExitCode, run.Ended = runs.StateExited, 7, time.Now()
					if err := s.finish(&run); err != nil {
						t.Fatal(err)
					}
				}
				if id == "typed" { // or the journal would take it along with the next
					disk.cutPower(t)
					if rec, err := s.read(id); err == nil {
						t.Fatalf("a record that was not synced survived as %+v: this is no power cut", rec.Run)
					}
				}
			}
			disk.cutPower(t)
			if rec, err := s.read("live"); err != nil || rec.Run.Name != "nightly" || rec.Run.EndSeq != 0 {
				t.Errorf("a run that had begun: %+v, %v", rec.Run, err)
			}
			if rec, err := s.read("ended"); err != nil || rec.Run.ExitCode != 7 || rec.Run.EndSeq == 0 {
				t.Errorf("a run that had ended: %+v, %v", rec.Run, err)
			}
		})
	}
}

// disk is a file system of its own that can lose power.
type disk struct{ image, dir string }

func newDisk(t *testing.T, size int64, mkfs []string) disk {
	t.Helper()
	d := disk{filepath.Join(t.TempDir(), "image"), t.TempDir()}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, size); err != nil {
		t.Fatal(err)
	}
	d.do(t, append(mkfs, d.image)...)
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.dir).CombinedOutput(); err != nil {
		gotool.Need(t, fmt.Sprintf("a loop device: %v: %s", err, out))
	}
	t.Cleanup(func() { d.do(t, "umount", d.dir) })
	return d
}

// cutPower has the kernel drop everything that is not on the disk, then mounts it again, which replays the
// journal.
func (d disk) cutPower(t *testing.T) {
	t.Helper()
	const shutdown, noLogFlush = 0x8004587d, 2 // FS_IOC_SHUTDOWN, FS_SHUTDOWN_FLAGS_NOLOGFLUSH
	f, err := os.Open(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	flag := uint32(noLogFlush)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), shutdown, uintptr(unsafe.Pointer(&flag)))
	f.Close()
	if errno != 0 {
		t.Fatalf("shut the file system down: %v", errno)
	}
	d.do(t, "umount", d.dir)
	d.do(t, "mount", "-o", "loop", d.image, d.dir)
}

func (d disk) do(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v: %s", args, err, out)
	}
}
