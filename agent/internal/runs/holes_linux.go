package runs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// nextData returns where data goes on at or after offset: offset itself, unless it is in a hole. ok is
// false when nothing but a hole follows.
func nextData(f *os.File, offset int64) (next int64, ok bool) {
	next, err := f.Seek(offset, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return 0, false
	case err != nil: // no such question on this file system: then no holes either
		return offset, true
	}
	return next, true
}

// dataEnd returns where the data at offset ends: at a hole or the end of the file.
func dataEnd(f *os.File, offset int64) int64 {
	end, err := f.Seek(offset, unix.SEEK_HOLE)
	if err != nil {
		return offset + 1<<62
	}
	return end
}
