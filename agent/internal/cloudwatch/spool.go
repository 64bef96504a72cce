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

// How many bytes of batches are held in memory: while the disk takes none, and while there is nobody to send them to.
const (
	memoryLimit = 512 << 10
	holdLimit   = 128 << 10
)

// spool keeps encoded records until they are delivered: one file each, written beside and renamed, named
//
//	SEQUENCE-TIMESTAMP-DATUMS.new    never sent, or every time refused
//	SEQUENCE-TIMESTAMP-DATUMS.sentN  sent N times without an answer that settles whether it was applied
//
// so that its index needs no file opened, and so that what a dead process was sending is known. The sequence is the
// order of writing, which a stepped clock does not disturb. There is no fsync: files survive the death of the agent,
// and after a power loss the checksum tells what did not reach the disk.
//
// When the disk refuses, records stay in memory up to memoryLimit and move to disk when it takes them again.
// Not safe for concurrent use.
type spool struct {
	dir      string // "": memory only
	limit    int64
	memLimit int64
	next     uint64   // sequence
	fresh    uint64   // sequence at which the present's batches begin
	entries  []*entry // ascending sequence
	disk     int64    // bytes
	mem      int64    // bytes
	diskErr  error    // why the last write went to memory; nil when it did not
	untold   untold   // as the disk has it
}

// entry is one record.
type entry struct {
	seq    uint64
	at     time.Time
	datums int
	size   int64
	unsure int     // sendings that may have been applied, the one under way included
	tried  bool    // by this process
	flying bool    // being sent at this moment
	barred bool    // refused to an earlier configuration: for the next start
	file   string  // its name on disk, which is behind unsure when a rename failed
	memory []byte  // the record itself when it is not on disk
	fresh  *parcel // what is in the record, while it is the present's and not tried: it need not be read back
}

// spoolStats is what Status shows of it.
type spoolStats struct {
	batches, datums int
	bytes           int64
	oldest          time.Time
}

func (e *entry) name() string {
	state := "new"
	if e.unsure > 0 {
		state = fmt.Sprintf("sent%d", e.unsure)
	}
	return fmt.Sprintf("%012d-%d-%d.%s", e.seq, e.at.Unix(), e.datums, state)
}

func parseEntry(name string) (*entry, bool) {
	e := &entry{}
	var at int64
	var state string
	n, err := fmt.Sscanf(name, "%d-%d-%d.%s", &e.seq, &at, &e.datums, &state)
	e.at = time.Unix(at, 0).UTC()
	fmt.Sscanf(state, "sent%d", &e.unsure)
	// What prints back to itself is ours; anything else in the directory is left alone.
	return e, err == nil && n == 4 && e.datums > 0 && e.name() == name
}

// openSpool reads the index of dir, making it when missing. When that fails the spool is still usable, in memory, and
// the error says why.
func openSpool(dir string, limit int64) (*spool, error) {
	s := &spool{dir: dir, limit: limit, memLimit: memoryLimit}
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
		if strings.HasPrefix(f.Name(), ".tmp-") { // of a process that died writing
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
	s.untold = s.loadUntold()
	return s, nil
}

// turn makes what is kept from now on the present.
func (s *spool) turn() {
	s.fresh = s.next
	for _, e := range s.entries {
		e.fresh = nil // an outage must not hold them all in memory
	}
}

// put keeps one record of n datums and returns it, with the entries that had to make room.
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

// hold keeps one record in memory only.
func (s *spool) hold(at time.Time, n int, rec []byte) {
	e := &entry{seq: s.next, at: at, datums: n, size: int64(len(rec)), memory: rec}
	s.next++
	s.entries = append(s.entries, e)
	s.mem += e.size
	s.evict(holdLimit, true)
}

// settle moves records from memory to disk as far as the disk takes them.
func (s *spool) settle() {
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

// evict removes the oldest entries, of memory or of disk, until at most limit bytes are left there.
func (s *spool) evict(limit int64, memory bool) (lost []*entry) {
	for _, e := range slices.Clone(s.entries) {
		if memory && s.mem <= limit || !memory && s.disk <= limit {
			return lost
		}
		if (e.memory != nil) == memory && !e.flying {
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

// writeFile makes the file whole or not at all, as far as a process can die.
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

// load returns e's record.
func (s *spool) load(e *entry) ([]byte, error) {
	if e.memory != nil {
		return e.memory, nil
	}
	if e.size > maxRecord {
		return nil, fmt.Errorf("read spooled metrics: %d bytes are too many", e.size)
	}
	return os.ReadFile(filepath.Join(s.dir, e.file))
}

// mark notes, on disk too, how many sendings of e may have been applied. That the disk refuses the note is not worth
// stopping a delivery for: it costs an uncounted duplicate if this process then dies before the answer.
func (s *spool) mark(e *entry, unsure int) {
	e.unsure = unsure
	if e.memory != nil || e.file == e.name() {
		return
	}
	if err := os.Rename(filepath.Join(s.dir, e.file), filepath.Join(s.dir, e.name())); err == nil {
		e.file = e.name()
	}
}

// remove forgets e. A file that cannot be deleted is not sent again by this process; the next one sends it as unsure.
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

// untoldFile holds what is lost and not yet published, so that a restart does not forget it.
const untoldFile = "untold"

// keepUntold writes u when it has changed. Without a disk it is only known until the process ends.
func (s *spool) keepUntold(u untold) {
	if u == s.untold || s.dir == "" {
		return
	}
	text := fmt.Sprintf("dropped %d duplicates %d\n", u.dropped, u.duplicates)
	if writeFile(s.dir, untoldFile, []byte(text)) == nil {
		s.untold = u
	}
}

// loadUntold reads what an earlier process left. A damaged file counts as none.
func (s *spool) loadUntold() untold {
	var u untold
	b, err := os.ReadFile(filepath.Join(s.dir, untoldFile))
	if err != nil {
		return untold{}
	}
	if n, err := fmt.Sscanf(string(b), "dropped %d duplicates %d\n", &u.dropped, &u.duplicates); n != 2 || err != nil {
		return untold{}
	}
	return u
}

// pick returns what to send next: what is fresh and has not been tried, else the oldest; nil when nothing may be sent.
// Batches from further ahead than CloudWatch accepts wait for the clock, barred ones for the next start.
func (s *spool) pick(now time.Time) *entry {
	ok := func(e *entry) bool { return e.at.Before(now.Add(furthest)) && !e.barred }
	if n := len(s.entries); n > 0 {
		if e := s.entries[n-1]; e.seq >= s.fresh && !e.tried && ok(e) {
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
	st := spoolStats{batches: len(s.entries), bytes: s.disk + s.mem}
	for i, e := range s.entries {
		st.datums += e.datums
		if i == 0 || e.at.Before(st.oldest) {
			st.oldest = e.at
		}
	}
	return st
}
