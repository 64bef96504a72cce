package packaging

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Any user could open the directory of the binary, and so hold a lock on it: no installation ever ended.
func TestNobodyElseCanHoldUpAnInstallation(t *testing.T) {
	root := t.TempDir()
	install(t, root, binary(t, "one"))
	for _, path := range []string{"/opt/agent", "/opt/agent/bin", binaryPath, configDir} { // all that others may read
		f, err := os.Open(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	two := binary(t, "two")
	go func() {
		_, err := Install(t.Context(), Options{Root: root, Binary: two})
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("an installation waits for what others hold")
	}
}

func TestInstallationWaitsForAnotherAndNamesIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if info, err := first.Stat(); err != nil || info.Mode() != 0o600 {
		t.Errorf("others can open the lock: %v, %v", info, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := lock(ctx, path); err == nil || !strings.Contains(err.Error(), strconv.Quote(strconv.Itoa(os.Getpid()))) {
		t.Errorf("got %v, want one that names the holder", err)
	}
	next := make(chan error, 1)
	go func() {
		second, err := lock(t.Context(), path)
		if err == nil {
			second.Close()
		}
		next <- err
	}()
	first.Close()
	if err := <-next; err != nil {
		t.Error(err)
	}
}

func TestALinkIsNoLock(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("target", filepath.Join(dir, "lock")); err != nil {
		t.Fatal(err)
	}
	if _, err := lock(t.Context(), filepath.Join(dir, "lock")); err == nil {
		t.Error("a link was followed")
	}
	if _, err := os.Lstat(filepath.Join(dir, "target")); err == nil {
		t.Error("its target was made")
	}
}
