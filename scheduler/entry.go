package scheduler

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"reflect"
	"time"
)

// An entry is the Scheduler's state of one job. It is small: a host may have ten thousand,
// of which few ever run at a time. Times are Unix seconds, slots are whole ones.
type entry struct {
	job *Job
	off string // why it does not run on this host
	act *activity

	next      int64 // the next slot; never when there is none
	doneUntil int64 // every slot up to here was started, skipped, or reported as missed
	paused    int64 // since when; 0 when it is not
	splay     int64 // nanoseconds that a start comes after its slot

	wake       int64 // when the loop must handle it, Unix nanoseconds
	heapIndex  int   // -1 when not in the heap
	tableIndex int   // of those due at one time, the first in the table comes first
	removed    bool  // from the table, but a run still goes on
	offForNow  bool  // off while a condition is not known
}

const never = int64(1) << 62

// activity is the state that only a job needs which had a run or a missed slot.
type activity struct {
	running []*run

	waiting      *Firing // a start that waits
	waitingSince time.Time
	waitingFor   string

	retry   *Firing // the next attempt
	retryAt time.Time

	last            Result
	counts          Counts
	overlapSince    time.Time // the first slot skipped since a run last started on its slot
	overdueReported bool      // for the present run or waiting start
}

// A run is one in progress.
type run struct {
	firing   Firing
	started  time.Time // of the start, and once it has begun, of the run
	waits    string    // what it waits for; "" when it has begun
	parked   bool      // it waits for another host
	overlaps time.Time // overlapSince before this start
	owedFrom int64     // doneUntil before this run, until the run is recorded; then never
	cancel   context.CancelCauseFunc
	askAgain context.CancelFunc // has the start ask whether it may; nil before it has
}

func (e *entry) active() *activity {
	if e.act == nil {
		e.act = &activity{}
	}
	return e.act
}

// count counts the end of a run.
func (a *activity) count(r *run, err, cause error) {
	switch {
	case errors.Is(err, ErrElsewhere):
		a.elsewhere(r, err)
		return
	case errors.Is(cause, ErrStopping), isTaken(err): // it may go on without us, or has not begun
		return
	case err != nil && errors.Is(cause, ErrReplaced):
		a.counts.Replaced++
		err = fmt.Errorf("%w: %w", ErrReplaced, err)
	case errors.Is(err, ErrReplaced):
		a.counts.Replaced++
	case err != nil:
		a.counts.Failed++
	}
	a.counts.Runs++
	a.overdueReported = false
	a.last = Result{Due: r.firing.Due, Started: r.started, Err: err}
}

// elsewhere counts a slot that another instance has, or that overlaps with that instance's run.
func (a *activity) elsewhere(r *run, err error) {
	if _, overlaps := errors.AsType[*RunsElsewhere](err); !overlaps {
		a.counts.Elsewhere++
		return
	}
	a.counts.Overlapped += uint64(1 + r.firing.Coalesced)
	if a.overlapSince = r.overlaps; a.overlapSince.IsZero() {
		a.overlapSince = r.firing.Due
	}
}

// overdue says that a run or a start of the job is late, or "".
func (a *activity) overdue(now time.Time) (due time.Time, text string) {
	for _, r := range a.running {
		limit := r.firing.Job.Timeout
		if took := now.Sub(r.started); limit > 0 && took > limit+overdueAfter && r.waits == "" {
			text = fmt.Sprintf("still running after %s, its timeout is %s", took.Round(time.Second), limit)
			return r.firing.Due, text
		}
	}
	waited := now.Sub(a.waitingSince)
	if a.waiting != nil && len(a.running) == 0 && waited > overdueAfter {
		return a.waiting.Due, fmt.Sprintf("has waited %s for %s", waited.Round(time.Second), a.waitingFor)
	}
	return time.Time{}, ""
}

// idle reports whether no run of the job is in progress.
func (e *entry) idle() bool { return e.act == nil || len(e.act.running) == 0 }

// enabled reports whether the job's slots are started on this host.
func (e *entry) enabled() bool { return e.off == "" && e.paused == 0 && !e.removed }

// scheduleKey identifies the schedule, so that saved slots of a changed schedule are ignored.
func (j *Job) scheduleKey() string {
	if j.Seconds {
		return "seconds " + j.Expr + " " + j.Location.String()
	}
	return j.Expr + " " + j.Location.String()
}

// equal reports whether two jobs of one name are the same, wherever they stand in their files.
func (j *Job) equal(o Job) bool {
	a, b := *j, o
	for _, x := range []*Job{&a, &b} {
		x.Line, x.Location, x.Schedule = 0, nil, nil // the schedule is made of Expr
	}
	return j.scheduleKey() == o.scheduleKey() && reflect.DeepEqual(a, b)
}

// splayFor spreads the starts of a fleet and of a host's jobs. It is constant for one host
// and job, so that two runs stay a period apart.
func splayFor(host string, j *Job) int64 {
	if j.Splay <= 0 {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(host + "\x00" + j.Name))
	return int64(h.Sum64() % uint64(j.Splay))
}

// arm puts the entry into the heap at the time of its next slot or retry.
func (s *Scheduler) arm(e *entry) {
	e.wake = never
	if e.enabled() && e.next < never {
		e.wake = e.next*int64(time.Second) + e.splay
	}
	if e.act != nil && e.act.retry != nil {
		e.wake = min(e.wake, e.act.retryAt.UnixNano())
	}
	switch {
	case e.wake == never && e.heapIndex >= 0:
		heap.Remove(&s.due, e.heapIndex)
	case e.wake == never:
	case e.heapIndex < 0:
		heap.Push(&s.due, e)
	default:
		heap.Fix(&s.due, e.heapIndex)
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

// queue is a heap of entries, the one due first on top.
type queue []*entry

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].wake < q[j].wake || q[i].wake == q[j].wake && q[i].tableIndex < q[j].tableIndex
}
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].heapIndex, q[j].heapIndex = i, j
}
func (q *queue) Push(x any) {
	e := x.(*entry)
	e.heapIndex = len(*q)
	*q = append(*q, e)
}
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	e.heapIndex = -1
	return e
}
