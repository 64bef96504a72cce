package supervisor

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// makeRoom removes the oldest output while the disk is nearly full, by whomever. Records are small: they say what ran,
// so they stay, and so does the newest output, or who fills the disk could erase what he printed.
func (s *store) makeRoom() {
	size, free := diskSpace(s.dir)
	need, stays := min(size/roomFree, roomMost)-free, min(size/roomOutput, roomMost)
	if need <= 0 {
		return
	}
	s.mu.Lock()
	ids := oldOutput(s.ended, need, stays)
	s.mu.Unlock()
	for _, id := range ids {
		s.saving.Lock()
		err := os.Remove(s.path(id, "output"))
		s.saving.Unlock()
		if err != nil {
			s.log.Warn("cannot remove a run's output", "run", id, "err", err)
		}
		s.measure(id)
	}
	if len(ids) > 0 && !s.toldRoom.Swap(true) {
		s.log.Warn("the disk is nearly full: old output is removed, records stay", "dir", s.dir, "runs", len(ids),
			"free", free, "size", size)
	}
}

// withRoom tries again when the disk was full and old output could be removed.
func (s *store) withRoom(write func() error) error {
	err := write()
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		s.makeRoom()
		err = write()
	}
	return err
}
