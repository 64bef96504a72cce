package collectors

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const hostMounts = `22 1 259:1 / / rw,noatime shared:1 - xfs /dev/nvme0n1p1 rw,attr2
23 22 0:21 / /proc rw,nosuid - proc proc rw
24 22 0:30 / /tmp rw,nosuid - tmpfs tmpfs rw,size=1k
25 22 259:5 / /mnt/my\040data rw - ext4 /dev/nvme1n1 rw
26 22 259:5 /sub /mnt/bind rw - ext4 /dev/nvme1n1 rw
27 22 7:0 / /snap/core ro - squashfs /dev/loop0 ro
28 22 0:40 / /efs rw - nfs4 fs-1.efs:/ rw
29 22 0:41 / /s3 rw - fuse.mount /dev/fuse rw
30 22 0:42 / /run rw - tmpfs tmpfs rw
31 22 0:43 / /odd rw - tmpfs  rw
32 22 259:9 / /srv rw,relatime - xfs /dev/nvme2n1 rw,attr2
33 22 259:10 / /backup ro,relatime - xfs /dev/nvme3n1 ro
34 22 7:1 / /opt/image rw - ext4 /dev/loop1 rw
35 22 259:11 / /opt/cd rw - iso9660 /dev/sr0 ro
36 22 259:12 / /opt/big rw - squashfs /dev/nvme5n1 ro
`

