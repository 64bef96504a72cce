package appenv

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A file is read again whenever it may have changed: replaced, rewritten to the same length, or written so
// lately that a second write could have left the same times.
func TestTextsAreNeverOld(t *testing.T) {
	var files texts
	name := filepath.Join(t.TempDir(), "passwd")
	want := func(text string) {
		t.Helper()
		for range 3 {
			if got, err := files.read(name); err != nil || got != text {
				t.Fatalf("read %q, %v; want %q", got, err, text)
			}
		}
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := files.read(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	for _, text := range []string{"a", "b", "cc", "d"} { // at once, one after the other
		write(text)
		want(text)
	}
	rest := func() {
		t.Helper()
		for end := time.Now().Add(15 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			want("d")
			if len(files.kept) == 1 {
				return
			}
			if time.Now().After(end) {
				t.Fatal("never kept")
			}
		}
	}
	rest()
	write("e") // the same length, in place
	want("e")
	write("d")
	rest()
	if err := os.WriteFile(name+".new", []byte("f"), 0o600); err != nil {
		t.Fatal(err)
	}
	os.Chtimes(name+".new", time.Time{}, time.Now().Add(-time.Hour))
	os.Rename(name+".new", name)
	want("f")
	os.Remove(name)
	if _, err := files.read(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed: %v", err)
	}
}
