package packaging

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// host makes changes below root, reports each, and can undo the files it wrote. Its methods change nothing that is
// already as asked. With dry set they only report.
type host struct {
	root   string
	files  files // below root
	repo   fs.FS // the same, of a repository
	dry    bool
	report Report
	undo   []func() error // called last one first

	systemd int // its version, or 0
}

func newHost(root string, dry bool) *host {
	return &host{root: root, files: below(root), dry: dry, report: Report{Steps: []Step{}, Notes: []string{}}}
}

// files are the operations that write a file: os's, or those of an os.Root, which no link leads out of.
type files interface {
	ReadFile(name string) ([]byte, error)
	Stat(name string) (fs.FileInfo, error)
	Lstat(name string) (fs.FileInfo, error)
	MkdirAll(name string, mode fs.FileMode) error
	OpenFile(name string, flag int, mode fs.FileMode) (*os.File, error)
	Rename(from, to string) error
	Remove(name string) error
}

// below is a directory before each path.
type below string

func (b below) at(name string) string                        { return filepath.Join(string(b), name) }
func (b below) ReadFile(name string) ([]byte, error)         { return os.ReadFile(b.at(name)) }
func (b below) Stat(name string) (fs.FileInfo, error)        { return os.Stat(b.at(name)) }
func (b below) Lstat(name string) (fs.FileInfo, error)       { return os.Lstat(b.at(name)) }
func (b below) MkdirAll(name string, mode fs.FileMode) error { return os.MkdirAll(b.at(name), mode) }
func (b below) Rename(from, to string) error                 { return os.Rename(b.at(from), b.at(to)) }
func (b below) Remove(name string) error                     { return os.Remove(b.at(name)) }
func (b below) OpenFile(name string, flag int, mode fs.FileMode) (*os.File, error) {
	return os.OpenFile(b.at(name), flag, mode)
}

// at returns path below the root.
func (h *host) at(path string) string { return filepath.Join(h.root, path) }

func (h *host) did(action, path string) {
	h.report.Steps = append(h.report.Steps, Step{action, path})
}

func (h *host) note(format string, args ...any) {
	h.report.Notes = append(h.report.Notes, fmt.Sprintf(format, args...))
}

// dir makes a directory, and its parents with mode 0755. The mode of an existing directory does not change.
func (h *host) dir(path string, mode fs.FileMode) error {
	switch info, err := os.Stat(h.at(path)); {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("make directory %q: a file of that name is in the way", path)
	}
	h.did("make", path)
	if h.dry {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(h.at(path)), 0o755); err != nil {
		return fmt.Errorf("make directory %q: %w", path, err)
	}
	if err := os.Mkdir(h.at(path), mode); err != nil {
		return fmt.Errorf("make directory %q: %w", path, err)
	}
	return nil
}

// file writes a small file and reports whether it had to. Undo restores content
// and mode of the old file, or removes the new one.
func (h *host) file(path string, mode fs.FileMode, content []byte) (bool, error) {
	old, err := h.files.ReadFile(path)
	var info fs.FileInfo
	if err == nil {
		info, err = h.files.Stat(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("read %q: %w", path, err)
	}
	had := err == nil
	if had && bytes.Equal(old, content) && h.hasMode(path, mode) {
		return false, nil
	}
	h.did("write", path)
	if h.dry {
		return true, nil
	}
	if err := h.replace(path, mode, bytes.NewReader(content)); err != nil {
		return false, err
	}
	h.undo = append(h.undo, func() error {
		if had {
			return h.replace(path, info.Mode(), bytes.NewReader(old))
		}
		return h.files.Remove(path)
	})
	return true, nil
}

func (h *host) hasMode(path string, mode fs.FileMode) bool {
	info, err := h.files.Lstat(path)
	return err == nil && info.Mode() == mode
}

// replace writes content beside path, syncs it and renames it: path is never
// missing or partial, and a program that runs from it goes on.
func (h *host) replace(path string, mode fs.FileMode, content io.Reader) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %q: %w", path, err)
		}
	}()
	if err := h.files.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temp := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.new-%d", filepath.Base(path), os.Getpid()))
	_ = h.files.Remove(temp) // of a process that was killed
	f, err := h.files.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer h.files.Remove(temp) // fails after the rename, as it should
	_, err = io.Copy(f, content)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return h.files.Rename(temp, path)
}

// link makes path a symbolic link to target. Anything but a link at path was not written by us, and stays.
func (h *host) link(path, target string) error {
	switch info, err := os.Lstat(h.at(path)); {
	case err == nil && info.Mode().Type() != fs.ModeSymlink:
		h.note("%s was not written by us, left alone; the agent is %s", path, target)
		return nil
	case err == nil:
		if now, _ := os.Readlink(h.at(path)); now == target {
			return nil
		}
	}
	h.did("link", path)
	if h.dry {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(h.at(path)), 0o755); err != nil {
		return fmt.Errorf("link %q: %w", path, err)
	}
	temp := filepath.Join(filepath.Dir(h.at(path)), "."+filepath.Base(path)+".new")
	os.Remove(temp) // of a run that was killed
	if err := os.Symlink(target, temp); err != nil {
		return fmt.Errorf("link %q: %w", path, err)
	}
	if err := os.Rename(temp, h.at(path)); err != nil {
		return errors.Join(fmt.Errorf("link %q: %w", path, err), os.Remove(temp))
	}
	return nil
}

// remove deletes path with everything below it.
func (h *host) remove(path string) error {
	if _, err := os.Lstat(h.at(path)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	h.did("remove", path)
	if h.dry {
		return nil
	}
	return os.RemoveAll(h.at(path))
}

// rollBack undoes the files written, the last one first.
func (h *host) rollBack() error {
	var errs []error
	for i := len(h.undo) - 1; i >= 0; i-- {
		errs = append(errs, h.undo[i]())
	}
	h.undo = nil
	return errors.Join(errs...)
}
