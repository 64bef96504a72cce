package scheduler

import (
	"container/heap"
	"context"
	"hash/fnv"
	"time"
)

// An entry is what the Scheduler knows of one job. It is small: a host may have ten
// thousand, of which few ever run at a time. Times are Unix seconds, slots are whole ones.
type entry struct {
	job *Job
	off string // why it does not run here
	act *activity

	next    int64 // the slot that comes next; never when none does
	settled int64 // every slot up to here was started, skipped, or told as missed
	paused  int64 // since when; 0 when it is not
	splay   int64 // nanoseconds that a start comes after its slot

	wake  int64 // when the loop must look at it, Unix nanoseconds
	place int   // in the heap; -1 when not in it
	pos   int   // in the table: of those due at one time, the first comes first
	gone  bool  // not in the table any more, but a run still goes on
	maybe bool  // off while it is not known whether it runs here
}

const never = int64(1) << 62

// activity is what only a job that had something to do needs.
type activity struct {
	running []*run

	waiting      *Firing // a start that cannot be yet
	waitingSince time.Time
	waitingFor   string

	retry   *Firing // the attempt to come
	retryAt time.Time

	last         Result
	counts       Counts
	overlapSince time.Time // the first slot skipped since a run last started on its slot
	overdueTold  bool      // about what runs or waits at present
}

// A run is one that goes on.
type run struct {
	firing  Firing
	started time.Time
	owed    int64 // until the run is recorded: up to where slots were settled before it; then never
	cancel  context.CancelCauseFunc
	done    chan error // gets its end; has room for it
}

func (e *entry) active() *activity {
	if e.act == nil {
		e.act = &activity{}
	}
	return e.act
}

// idle reports whether nothing of the job runs.
func (e *entry) idle() bool { return e.act == nil || len(e.act.running) == 0 }

// spec is what tells whether a slot of an earlier life, or of an earlier table, is one of
// the schedule as it is now.
func (j *Job) scheduleKey() string {
	if j.Seconds {
		return "seconds " + j.Expr + " " + j.Location.String()
	}
	return j.Expr + " " + j.Location.String()
}

// splayFor spreads the starts of a fleet and of a host's jobs: always the same for one
// host and job, so that two runs of it stay a period apart.
func splayFor(host string, j *Job) int64 {
	if j.Splay <= 0 {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(host + "\x00" + j.Name))
	return int64(h.Sum64() % uint64(j.Splay))
}

// arm tells the heap when to look at the entry next.
func (s *Scheduler) arm(e *entry) {
	e.wake = never
	if e.off == "" && e.paused == 0 && !e.gone && e.next < never {
		e.wake = e.next*int64(time.Second) + e.splay
	}
	if e.act != nil && e.act.retry != nil {
		e.wake = min(e.wake, e.act.retryAt.UnixNano())
	}
	switch {
	case e.wake == never && e.place >= 0:
		heap.Remove(&s.due, e.place)
	case e.wake == never:
	case e.place < 0:
		heap.Push(&s.due, e)
	default:
		heap.Fix(&s.due, e.place)
	}
}

// after sets the next slot to the first after t.
func (e *entry) after(t time.Time) { e.setNext(e.job.Schedule.Next(t)) }

// setNext sets the next slot; the zero time is none.
func (e *entry) setNext(t time.Time) {
	e.next = never
	if !t.IsZero() {
		e.next = t.Unix()
	}
}

// queue is a heap of entries, the one to look at first on top.
type queue []*entry

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].wake < q[j].wake || q[i].wake == q[j].wake && q[i].pos < q[j].pos
}
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}
func (q *queue) Push(x any) {
	e := x.(*entry)
	e.place = len(*q)
	*q = append(*q, e)
}
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	e.place = -1
	return e
}
