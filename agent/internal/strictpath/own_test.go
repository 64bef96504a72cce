package strictpath

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// In a sticky directory anybody makes a file first. It is neither believed nor written through, nor waited for.
func TestAStrangersFileIsNoneOfOurs(t *testing.T) {
	dir := t.TempDir()
	path, kept := filepath.Join(dir, "drain"), filepath.Join(dir, "of-roots")
	if err := os.WriteFile(kept, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func() error{
		"link":      func() error { return os.Symlink(kept, path) },
		"hard link": func() error { return os.Link(kept, path) },
		"FIFO":      func() error { return unix.Mkfifo(path, 0o666) },
		"another's": func() error {
			if os.Geteuid() != 0 {
				return os.Symlink("/etc/passwd", path) // only root gives files away
			}
			return errors.Join(os.WriteFile(path, []byte("x"), 0o644), os.Chown(path, 65534, 65534))
		},
	} {
		if err := put(); err != nil {
			t.Fatal(name, err)
		}
		if b, err := ReadOwn(path, 100); !IsForeign(err) {
			t.Errorf("%s: read %q, %v", name, b, err)
		}
		if err := WriteOwn(path, []byte("ours")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if b, err := ReadOwn(path, 100); err != nil || string(b) != "ours" {
			t.Errorf("%s: after it was written: %q, %v", name, b, err)
		}
		if b, _ := os.ReadFile(kept); string(b) != "kept" {
			t.Errorf("%s: the other file is %q now", name, b)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ReadOwn(path, 100); !errors.Is(err, fs.ErrNotExist) || IsForeign(err) {
		t.Errorf("none: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("files are left: %v", left)
	}
}
