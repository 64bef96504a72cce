package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/runs"
)

// recordVersion is that of the files. A reader refuses a newer one, since it would read it wrongly, and
// leaves it alone.
const recordVersion = 1

// record is a file: meta.json while a run is live, status.json once it has ended.
type record struct {
	Version int      `json:"version"`
	Run     runs.Run `json:"run"`

	Begun uint64 `json:"begun,omitzero"` // the process's start, clock ticks since boot
	Boot  string `json:"boot,omitzero"`  // which boot that was
}

var errNewer = errors.New("written by a newer version")

func readRecord(name string) (record, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return record{}, err
	}
	return parseRecord(b)
}

func parseRecord(b []byte) (record, error) {
	var rec record
	if err := json.Unmarshal(b, &rec); err != nil {
		return record{}, fmt.Errorf("parse record: %w", err)
	}
	if rec.Version > recordVersion {
		return record{}, fmt.Errorf("parse record of version %d: %w", rec.Version, errNewer)
	}
	if rec.Version < 1 {
		return record{}, errors.New("parse record: no version")
	}
	return rec, nil
}

// writeRecord makes one of a run's files. Readers ask us while we run; a torn file found after a crash counts
// as absent. A written file survives our own death. Only sync survives a power cut, too, and costs a disk's
// round trip: a cron job's history is synced, a command typed at a prompt is not. The first fsync of a new
// file writes its name, too, and the directories made just before: ext4 and XFS have them in the same or an
// earlier transaction (TestRecordSurvivesPowerCut).
func writeRecord(name string, rec record, sync bool) error {
	rec.Version = recordVersion
	b, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return fmt.Errorf("record run: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil && sync {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("record run: %w", err)
	}
	return nil
}
