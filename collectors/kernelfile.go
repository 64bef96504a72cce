package collectors

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// maxKernelFile bounds what is read of one kernel file: a cgroup.procs of a
// hundred thousand processes is well below it.
const maxKernelFile = 1 << 20

// kernelFile is one file of /proc or /sys, opened once and read again from its start at every tick: three times cheaper
// than opening it each time, and for /proc/PID it cannot become another process's file when the pid is reused.
type kernelFile struct {
	fsys fs.FS
	name string
	f    fs.File
}

// read returns the file's text, in *buf, which grows as needed. An error closes
// the file, so that the next read opens it again.
func (k *kernelFile) read(buf *[]byte) ([]byte, error) {
	if k.f == nil {
		f, err := k.fsys.Open(k.name)
		if err != nil {
			return nil, err
		}
		k.f = f
	}
	text, err := readFromStart(k.f, buf)
	if err != nil {
		k.close()
		return nil, fmt.Errorf("read %q: %w", k.name, err)
	}
	return text, nil
}

func (k *kernelFile) close() {
	if k.f != nil {
		k.f.Close()
		k.f = nil
	}
}

// readFromStart reads f whole. ReadAt goes on after a short read, which the
// kernel's sequence files need: they answer a page at a time.
func readFromStart(f fs.File, buf *[]byte) ([]byte, error) {
	at, ok := f.(io.ReaderAt)
	if !ok {
		return nil, errors.New("the file cannot be read at an offset")
	}
	if len(*buf) == 0 {
		*buf = make([]byte, 4096)
	}
	for {
		n, err := at.ReadAt(*buf, 0)
		if err == io.EOF {
			return (*buf)[:n], nil
		}
		if err != nil {
			return nil, err
		}
		if len(*buf) >= maxKernelFile {
			return nil, fmt.Errorf("longer than %d bytes", maxKernelFile)
		}
		*buf = make([]byte, 2*len(*buf))
	}
}

// firstOf lists the first entries of a directory, most at most, in the order in which it has them.
func firstOf(fsys fs.FS, dir string, most int) ([]fs.DirEntry, error) {
	f, err := fsys.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, ok := f.(fs.ReadDirFile)
	if !ok {
		return nil, errors.New("the directory cannot be listed")
	}
	entries, err := list.ReadDir(most)
	if err == io.EOF {
		err = nil
	}
	return entries, err
}

// readHead reads the beginning of a file that is not kept, up to most bytes.
func readHead(fsys fs.FS, name string, most int, buf *[]byte) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if len(*buf) < most {
		*buf = make([]byte, most)
	}
	n, err := io.ReadFull(f, (*buf)[:most])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("read %q: %w", name, err)
	}
	return (*buf)[:n], nil
}

// readOnce is read for a file that is not kept.
func readOnce(fsys fs.FS, name string, buf *[]byte) ([]byte, error) {
	k := kernelFile{fsys: fsys, name: name}
	defer k.close()
	return k.read(buf)
}