func TestLocalDisks(t *testing.T) {
	// As ProtectSystem=strict shows every mount to ourselves.
	protected := strings.ReplaceAll(hostMounts, " rw", " ro")
	container := "1 0 0:50 / / rw,relatime - overlay overlay rw,lowerdir=/l\n2 1 0:51 / /tmp rw - 9p /dev/tmp rw\n"
	docker := container + `3 1 259:1 /var/lib/docker/containers/x/resolv.conf /etc/resolv.conf rw - xfs /dev/nvme0n1p1 rw
4 1 259:1 /var/lib/docker/containers/x/hosts /etc/hosts rw - xfs /dev/nvme0n1p1 rw
5 1 259:1 /srv/uploads /uploads rw - xfs /dev/nvme0n1p1 rw
6 1 259:5 /logs /var/log/app rw - ext4 /dev/nvme1n1 rw
7 1 259:5 / /var/lib/very/deep/data rw - ext4 /dev/nvme1n1 rw
`
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"host", map[string]string{"1/mountinfo": hostMounts}, []string{"/", "/tmp", "/srv", "/mnt/my data"}},
		{"our unit", map[string]string{"1/mountinfo": hostMounts, "self/mountinfo": protected}, []string{"/", "/tmp", "/srv", "/mnt/my data"}},
		{"process 1 is hidden", map[string]string{"self/mountinfo": hostMounts}, []string{"/", "/tmp", "/srv", "/mnt/my data"}},
		{"container", map[string]string{"1/mountinfo": container}, []string{"/"}},
		{"docker's files and volumes", map[string]string{"1/mountinfo": docker}, []string{"/", "/var/lib/very/deep/data", "/uploads"}},
	} {
		proc := files(t, tt.files)
		got, err := NewDisk(DiskConfig{Proc: proc}).paths(gopsutilContext(t.Context(), proc))
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

func TestDiskWithNothingToMeasureSaysSo(t *testing.T) {
	proc := files(t, map[string]string{"1/mountinfo": "28 22 0:40 / / rw - nfs4 fs-1.efs:/ rw\n"})
	if got, err := collect(t, NewDisk(DiskConfig{Proc: proc})); !errors.Is(err, ErrNoData) || len(got) > 0 {
		t.Errorf("got %v, %v, want ErrNoData", got, err)
	}
	if _, err := collect(t, NewDisk(DiskConfig{Proc: t.TempDir()})); err == nil || errors.Is(err, ErrNoData) {
		t.Errorf("without mountinfo: got %v, want another error", err)
	}
}

// A file that something is mounted on is no disk to look at: in a container it is the host's, and nothing fills it up.
func TestAFileIsNoDisk(t *testing.T) {
	file, dir := filepath.Join(t.TempDir(), "hosts"), t.TempDir()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, where := range []string{file, dir} {
		proc := files(t, map[string]string{"1/mountinfo": "3 1 259:1 /x " + where + " rw - xfs /dev/nvme0n1p1 rw\n"})
		got, err := NewDisk(DiskConfig{Proc: proc}).paths(gopsutilContext(t.Context(), proc))
		if err != nil || slices.Contains(got, where) != (where == dir) {
			t.Errorf("%s: %q, %v", where, got, err)
		}
	}
}

// A path that is named has the figure of the filesystem that holds it, whatever that is, and df is the judge.
func TestDiskOfAPathAgreesWithDF(t *testing.T) {
	for _, path := range []string{"/", "/dev/shm", t.TempDir(), "/proc/self/exe"} {
		d := NewDisk(DiskConfig{Holding: path})
		got, err := collect(t, d)
		if err != nil || len(got) != 1 || d.Name() != "disk "+path {
			t.Fatalf("%s: %v, %v", path, got, err)
		}
		for _, s := range got {
			if !slices.Equal(s.Labels, []Label{{"path", path}}) {
				t.Errorf("%s: labels %v", path, s.Labels)
			}
			w := run(t, "df", "--block-size=1", "--output=used,avail", path)[2:]
			near(t, path, s.Value, 100*figure(t, w[0])/(figure(t, w[0])+figure(t, w[1])), 0.5)
		}
	}
	got, err := collect(t, NewDisk(DiskConfig{Holding: "/no/such"}))
	if err == nil || errors.Is(err, ErrNoData) || len(got) > 0 || !strings.Contains(err.Error(), `that holds "/no/such"`) {
		t.Errorf("a path that is not there: %v, %v", got, err)
	}
}

// Of several filesystems the fullest counts, one that is gone does not, and df is the judge.
func TestDiskAgreesWithDF(t *testing.T) {
	d := NewDisk(DiskConfig{Paths: []string{"/", "/dev/shm", "/gone"}})
	if f := d.Fullest(); f != nil {
		t.Errorf("before anything was read: %+v", *f)
	}
	got, err := collect(t, d)
	if err != nil {
		t.Fatal(err)
	}
	var used, inodes float64
	for _, path := range []string{"/", "/dev/shm"} {
		w := run(t, "df", "--block-size=1", "--output=used,avail,iused,itotal", path)[4:]
		used = max(used, 100*figure(t, w[0])/(figure(t, w[0])+figure(t, w[1])))
		inodes = max(inodes, 100*figure(t, w[2])/figure(t, w[3]))
	}
	if f := d.Fullest(); f == nil || f.UsedPercent != got["disk_used_percent"].Value || f.Path == "/gone" {
		t.Errorf("the fullest: %+v", f)
	}
	near(t, "disk_used_percent", got["disk_used_percent"].Value, used, 0.5)
	near(t, "disk_inodes_used_percent", got["disk_inodes_used_percent"].Value, inodes, 0.5)
}

func TestDiskFindsTheRootByItself(t *testing.T) {
	if got, err := collect(t, NewDisk(DiskConfig{})); err != nil || len(got) != 2 {
		t.Errorf("got %v, %v", got, err)
	}
}

// As in our unit: each mount is read-only to us, and processes of others are hidden.
// Then every disk counts all the same.
func TestDiskFindsTheRootFromOurUnit(t *testing.T) {
	if os.Getuid() != 0 {
		need(t, "mount namespace", errors.New("not root"))
	}
	out, err := exec.Command("unshare", "--mount", "sh", "-ec", `
		mount --make-rprivate /
		mount -t proc -o hidepid=2 proc /proc
		mount -o remount,bind,ro /
		exec setpriv --bounding-set -all,+dac_read_search,+sys_ptrace,+syslog \
			"$0" -test.v -test.run '^TestDiskFindsTheRootByItself$'`, os.Args[0]).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestDiskFindsTheRootByItself") {
		t.Errorf("%v\n%s", err, out)
	}
}
