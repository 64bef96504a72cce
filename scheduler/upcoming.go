package scheduler

import (
	"container/heap"
	"iter"
	"time"
)

// An Occurrence is one time at which one job is due.
type Occurrence struct {
	Job  string
	At   time.Time // in the job's own zone, without its splay
	Note string    // why it is not where the file puts it: daylight saving; else ""
}

// Upcoming gives the due times after from, in order of time and then of the file. It ends only
// when nothing is due any more: the caller stops it. Keep chooses the jobs; nil is all.
func (t Table) Upcoming(from time.Time, keep func(Job) bool) iter.Seq[Occurrence] {
	return func(yield func(Occurrence) bool) {
		var due agenda
		for i := range t.Jobs {
			if keep != nil && !keep(t.Jobs[i]) {
				continue
			}
			if at := t.Jobs[i].Schedule.Next(from); !at.IsZero() {
				due = append(due, appointment{at, i})
			}
		}
		heap.Init(&due)
		for len(due) > 0 {
			a := &due[0]
			j := &t.Jobs[a.job]
			if !yield(Occurrence{j.Name, a.at, explain(j.Schedule, a.at)}) {
				return
			}
			if a.at = j.Schedule.Next(a.at); a.at.IsZero() {
				heap.Pop(&due)
			} else {
				heap.Fix(&due, 0)
			}
		}
	}
}

// appointment is when the job of that place in the table is due next.
type appointment struct {
	at  time.Time
	job int
}

// agenda is a heap of appointments, the earliest first.
type agenda []appointment

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	if c := a[i].at.Compare(a[j].at); c != 0 {
		return c < 0
	}
	return a[i].job < a[j].job
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(appointment)) }
func (a *agenda) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

// PerMonth gives how often s is due in a month: a twelfth of the number in the year after
// from. It extrapolates from the first most times.
func PerMonth(s Schedule, from time.Time, most int) int {
	const year = 365 * 24 * time.Hour
	at, end := from, from.Add(year)
	for n := range most {
		next := s.Next(at)
		if next.IsZero() || next.After(end) {
			return (n + 6) / 12
		}
		at = next
	}
	return int(float64(most) * float64(year) / 12 / float64(at.Sub(from)))
}
