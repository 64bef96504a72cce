package cloudwatch

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Limits of the batches in memory, in bytes.
const (
	diskErrorLimit  = 512 << 10 // while the disk cannot be written
	memoryOnlyLimit = 128 << 10 // while there is no client
)

// spool keeps encoded records until they are delivered: one file each, written beside and renamed, named
//
//	SEQUENCE-TIMESTAMP-DATUMS.new    never sent, or refused every time
//	SEQUENCE-TIMESTAMP-DATUMS.sentN  sent N times without an answer that says whether it was applied
//
// so that the index needs no file opened and shows what a dead process was sending. The sequence is the order of
// writing, also when the clock is stepped. There is no fsync: files survive the death of the agent, and after a power
// loss the checksum shows what did not reach the disk.
//
// While the disk cannot be written, records stay in memory up to diskErrorLimit, and move to disk later.
// Not safe for concurrent use.
type spool struct {
	dir        string // "": memory only
	limit      int64
	memLimit   int64
	next       uint64     // sequence
	current    uint64     // sequence at which the batches of the current interval begin
	entries    []*entry   // ascending sequence
	disk       int64      // bytes
	mem        int64      // bytes
	diskErr    error      // why the last write went to memory; nil when it did not
	unreported unreported // as on disk
}

// entry is one record.
type entry struct {
	seq       uint64
	at        time.Time
	datums    int
	size      int64
	ambiguous int    // sendings that may have been applied, including the one in flight
	tried     bool   // by this process
	inFlight  bool   // being sent
	denied    bool   // for an earlier configuration's namespace: kept for the next start
	file      string // its name on disk, which lacks the last mark when a rename failed
	memory    []byte // the record itself when it is not on disk
	decoded   *batch // the record's content, while it is current and not tried: it need not be read back
}

// batch is a decoded entry, ready to send.
type batch struct {
	entry     *entry
	namespace string
	at        time.Time
	datums    []Datum
}

// unreported is what was dropped, or may have been sent twice, and is not published yet, by earlier processes too.
type unreported struct{ dropped, duplicates uint64 }

// spoolStats is what Status shows of it.
type spoolStats struct {
	batches, datums int
	bytes           int64
	oldest          time.Time
	diskErr         error // why the last write went to memory
}

func (e *entry) name() string {
	state := "new"
	if e.ambiguous > 0 {
		state = fmt.Sprintf("sent%d", e.ambiguous)
	}
	return fmt.Sprintf("%012d-%d-%d.%s", e.seq, e.at.Unix(), e.datums, state)
}

func parseEntry(name string) (*entry, bool) {
	e := &entry{}
	var at int64
	var state string
	n, err := fmt.Sscanf(name, "%d-%d-%d.%s", &e.seq, &at, &e.datums, &state)
	e.at = time.Unix(at, 0).UTC()
	fmt.Sscanf(state, "sent%d", &e.ambiguous)
	// A name that formats back to itself is ours; other files in the directory are left alone.
	return e, err == nil && n == 4 && e.datums > 0 && e.name() == name
}

// openSpool reads the index of dir and creates dir when missing. On an error the spool still works, in memory.
func openSpool(dir string, limit int64) (*spool, error) {
	s := &spool{dir: dir, limit: limit, memLimit: diskErrorLimit}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		s.dir = ""
		return s, fmt.Errorf("open the metrics spool: %w", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		s.dir = ""
		return s, fmt.Errorf("open the metrics spool: %w", err)
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), ".tmp-") { // of a process that died while writing
			os.Remove(filepath.Join(dir, f.Name()))
			continue
		}
		e, ok := parseEntry(f.Name())
		info, err := f.Info()
		if !ok || err != nil || !info.Mode().IsRegular() {
			continue
		}
		e.size, e.file = info.Size(), f.Name()
		s.disk += e.size
		s.entries = append(s.entries, e)
		s.next = max(s.next, e.seq+1)
	}
	slices.SortFunc(s.entries, func(a, b *entry) int { return cmp.Compare(a.seq, b.seq) })
	s.unreported = s.loadUnreported()
	return s, nil
}

// startInterval makes the batches that are put from now on the current ones, which are sent first.
func (s *spool) startInterval() {
	s.current = s.next
	for _, e := range s.entries {
		e.decoded = nil // an outage must not keep them all in memory
	}
}

// put adds one record of n datums and returns its entry, with the entries removed to make room.
func (s *spool) put(at time.Time, n int, rec []byte) (*entry, []*entry) {
	e := &entry{seq: s.next, at: at, datums: n, size: int64(len(rec))}
	s.next++
	lost := s.evict(s.limit-e.size, false)
	s.entries = append(s.entries, e)
	if s.diskErr = s.write(e, rec); s.diskErr != nil {
		e.memory = rec
		s.mem += e.size
		lost = append(lost, s.evict(s.memLimit, true)...)
	} else {
		s.disk += e.size
	}
	return e, lost
}

// putInMemory adds one record, in memory only.
func (s *spool) putInMemory(at time.Time, n int, rec []byte) {
	e := &entry{seq: s.next, at: at, datums: n, size: int64(len(rec)), memory: rec}
	s.next++
	s.entries = append(s.entries, e)
	s.mem += e.size
	s.evict(memoryOnlyLimit, true)
}

