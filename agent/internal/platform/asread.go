package platform

import (
	"io/fs"
	"os"
	"sync"
	"time"
)

// tick is far above the steps of a file system's clock: what changed less than that before it was read may change again
// without another time.
const tick = 2 * time.Second

// asRead is what was made of the files of a directory, until one of them is another. The zero value has read nothing.
type asRead[T any] struct {
	mu    sync.Mutex
	made  T
	seen  map[string]fs.FileInfo // each file and directory that was opened; nil for what was not there
	files fs.FS                  // nil: nothing has been read yet, or it may have changed meanwhile
}

// get returns what read makes of files, and calls it where one of those that it opened is another than then. Safe for
// concurrent use.
func (a *asRead[T]) get(files fs.FS, read func(fs.FS) T) T {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.files != nil && a.same() {
		return a.made
	}
	began := time.Now()
	a.files, a.seen = files, map[string]fs.FileInfo{}
	a.made = read(a)
	for _, info := range a.seen {
		if info != nil && began.Sub(info.ModTime()) < tick {
			a.files = nil
		}
	}
	return a.made
}

// Open notes what is opened before it is read.
func (a *asRead[T]) Open(name string) (fs.File, error) {
	if _, ok := a.seen[name]; !ok {
		a.seen[name] = a.stat(name)
	}
	return a.files.Open(name)
}

func (a *asRead[T]) stat(name string) fs.FileInfo {
	info, err := fs.Stat(a.files, name)
	if err != nil {
		return nil
	}
	return info
}

func (a *asRead[T]) same() bool {
	for name, before := range a.seen {
		now := a.stat(name)
		if before == nil || now == nil {
			if before != now {
				return false
			}
			continue
		}
		if !os.SameFile(before, now) || before.Size() != now.Size() || !before.ModTime().Equal(now.ModTime()) {
			return false
		}
	}
	return true
}
