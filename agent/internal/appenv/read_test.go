package appenv

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The application's user can put anything where .env is looked for; the agent is root and must neither hang nor follow.
func TestWhatMayStandInPlaceOfDotenv(t *testing.T) {
	for name, c := range map[string]struct {
		put  func(path string) error
		want string // in the error; "" means none
	}{
		"a FIFO nobody writes to": {func(p string) error { return syscall.Mkfifo(p, 0o600) }, "not a regular file"},
		"a directory":             {func(p string) error { return os.Mkdir(p, 0o700) }, "not a regular file"},
		"a link to a device":      {func(p string) error { return os.Symlink("/dev/zero", p) }, "escapes"},
		"a link out by ..":        {func(p string) error { return os.Symlink("../../../etc/passwd", p) }, "escapes"},
		"a link to itself":        {func(p string) error { return os.Symlink(".env", p) }, "too many"},
		"a link inside":           {func(p string) error { return os.Symlink("shared.env", p) }, ""},
		"a dangling link":         {func(p string) error { return os.Symlink("gone", p) }, ""},
		"something without end":   {func(p string) error { return os.Truncate(p, maxFile+1) }, "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			in := newInstance(t)
			in.cfg.Beanstalk, in.cfg.User = false, ""
			in.write(t, "/var/app/current/shared.env", "A=1\n")
			path := filepath.Join(in.cfg.AppDir, ".env")
			if strings.Contains(name, "end") {
				in.write(t, "/var/app/current/.env", "")
			}
			if err := c.put(path); err != nil {
				t.Fatal(err)
			}
			_, err := New(in.cfg).Resolve(t.Context())
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// A file that never rests is given up with a reason, and a caller who leaves is let go at once.
func TestAFileThatNeverRests(t *testing.T) {
	path := filepath.Join(t.TempDir(), "env")
	stop, stopped := make(chan struct{}), make(chan error, 1)
	write := func() error { return os.WriteFile(path, []byte("A=1\n"), 0o600) }
	if err := write(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			case <-time.After(time.Millisecond):
				if err := write(); err != nil {
					stopped <- err
					return
				}
			}
		}
	}()
	open := func() (*os.File, error) { return openFile(path) }
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, _, err := readStable(ctx, open, maxFile, time.Hour); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	start = time.Now()
	if _, _, err := readStable(t.Context(), open, maxFile, time.Hour); !errors.Is(err, errChanging) || time.Since(start) > readLimit+time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// A file that is being truncated is empty, and has the times of before: seen like that once, it is looked at again.
func TestAnEmptyFileIsLookedAtTwice(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"truncated": "", "written": "A=1\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		opened []string
		want   string
	}{{[]string{"truncated", "written"}, "A=1\n"}, {[]string{"truncated", "truncated"}, ""}, {[]string{"written"}, "A=1\n"}} {
		opens := 0
		data, _, err := readStable(t.Context(), func() (*os.File, error) {
			opens++
			return openFile(filepath.Join(dir, c.opened[min(opens, len(c.opened))-1]))
		}, maxFile, 0) // both are stable
		if err != nil || string(data) != c.want || opens < len(c.opened) {
			t.Errorf("%v: %q, %v after %d looks", c.opened, data, err, opens)
		}
	}
}
