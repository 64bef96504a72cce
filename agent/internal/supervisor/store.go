package supervisor

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/runs"
)

// Keep bounds what is kept of runs that have ended. The oldest go first; a run that is live is never
// touched. Zero fields take the default.
type Keep struct {
	Count   int           // runs in all; default 2000
	PerName int           // runs of one job or program, so that a minutely job cannot push out a nightly one; default 100
	Age     time.Duration // default 30 days
	Bytes   int64         // of spools in all; default 512 MiB
}

func (k Keep) withDefaults() Keep {
	k.Count = cmp.Or(k.Count, 2000)
	k.PerName = cmp.Or(k.PerName, 100)
	k.Age = cmp.Or(k.Age, 30*24*time.Hour)
	k.Bytes = cmp.Or(k.Bytes, 512<<20)
	return k
}

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

// store is the runs on disk. In memory it keeps of an ended run only what retention needs: some hundred
// bytes for each of thousands.
type store struct {
	dir  string
	keep Keep
	log  *slog.Logger
	boot string // names this boot: a start time in clock ticks means nothing without it

	mu      sync.Mutex
	seq     uint64
	pending map[uint64]bool // numbers given to what cannot be seen yet
	ended   map[string]entry
	pruned  time.Time
	unsaved map[string]runs.Run // ended, and the disk would not take the status; tried again with each that follows
}

type entry struct {
	seq   uint64
	start uint64
	at    time.Time
	name  string
	kind  string
	bytes int64
}

// seqGap is more than the numbers that one supervisor gives to runs that leave no record: a power cut takes
// those of the last seconds, and a full disk those of the commands that people type.
const seqGap = 1 << 20

// openStore reads what there is. Runs without a status were live when their supervisor died: each is
// recorded as lost. With sessions there are no control groups, so nobody has ended what those, and runs that
// had just ended, left behind.
func openStore(dir string, keep Keep, sessions bool, log *slog.Logger) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	s := &store{dir: dir, keep: keep.withDefaults(), log: log, boot: bootID(), ended: make(map[string]entry), pending: make(map[uint64]bool), unsaved: make(map[string]runs.Run)}
	var orphans []record
	for _, e := range entries {
		if !e.IsDir() || !validID(e.Name()) {
			continue
		}
		rec, err := s.read(e.Name())
		if err != nil {
			log.Warn("unreadable record", "run", e.Name(), "err", err)
			if errors.Is(err, errNewer) {
				continue
			}
		}
		s.seq = max(s.seq, rec.Run.StartSeq, rec.Run.EndSeq)
		if rec.Run.EndSeq > 0 {
			s.note(rec.Run)
			if sessions {
				s.cleanAfter(e.Name())
			}
		} else {
			orphans = append(orphans, rec)
		}
	}
	if s.seq > 0 { // an agent may have heard of runs whose record is gone: their numbers must not come again
		s.seq += seqGap
	}
	for _, rec := range orphans {
		s.lose(rec)
	}
	s.prune(time.Now())
	return s, nil
}

// lose records a run whose end nobody saw.
func (s *store) lose(rec record) {
	s.endLeftovers(rec)
	run := rec.Run
	run.State, run.ExitCode, run.Ended = runs.StateLost, 125, time.Now()
	if info, err := os.Stat(s.path(run.ID, "output")); err == nil {
		run.OutputBytes = info.Size()
	}
	if err := s.finish(&run); err != nil {
		s.log.Error("cannot record a lost run", "run", run.ID, "err", err)
	}
	s.settle(run.EndSeq)
	s.log.Warn("run lost: its supervisor died", "run", run.ID, "job", run.Name)
}

func (s *store) path(id, file string) string { return filepath.Join(s.dir, id, file) }

var errNewer = errors.New("written by a newer version")

// read returns what is known of a run: its status, else its meta file. When neither can be read, the run
// is the id and nothing more, with the error.
func (s *store) read(id string) (record, error) {
	s.mu.Lock()
	run, unsaved := s.unsaved[id]
	s.mu.Unlock()
	if unsaved {
		s.addScreen(&run)
		return record{Run: run}, nil
	}
	rec, err := readRecord(s.path(id, "status.json"))
	if err != nil && !errors.Is(err, errNewer) { // absent, or torn
		rec, err = readRecord(s.path(id, "meta.json"))
	}
	if err == nil && rec.Run.ID != id {
		err = fmt.Errorf("record of run %q", rec.Run.ID)
	}
	if err != nil {
		return record{Run: runs.Run{ID: id, Kind: "exec", Name: "unknown", State: runs.StateLost}}, err
	}
	s.addScreen(&rec.Run)
	return rec, nil
}

// addScreen fills in what a run's terminal showed last: it is kept after the status was written, if at all.
func (s *store) addScreen(run *runs.Run) {
	if run.IO != runs.IOTerminal || run.EndSeq == 0 {
		return
	}
	name := s.path(run.ID, "output")
	if info, err := os.Stat(name); err == nil {
		run.Output, run.OutputBytes = name, info.Size()
	}
}

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

