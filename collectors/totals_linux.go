package collectors

import "time"

// shareTotals adds up the members of a group. A member that was not read yet counts with the mean share of those that
// were, and makes the figure as old as itself.
type shareTotals struct {
	now             time.Time
	sinceBoot       time.Duration
	rss             float64 // of all
	largest, growth float64 // of those read
	age             time.Duration

	read, unread     float64 // resident memory of those read, and of the others
	shares           float64 // PSS now of those read
	files            float64 // PSS of those read that is no anonymous memory
	count, readCount int
	withAnon         int
}

func (t *shareTotals) add(m *member) {
	rss := float64(m.rss)
	t.rss += rss
	t.count++
	if m.reading.at.IsZero() {
		t.unread += rss
		t.age = max(t.age, t.sinceBoot-m.SinceBoot())
		return
	}
	pss := m.reading.estimate(m.rss)
	t.read += rss
	t.shares += pss
	t.readCount++
	t.largest = max(t.largest, pss)
	t.growth += pss - float64(m.reading.first)
	t.age = max(t.age, t.now.Sub(m.reading.at))
	if m.reading.hasAnon {
		t.withAnon++
		t.files += float64(m.reading.pss - min(m.reading.pss, m.reading.anon))
	}
}

// pss is the group's PSS, and whether anything is known of it.
func (t *shareTotals) pss() (float64, bool) {
	if t.readCount == 0 || t.read == 0 {
		return 0, false
	}
	return t.shares + t.unread*t.shares/t.read, true
}

func (t *shareTotals) hasAnon() bool { return t.withAnon > 0 && t.withAnon == t.readCount }

// notAnon is the part of the group's PSS that is pages of files.
func (t *shareTotals) notAnon() float64 {
	return t.files * float64(t.count) / float64(t.readCount)
}
