package cron

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"

	"beanstalk-agent/scheduler"
)

// store keeps on disk what the scheduler must remember over restarts: which slots are done and which jobs are paused.
// Save is for one goroutine.
type store struct {
	path string
	kept map[string]scheduler.SavedJob
}

type storeFile struct {
	Version int                           `json:"version"`
	Jobs    map[string]scheduler.SavedJob `json:"jobs"`
}

// openStore reads the file at path; a missing one is an empty store. With an error the store is empty and usable: a
// scheduler that forgot where it was begins now, which is better than one that does not run.
func openStore(path string) (*store, error) {
	s := &store{path: path, kept: map[string]scheduler.SavedJob{}}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	f := storeFile{}
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err == nil && f.Version != 1 {
		err = fmt.Errorf("version %d is not known", f.Version)
	}
	if err != nil {
		return s, fmt.Errorf("read what the scheduler remembers, it begins now: %w", err)
	}
	maps.Copy(s.kept, f.Jobs)
	return s, nil
}

// Kept returns a copy of what is remembered.
func (s *store) Kept() map[string]scheduler.SavedJob { return maps.Clone(s.kept) }

// Save merges what changed and writes all of it durably; a zero SavedJob is forgotten.
func (s *store) Save(changed map[string]scheduler.SavedJob) error {
	for name, k := range changed {
		if k == (scheduler.SavedJob{}) {
			delete(s.kept, name)
		} else {
			s.kept[name] = k
		}
	}
	b, err := json.Marshal(storeFile{1, s.kept})
	if err != nil {
		return err
	}
	return replaceFile(s.path, b)
}

// replaceFile writes a new file beside the old one, syncs it and renames it, so that power loss leaves either, whole.
func replaceFile(path string, b []byte) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