// flush moves records from memory to disk until a write fails.
func (s *spool) flush() {
	for _, e := range slices.Clone(s.entries) {
		if e.memory == nil {
			continue
		}
		if s.diskErr = s.write(e, e.memory); s.diskErr != nil {
			return
		}
		e.memory = nil
		s.mem -= e.size
		s.disk += e.size
	}
}

// evict removes the oldest entries in memory, or on disk, until at most limit bytes are left there.
func (s *spool) evict(limit int64, memory bool) (lost []*entry) {
	for _, e := range slices.Clone(s.entries) {
		if memory && s.mem <= limit || !memory && s.disk <= limit {
			return lost
		}
		if (e.memory != nil) == memory && !e.inFlight {
			s.remove(e)
			lost = append(lost, e)
		}
	}
	return lost
}

func (s *spool) write(e *entry, rec []byte) error {
	if s.dir == "" {
		return errors.New("the spool's directory cannot be used")
	}
	if e.size > s.limit {
		return errors.New("the record is larger than the spool")
	}
	e.file = e.name()
	return writeFile(s.dir, e.file, rec)
}

// writeFile writes the whole file or none of it, also when the process dies.
func writeFile(dir, name string, b []byte) error {
	tmp := filepath.Join(dir, ".tmp-"+name)
	err := os.WriteFile(tmp, b, 0o600)
	if err == nil {
		err = os.Rename(tmp, filepath.Join(dir, name))
	}
	if err != nil {
		os.Remove(tmp)
		return fmt.Errorf("write to the metrics spool: %w", err)
	}
	return nil
}

// decode reads e's record.
func (s *spool) decode(e *entry) (*batch, error) {
	rec, err := s.load(e)
	if err != nil {
		return nil, err
	}
	namespace, at, ds, err := decodeRecord(rec)
	return &batch{e, namespace, at, ds}, err
}

func (s *spool) load(e *entry) ([]byte, error) {
	if e.memory != nil {
		return e.memory, nil
	}
	if e.size > maxRecord {
		return nil, fmt.Errorf("read spooled metrics: %d bytes are too many", e.size)
	}
	return os.ReadFile(filepath.Join(s.dir, e.file))
}

// mark records, on disk too, how many sendings of e may have been applied. A failed rename does not stop the delivery:
// it costs an uncounted duplicate if this process then dies before the answer.
func (s *spool) mark(e *entry, ambiguous int) {
	e.ambiguous = ambiguous
	if e.memory != nil || e.file == e.name() {
		return
	}
	if err := os.Rename(filepath.Join(s.dir, e.file), filepath.Join(s.dir, e.name())); err == nil {
		e.file = e.name()
	}
}

// remove deletes e. A file that cannot be deleted is not sent again by this process; the next one sends it as marked.
func (s *spool) remove(e *entry) {
	i := slices.Index(s.entries, e)
	if i < 0 {
		return
	}
	s.entries = slices.Delete(s.entries, i, i+1)
	if e.memory != nil {
		s.mem -= e.size
		return
	}
	s.disk -= e.size
	os.Remove(filepath.Join(s.dir, e.file))
}

// unreportedFile keeps the unreported counts across restarts.
const unreportedFile = "untold"

// saveUnreported writes u when it has changed. Without a disk it is lost when the process ends.
func (s *spool) saveUnreported(u unreported) {
	if u == s.unreported || s.dir == "" {
		return
	}
	text := fmt.Sprintf("dropped %d duplicates %d\n", u.dropped, u.duplicates)
	if writeFile(s.dir, unreportedFile, []byte(text)) == nil {
		s.unreported = u
	}
}

// loadUnreported reads the counts of earlier processes. A damaged file counts as none.
func (s *spool) loadUnreported() unreported {
	var u unreported
	b, err := os.ReadFile(filepath.Join(s.dir, unreportedFile))
	if err != nil {
		return unreported{}
	}
	if n, err := fmt.Sscanf(string(b), "dropped %d duplicates %d\n", &u.dropped, &u.duplicates); n != 2 || err != nil {
		return unreported{}
	}
	return u
}

// pick returns what to send next: a current batch that was not tried, else the oldest; nil when nothing may be sent.
// Batches from further ahead than CloudWatch accepts wait for the clock, denied ones for the next start.
func (s *spool) pick(now time.Time) *entry {
	ok := func(e *entry) bool { return e.at.Before(now.Add(furthest)) && !e.denied }
	if n := len(s.entries); n > 0 {
		if e := s.entries[n-1]; e.seq >= s.current && !e.tried && ok(e) {
			return e
		}
	}
	for _, e := range s.entries {
		if ok(e) {
			return e
		}
	}
	return nil
}

func (s *spool) stats() spoolStats {
	st := spoolStats{batches: len(s.entries), bytes: s.disk + s.mem, diskErr: s.diskErr}
	for i, e := range s.entries {
		st.datums += e.datums
		if i == 0 || e.at.Before(st.oldest) {
			st.oldest = e.at
		}
	}
	return st
}
