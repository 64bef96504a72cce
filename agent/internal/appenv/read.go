package appenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"beanstalk-agent/agent/internal/strictpath"
)

const (
	// minAge is how old a file's last change must be before a reading of it counts. Two writes within one tick of
	// the kernel's clock (at most 10 ms) leave the same times, and a writer that truncates first leaves the file
	// empty for a moment. A writer that pauses for longer than this looks like one that has finished (ext4 can leave
	// a file empty for as long while it truncates it; so an empty deployment file is not accepted).
	minAge = 100 * time.Millisecond

	// readLimit is how long a read is retried while the file keeps changing.
	readLimit = 2 * time.Second

	// maxFile is far above the kernel's limit for all of a process's variables, 6 MiB.
	maxFile = 8 << 20

	// maxTheirs is for a file that the application's user can write: what it holds takes many times its size.
	maxTheirs = 256 << 10
)

// stamp identifies one state of one file.
type stamp struct {
	info    fs.FileInfo
	changed time.Time // the later of content's and inode's change
}

func stampOf(info fs.FileInfo) stamp { return stamp{info, changeTime(info)} }

func (s stamp) same(o stamp) bool {
	return s.info != nil && o.info != nil && os.SameFile(s.info, o.info) &&
		s.info.Size() == o.info.Size() && s.changed.Equal(o.changed) && s.info.ModTime().Equal(o.info.ModTime())
}

// readStable reads the file that open opens, in one state: a replaced file is read whole in its old or its new state, a
// file rewritten in place is read again once it is stable. A FIFO cannot block it if open does not block.
func readStable(ctx context.Context, open func() (*os.File, error), limit int64, minAge time.Duration) (
	[]byte, stamp, error) {
	var empty stamp
	for deadline := time.Now().Add(readLimit); ; {
		data, st, err := readOnce(open, limit)
		age := time.Since(st.changed)
		switch {
		case err != nil && !errors.Is(err, errChanging):
			return nil, stamp{}, err
		case err == nil && len(data) == 0 && !empty.same(st):
			// A file being truncated is empty before the kernel changes its times (tmpfs's shmem_setattr), and
			// looks stable. So an empty file must still be the same after a while.
			empty, age = st, 0
		case err == nil && (age >= minAge || age < -minAge): // a time well in the future is not our clock's
			return data, st, nil
		case time.Now().After(deadline):
			return nil, stamp{}, errChanging
		}
		select {
		case <-ctx.Done():
			return nil, stamp{}, context.Cause(ctx)
		case <-time.After(min(max(minAge-age, time.Millisecond), time.Until(deadline)+time.Millisecond)):
		}
	}
}

var errChanging = strictpath.ErrChanging

func readOnce(open func() (*os.File, error), limit int64) ([]byte, stamp, error) {
	f, err := open()
	if err != nil {
		return nil, stamp{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, stamp{}, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, stamp{}, errors.New("is not a regular file")
	case info.Size() > limit:
		return nil, stamp{}, fmt.Errorf("has %d bytes, at most %d are read", info.Size(), limit)
	}
	before := stampOf(info)
	data := make([]byte, info.Size()+1)
	n, err := io.ReadFull(f, data)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return nil, stamp{}, err
	}
	if info, err = f.Stat(); err != nil {
		return nil, stamp{}, err
	}
	if after := stampOf(info); !before.same(after) || int64(n) != info.Size() {
		return nil, after, errChanging
	}
	return data[:n], before, nil
}

// openFile opens a file that only root can create.
func openFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}
