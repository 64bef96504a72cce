package supervisor

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/runs"
)

// store is the runs on disk. In memory it keeps of an ended run only what retention needs: some hundred
// bytes for each of thousands.
type store struct {
	dir  string
	keep Keep
	log  *slog.Logger
	boot string // names this boot: a start time in clock ticks means nothing without it

	saving sync.Mutex // held while what is unsaved is written, or a run removed; taken before mu

	mu      sync.Mutex // never held while the disk is asked
	seq     uint64
	pending map[uint64]bool // numbers given to what cannot be seen yet
	ended   map[string]entry
	bytes   int64 // of the disk, of all that have ended
	pruned  time.Time
	left    int                 // runs, by the last prune
	unsaved map[string]runs.Run // ended, and the disk did not take the status; tried again after each that follows

	toldRoom atomic.Bool // that output is removed since the disk is nearly full
}

// seqGap is more than the numbers that one supervisor gives to runs that leave no record: a power cut takes
// those of the last seconds, and a full disk those of commands typed at a prompt.
const seqGap = 1 << 20

// openStore reads what there is. Runs without a status were live when their supervisor died: each is
// recorded as lost. With sessions, in place of control groups, it ends the processes that such runs, and runs
// that had just ended, left behind.
func openStore(dir string, keep Keep, sessions bool, log *slog.Logger) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	s := &store{
		dir: dir, keep: keep.withDefaults(), log: log, boot: bootID(),
		ended: make(map[string]entry), pending: make(map[uint64]bool), unsaved: make(map[string]runs.Run),
	}
	found, err := s.scan()
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	var orphans []record
	for _, f := range found {
		rec, err := s.read(f.id)
		if err != nil {
			log.Warn("unreadable record", "run", f.id, "err", err)
			if errors.Is(err, errNewer) {
				continue
			}
		}
		s.seq = max(s.seq, rec.Run.StartSeq, rec.Run.EndSeq)
		if rec.Run.EndSeq == 0 {
			orphans = append(orphans, rec)
			continue
		}
		if sessions {
			s.cleanAfter(f.id)
		}
		if f.size > largeRecord {
			s.shrink(rec.Run)
		}
		s.note(rec.Run)
	}
	if s.seq > 0 { // an agent may have heard of runs whose record is gone: their numbers must not come again
		s.seq += seqGap
	}
	for _, rec := range orphans {
		s.lose(rec)
	}
	s.tidy(time.Now())
	return s, nil
}

// lose records a run whose supervisor died before it ended.
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
	s.acknowledge(run.EndSeq)
	s.log.Warn("run lost: its supervisor died", "run", run.ID, "job", run.Name)
}

func (s *store) path(id, file string) string { return filepath.Join(s.dir, id, file) }

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

// addScreen fills in the last screen of a run's terminal, which is saved after the status, if at all.
func (s *store) addScreen(run *runs.Run) {
	if run.IO != runs.IOTerminal || run.EndSeq == 0 {
		return
	}
	name := s.path(run.ID, "output")
	if info, err := os.Stat(name); err == nil {
		run.Output, run.OutputBytes = name, info.Size()
	}
}

// create makes a run's directory and its meta file, before anything is started, and gives it a number.
func (s *store) create(run *runs.Run) error {
	run.StartSeq = s.number()
	if err := s.withRoom(func() error { return os.Mkdir(filepath.Join(s.dir, run.ID), 0o700) }); err != nil {
		return fmt.Errorf("record run: %w", err)
	}
	return s.withRoom(func() error {
		return writeRecord(s.path(run.ID, "meta.json"), record{Run: *run}, run.Kind == "cron")
	})
}

// begun replaces the meta file by one that names the process that was started. By rename: the next supervisor
// may need it to end that process, and must not find half a file.
func (s *store) begun(run runs.Run, begun uint64) error {
	rec := record{Run: run, Begun: begun, Boot: s.boot}
	if err := writeRecord(s.path(run.ID, "meta.json.new"), rec, false); err != nil {
		return err
	}
	return os.Rename(s.path(run.ID, "meta.json.new"), s.path(run.ID, "meta.json"))
}

// finish gives the end a number and writes the status.
func (s *store) finish(run *runs.Run) error {
	run.EndSeq = s.number()
	s.note(*run)
	err := s.withRoom(func() error {
		return writeRecord(s.path(run.ID, "status.json"), record{Run: *run}, run.Kind == "cron")
	})
	s.retry(*run, err)
	s.measure(run.ID)
	return err
}

