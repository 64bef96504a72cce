package appfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What the way leads to is what the kernel finds, and everything on it is named.
func TestAWayIsTheKernels(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(root, name) }
	if err := os.MkdirAll(at("a/b/c"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at("a/b/file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"relative": "a/b", "absolute": at("a"), "up": "a/b/c/../..", "a/b/c/back": "../../../relative/file",
		"slash": at("a/b") + "/", "loop": "loop", "dangling": "nothing"} {
		if err := os.Symlink(to, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(at(strings.Repeat("d/", 150)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(at("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"a/b/file": "file", "relative/file": "a b relative file", "absolute/b/file": "absolute file", "up/b/file": "up c file",
		"a/b/c/back": "back relative b file", "slash/file": "slash b file", "a/b/": "b", "fifo": "fifo", ".": ""} {
		way, err := Follow("/", root+"/"+path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		info, err := os.Stat(root + "/" + path)
		var names []string
		for _, p := range way {
			names = append(names, filepath.Base(p.Path))
		}
		last := way[len(way)-1]
		if err != nil || !os.SameFile(last.Info, info) || !last.End {
			t.Errorf("%s leads to %s, %v", path, last.Path, err)
		}
		for _, name := range strings.Fields(want) {
			if !strings.Contains(" "+strings.Join(names, " ")+" ", " "+name+" ") {
				t.Errorf("%s goes by %q, not by %s", path, names, name)
			}
		}
	}
	for path, want := range map[string]error{"loop": syscall.ELOOP, strings.Repeat("d/", 150): syscall.ELOOP, "dangling": os.ErrNotExist, "a/b/file/x": syscall.ENOTDIR, "fifo/x": syscall.ENOTDIR} {
		if way, err := Follow("/", root+"/"+path); !errors.Is(err, want) {
			t.Errorf("%.20s: %v, %v", path, way, err)
		}
	}
}
