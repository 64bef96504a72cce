package supervisor

import (
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"beanstalk-agent/agent/internal/runs"
)

// onDisk is a run's directory, as it is found at the start.
type onDisk struct {
	id    string
	ended time.Time // zero without a status
	size  int64     // of the status
}

// Beyond these, what is found at the start is removed unread. We never leave so much; an older version did, which kept
// all the arguments of each run, and so may a disk that let nothing be removed.
const (
	foundMost  = 2        // times Keep.Count
	foundLarge = 32 << 20 // bytes of records above largeRecord
)

// scan returns the runs on disk, those that have ended newest first.
func (s *store) scan() ([]onDisk, error) {
	found, err := s.readDir()
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b onDisk) int { return b.ended.Compare(a.ended) })
	kept, room, large := found[:0], foundMost*s.keep.Count, int64(foundLarge)
	for _, f := range found {
		if !f.ended.IsZero() {
			room--
			if f.size > largeRecord {
				large -= f.size
			}
			if room < 0 || large < 0 && f.size > largeRecord {
				s.remove(f.id)
				continue
			}
		}
		kept = append(kept, f)
	}
	if n := len(found) - len(kept); n > 0 {
		s.log.Warn("old runs are removed unread: they are too many, or their records too large", "count", n)
	}
	return kept, nil
}

func (s *store) readDir() (found []onDisk, err error) {
	dir, err := os.Open(s.dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	for {
		entries, err := dir.ReadDir(1000)
		for _, e := range entries {
			if !e.IsDir() || !validID(e.Name()) {
				continue
			}
			f := onDisk{id: e.Name()}
			if info, err := os.Lstat(s.path(f.id, "status.json")); err == nil {
				f.ended, f.size = info.ModTime(), info.Size()
			}
			found = append(found, f)
		}
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// shrink replaces a large record of an older version. When it ended stays what its time says, for scan.
func (s *store) shrink(run runs.Run) {
	s.amend(run)
	s.cleaned(run.ID) // the other file with all the arguments
	_ = os.Chtimes(s.path(run.ID, "status.json"), run.Ended, run.Ended)
}