// amend replaces the status of a run that has ended by a better one. Where the disk refuses that the old one stays.
func (s *store) amend(run runs.Run) {
	s.mu.Lock()
	_, unsaved := s.unsaved[run.ID]
	if unsaved {
		s.unsaved[run.ID] = run
	}
	s.mu.Unlock()
	name := s.path(run.ID, "status.json")
	if !unsaved && writeRecord(name+".new", record{Run: run}, false) == nil {
		os.Rename(name+".new", name)
	}
}

// retry keeps a status that could not be written, and writes earlier ones when this one could.
func (s *store) retry(run runs.Run, err error) {
	s.mu.Lock()
	if err != nil {
		s.unsaved[run.ID] = run
	}
	s.mu.Unlock()
	if err != nil || !s.saving.TryLock() {
		return
	}
	defer s.saving.Unlock()
	s.mu.Lock()
	unsaved := maps.Clone(s.unsaved)
	s.mu.Unlock()
	for id, run := range unsaved { // none is removed meanwhile: that takes saving
		if os.MkdirAll(filepath.Join(s.dir, id), 0o700) != nil ||
			writeRecord(s.path(id, "status.json"), record{Run: run}, false) != nil {
			continue
		}
		s.mu.Lock()
		delete(s.unsaved, id)
		s.mu.Unlock()
	}
}

// number gives out the next number. Until it is acknowledged no event above it is sent: a reader that got one
// would skip this one.
func (s *store) number() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	s.pending[s.seq] = true
	return s.seq
}

func (s *store) acknowledge(seq uint64) {
	s.mu.Lock()
	delete(s.pending, seq)
	s.mu.Unlock()
}

// acknowledged is the number up to which everything can be seen.
func (s *store) acknowledged() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.seq
	for seq := range s.pending {
		last = min(last, seq-1)
	}
	return last
}

func (s *store) note(run runs.Run) {
	bytes, output := s.diskUsage(run.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes += bytes - s.ended[run.ID].bytes
	s.ended[run.ID] = entry{
		series: seriesOf(run), seq: run.EndSeq, start: run.StartSeq, at: run.Ended, bytes: bytes, output: output,
	}
}

// measure notes what a run takes of the disk by now, unless it was removed.
func (s *store) measure(id string) {
	bytes, output := s.diskUsage(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.ended[id]; ok {
		s.bytes += bytes - e.bytes
		e.bytes, e.output = bytes, output
		s.ended[id] = e
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

// has reports whether an ended run of this id is known.
func (s *store) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.ended[id]
	return ok
}

// remove forgets a run that never began, or that is too old.
func (s *store) remove(id string) {
	s.saving.Lock()
	defer s.saving.Unlock()
	s.mu.Lock()
	s.bytes -= s.ended[id].bytes
	delete(s.ended, id)
	delete(s.unsaved, id)
	s.mu.Unlock()
	if err := os.RemoveAll(filepath.Join(s.dir, id)); err != nil {
		s.log.Warn("cannot remove a run's files", "run", id, "err", err)
	}
}

// saveScreen saves the last screen of a terminal when no client has seen it.
func (s *store) saveScreen(id string, text []byte) {
	if err := os.WriteFile(s.path(id, "output"), text, 0o600); err != nil {
		s.log.Warn("cannot save a terminal's last screen", "run", id, "err", err)
	}
	s.measure(id)
}

// endLeftovers ends the processes of a run whose supervisor died, where no control group did.
func (s *store) endLeftovers(rec record) {
	if rec.Run.PID <= 1 || rec.Begun == 0 || rec.Boot == "" || rec.Boot != s.boot {
		return
	}
	if err := command.EndSession(rec.Run.PID, rec.Begun); err != nil {
		s.log.Error("cannot end what a lost run left", "run", rec.Run.ID, "err", err)
	}
}

// cleanAfter ends what a run left behind whose supervisor died between its end and cleaned.
func (s *store) cleanAfter(id string) {
	if rec, err := readRecord(s.path(id, "meta.json")); err == nil {
		s.endLeftovers(rec)
		s.cleaned(id)
	}
}

// cleaned notes that no process is left of a run that has ended. Its status is all that is needed of it.
func (s *store) cleaned(id string) { os.Remove(s.path(id, "meta.json")) }

// diskUsage is what a run's files take of the disk, and its output alone: not their sizes, which holes and blocks
// allocated ahead belie.
func (s *store) diskUsage(id string) (all, output int64) {
	for _, file := range []string{"", "meta.json", "status.json", "output"} {
		var st unix.Stat_t // zero where there is none
		_ = unix.Lstat(s.path(id, file), &st)
		output = st.Blocks * 512
		all += output
	}
	return all, output
}

// bootID is empty where the system has none.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