// create makes a run's directory and its meta file, before anything is started, and gives it a number.
func (s *store) create(run *runs.Run) error {
	run.StartSeq = s.number()
	if err := os.Mkdir(filepath.Join(s.dir, run.ID), 0o700); err != nil {
		return fmt.Errorf("record run: %w", err)
	}
	return s.write(run.ID, "meta.json", record{Run: *run}, run.Kind == "cron")
}

// begun replaces the meta file by one that names the process that was started. By rename, since whoever
// ends that process one day must not find half a file.
func (s *store) begun(run runs.Run, begun uint64) error {
	rec := record{Run: run, Begun: begun, Boot: s.boot}
	if err := s.write(run.ID, "meta.json.new", rec, false); err != nil {
		return err
	}
	return os.Rename(s.path(run.ID, "meta.json.new"), s.path(run.ID, "meta.json"))
}

// finish gives the end a number and writes the status.
func (s *store) finish(run *runs.Run) error {
	run.EndSeq = s.number()
	s.note(*run)
	err := s.write(run.ID, "status.json", record{Run: *run}, run.Kind == "cron")
	s.retry(*run, err)
	return err
}

// retry keeps a status that could not be written, and writes earlier ones when this one could.
func (s *store) retry(run runs.Run, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.unsaved[run.ID] = run
		return
	}
	for id, run := range s.unsaved {
		if os.MkdirAll(filepath.Join(s.dir, id), 0o700) == nil && s.write(id, "status.json", record{Run: run}, false) == nil {
			delete(s.unsaved, id)
		}
	}
}

// blocks is what a spool takes of the disk; with a hole in it, less than its size.
func (s *store) blocks(id string) int64 {
	var st unix.Stat_t
	if unix.Stat(s.path(id, "output"), &st) != nil {
		return 0
	}
	return st.Blocks * 512
}

// number gives out the next number. Until settle, no event above it is told: one that was would make its
// reader skip this one.
func (s *store) number() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	s.pending[s.seq] = true
	return s.seq
}

func (s *store) settle(seq uint64) {
	s.mu.Lock()
	delete(s.pending, seq)
	s.mu.Unlock()
}

// settled is the number up to which everything can be seen.
func (s *store) settled() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.seq
	for seq := range s.pending {
		last = min(last, seq-1)
	}
	return last
}

func (s *store) note(run runs.Run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := run.OutputBytes
	if run.Truncated || run.IO == runs.IOTerminal {
		kept = s.blocks(run.ID)
	}
	s.ended[run.ID] = entry{seq: run.EndSeq, start: run.StartSeq, at: run.Ended, name: run.Name, kind: run.Kind, bytes: kept}
}

// write makes one of a run's files, which nobody reads before it is whole: while we live the run is asked
// for, and what we left torn counts as not written, see read. What was written survives our own death; only
// sync survives a power cut, too, and costs a disk's round trip, so a person at a prompt does not wait for
// it and a cron job's history does. The first fsync of a new file writes its name, too, and the directories
// made just before: ext4 and XFS have them in the same or an earlier transaction (TestRecordSurvivesPowerCut).
func (s *store) write(id, file string, rec record, sync bool) error {
	rec.Version = recordVersion
	b, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(s.path(id, file), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NONBLOCK, 0o600)
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

// remove forgets a run that never began, or that is too old.
func (s *store) remove(id string) {
	s.mu.Lock()
	delete(s.ended, id)
	delete(s.unsaved, id)
	s.mu.Unlock()
	if err := os.RemoveAll(filepath.Join(s.dir, id)); err != nil {
		s.log.Warn("cannot remove a run's files", "run", id, "err", err)
	}
}

// list returns the ids of ended runs for which want is true, newest first.
func (s *store) list(want func(id string, e entry) bool) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id, e := range s.ended {
		if want(id, e) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b string) int { return cmp.Compare(s.ended[b].start, s.ended[a].start) })
	return ids
}

func (s *store) lastSeq() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seq
}

// tidy prunes once a minute, and when there is a good deal too much: not after every run, or each would
// pay for the whole history.
func (s *store) tidy(now time.Time) {
	s.mu.Lock()
	due := now.Sub(s.pruned) >= time.Minute || len(s.ended) > s.keep.Count+s.keep.Count/16
	if due {
		s.pruned = now
	}
	s.mu.Unlock()
	if due {
		s.prune(now)
	}
}

// prune removes what Keep does not allow to stay.
func (s *store) prune(now time.Time) {
	for _, id := range s.excess(now) {
		s.remove(id)
	}
}

// excess goes by the order in which runs ended: one that took hours has not been told yet when many have
// started since, and neither has one of which only the id is left.
func (s *store) excess(now time.Time) (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var count int
	var bytes int64
	names := make(map[string]int)
	for _, id := range slices.SortedFunc(maps.Keys(s.ended), func(a, b string) int { return cmp.Compare(s.ended[b].seq, s.ended[a].seq) }) {
		e := s.ended[id]
		key := e.kind + "\x00" + e.name
		count++
		bytes += e.bytes
		names[key]++
		if count > s.keep.Count || names[key] > s.keep.PerName || bytes > s.keep.Bytes && count > 1 || now.Sub(e.at) > s.keep.Age {
			ids = append(ids, id)
		}
	}
	return ids
}

// bootID is empty where the system does not tell.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// has reports whether an ended run of this id is known.
func (s *store) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.ended[id]
	return ok
}
