// Package appfile reads files that the application's user can replace.
//
// Contract: a file is opened below the application's directory; a link that leaves it is refused, so that a root
// agent never reads /etc/shadow on the application's behalf. Only regular files are read, and no more than a limit.
//
// Reason: an agent that read a Procfile linked to /dev/zero was killed by the kernel for memory; one that opened a
// FIFO hung. A test in package main refuses any other way to open what lies below the application's directory.
package appfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Open opens name, a path relative to dir. It never waits for a FIFO's writer, which dir may have become, too. The
// caller closes the file.
func Open(dir, name string) (*os.File, error) {
	root, err := os.OpenRoot(filepath.Clean(dir) + "/.")
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// Stat says what Open would open. Of a link that leaves dir it says what the link is, whether or not it leads
// somewhere: what is elsewhere is none of the application's business.
func Stat(dir, name string) (fs.FileInfo, error) {
	root, err := os.OpenRoot(filepath.Clean(dir) + "/.")
	if err != nil {
		return nil, err
	}
	defer root.Close()
	info, err := root.Stat(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return root.Lstat(name)
	}
	return info, err
}

// Read returns the content of name below dir, of at most limit bytes, and what was opened.
func Read(dir, name string, limit int64) ([]byte, fs.FileInfo, error) {
	f, err := Open(dir, name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, nil, err
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("read %q: not a regular file", name)
	case info.Size() > limit:
		return nil, nil, fmt.Errorf("read %q: %d bytes, more than the %d that are read", name, info.Size(), limit)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = errors.New("it grew while it was read")
	}
	return data, info, err
}
