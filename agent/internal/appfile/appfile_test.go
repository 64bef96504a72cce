package appfile

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestReadsOnlySmallRegularFilesOfTheTree(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	sparse := func(name string, size int64) {
		if err := os.WriteFile(at(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(at(name), size); err != nil {
			t.Fatal(err)
		}
	}
	sparse("limit", 1000)
	sparse("over", 1001)
	sparse("gigabyte", 1<<30)
	for link, to := range map[string]string{"within": "limit", "zero": "/dev/zero", "passwd": "/etc/passwd", "up": "../../../etc/passwd",
		"proc": "/proc/self/root/etc/passwd", "loop": "loop", "dangling": "nothing"} {
		if err := os.Symlink(to, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(at("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(at("folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"limit": "", "within": "", "over": "1001 bytes", "gigabyte": "more than the 1000",
		"zero": "escapes", "passwd": "escapes", "up": "escapes", "proc": "escapes", "loop": "", "dangling": "no such file",
		"fifo": "not a regular file", "folder": "not a regular file", "absent": "no such file", "/etc/passwd": "escapes"} {
		data, _, err := Read(dir, name, 1000)
		switch {
		case want == "" && name != "loop":
			if err != nil || len(data) != 1000 {
				t.Errorf("%s: %d bytes, %v", name, len(data), err)
			}
		case err == nil || !strings.Contains(err.Error(), want):
			t.Errorf("%s: got %v, want an error with %q", name, err, want)
		}
	}
}

// An application's directory may be a link of its user's.
func TestAFIFOInPlaceOfTheDirectoryIsNotWaitedFor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "app")
	if err := syscall.Mkfifo(dir, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, "x"); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Error(err)
	}
}

// Root sees what is elsewhere: whether a link out of the directory leads somewhere must not show.
func TestStatDoesNotSayWhatIsElsewhere(t *testing.T) {
	dir := t.TempDir()
	for link, to := range map[string]string{"there": "/etc/passwd", "not": "/etc/not-there", "up": "../../../etc/not-there"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
		if info, err := Stat(dir, link); err != nil || info.Mode().Type() != os.ModeSymlink {
			t.Errorf("%s: %v, %v", link, info, err)
		}
	}
	if _, err := Stat(dir, "absent"); !os.IsNotExist(err) {
		t.Error(err)
	}
}
