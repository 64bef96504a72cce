package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
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

// Sizes of records. Ours are below largeRecord; those of an older version have all the arguments, as far as a request
// could: maxBody.
const (
	largeRecord = 64 << 10
	maxRecord   = maxBody + largeRecord
)

var errNewer = errors.New("written by a newer version")

func readRecord(name string) (record, error) {
	f, err := os.Open(name)
	if err != nil {
		return record{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.Size() > maxRecord {
		err = fmt.Errorf("record has %d bytes, at most %d were written", info.Size(), maxRecord)
	}
	if err != nil {
		return record{}, err
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
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
	rec.Run = bounded(rec.Run)
	return rec, nil
}

// bounded is a run as it is kept: what a job's file or a caller says has no more than a few kB of it.
func bounded(run runs.Run) runs.Run {
	run.Args, run.AllArgs = runs.FirstArgs(run.Args, run.AllArgs)
	for _, s := range []*string{&run.Kind, &run.Name, &run.IO, &run.User, &run.Caller.Login, &run.Lock, &run.Version,
		&run.State, &run.Supervisor, &run.StoppedBy} {
		*s = runs.Brief(*s, 255)
	}
	for _, s := range []*string{&run.Dir, &run.Reason} {
		*s = runs.Brief(*s, 1024)
	}
	if len(run.Meta) > 0 {
		run.Meta = maps.Clone(run.Meta)
		for k, v := range run.Meta {
			run.Meta[k] = runs.Brief(v, 255)
		}
	}
	return run
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
