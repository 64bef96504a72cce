package strictpath

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrForeign is of a file that another user made where one of ours was to be: in a sticky directory anybody can.
var ErrForeign = errors.New("it is not a file of this user's own")

// ReadOwn reads a file that WriteOwn has written, of at most limit bytes. It follows no link at the end of the path,
// and waits for nobody.
func ReadOwn(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s: %w", path, ErrForeign)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Uid != uint32(os.Geteuid()) || st.Nlink != 1 {
		return nil, fmt.Errorf("%s: %w", path, ErrForeign)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// WriteOwn puts a file that this user alone may read in the place of whatever is there, in one step: a link there is
// not followed.
func WriteOwn(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// IsForeign reports whether what ReadOwn could not read is another's, or not to be opened.
func IsForeign(err error) bool {
	return errors.Is(err, ErrForeign) || errors.Is(err, fs.ErrPermission)
}
