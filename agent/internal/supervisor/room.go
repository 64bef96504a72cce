package supervisor

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// tidy prunes once a minute, and when there are as many more as are kept: not after every run, or each would pay for
// the whole history, and whoever began one of many would not hear of its end. Bytes do not wait.
func (s *store) tidy(now time.Time) {
	s.mu.Lock()
	due := now.Sub(s.pruned) >= time.Minute || len(s.ended) > s.left+s.keep.Count
	s.mu.Unlock()
	if due {
		s.prune(now)
	}
	s.trim()
	s.makeRoom()
}

// prune removes the runs beyond the limits.
func (s *store) prune(now time.Time) {
	s.mu.Lock()
	s.pruned = now
	ids := s.keep.excess(now, s.ended)
	s.left = len(s.ended) - len(ids)
	s.mu.Unlock()
	for _, id := range ids {
		s.remove(id)
	}
}

// trim removes output beyond the bytes that are kept, and some more, so that the next has room.
func (s *store) trim() {
	var ids []string
	s.mu.Lock()
	if over := s.bytes - s.keep.Bytes; over > 0 {
		ids = oldOutput(s.ended, over+s.keep.Bytes/16, 1)
	}
	s.mu.Unlock()
	s.removeOutput(ids)
}

// makeRoom removes output while the disk is nearly full, by whomever. Records are small: they say what ran, so they
// stay, and so does the newest output, or who fills the disk could erase what he printed.
func (s *store) makeRoom() {
	size, free := diskSpace(s.dir)
	need, stays := min(size/roomFree, roomMost)-free, min(size/roomOutput, roomMost)
	if need <= 0 {
		return
	}
	s.mu.Lock()
	ids := oldOutput(s.ended, need, stays)
	s.mu.Unlock()
	s.removeOutput(ids)
	if len(ids) > 0 && !s.toldRoom.Swap(true) {
		s.log.Warn("the disk is nearly full: old output is removed, records stay", "dir", s.dir, "runs", len(ids),
			"free", free, "size", size)
	}
}

func (s *store) removeOutput(ids []string) {
	for _, id := range ids {
		s.saving.Lock()
		err := os.Remove(s.path(id, "output"))
		s.saving.Unlock()
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // another's end may have asked for it, too
			s.log.Warn("cannot remove a run's output", "run", id, "err", err)
		}
		s.measure(id)
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
