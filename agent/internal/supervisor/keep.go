package supervisor

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"beanstalk-agent/agent/internal/runs"
)

// Keep bounds what is kept of runs that have ended; a run that is live is never touched. Records go by age and number,
// and no owner's for another's; of bytes only output does. Zero fields take the default.
type Keep struct {
	Count   int           // runs of one owner; default 2000
	PerName int           // runs of one job or program: a minutely job must not push out a nightly one; default 100
	Age     time.Duration // default 30 days
	Bytes   int64         // of the disk, with all that is kept of them; beyond it output goes; default 512 MiB
}

func (k Keep) withDefaults() Keep {
	k.Count = cmp.Or(k.Count, 2000)
	k.PerName = cmp.Or(k.PerName, 100)
	k.Age = cmp.Or(k.Age, 30*24*time.Hour)
	k.Bytes = cmp.Or(k.Bytes, 512<<20)
	return k
}

// entry is what retention needs of a run that has ended.
type entry struct {
	series
	seq   uint64 // of its end
	start uint64 // of its start
	at    time.Time

	bytes  int64 // of the disk, all files
	output int64 // of these, the output's
}

// whose is who had runs made: whoever asked for commands, or as whom jobs run. Commands are never counted with jobs.
type whose struct {
	kind string
	uid  uint32
}

// series are the runs of one job, or of one program that one user asked for.
type series struct {
	whose
	name string
}

func seriesOf(run runs.Run) series {
	uid := run.UID
	if run.Kind == "exec" {
		uid = run.Caller.UID
	}
	return series{whose{run.Kind, uid}, run.Name}
}

// excess returns the runs beyond the limits: of the job that has most of them the oldest first, so that a new name
// pushes out no other's last run while there is an older one.
func (k Keep) excess(now time.Time, ended map[string]entry) (ids []string) {
	owners, names := make(map[whose]int), make(map[series]int)
	for _, id := range lastToGo(ended, func(entry) int64 { return 1 }) {
		e := ended[id]
		if now.Sub(e.at) > k.Age || names[e.series] >= k.PerName || owners[e.whose] >= k.Count {
			ids = append(ids, id)
			continue
		}
		names[e.series]++
		owners[e.whose]++
	}
	return ids
}

// oldOutput returns the runs whose output has to go to free need bytes: of the owner who has most of it, of his job
// that has most, the oldest first. What would go last, of stays bytes, does not.
func oldOutput(ended map[string]entry, need, stays int64) (ids []string) {
	order := lastToGo(ended, func(e entry) int64 { return e.output })
	for stays > 0 && len(order) > 0 {
		stays -= ended[order[0]].output
		order = order[1:]
	}
	for _, id := range slices.Backward(order) {
		if n := ended[id].output; n > 0 && need > 0 {
			need -= n
			ids = append(ids, id)
		}
	}
	return ids
}

// lastToGo orders runs by how much there is beside them, of size: the newest is first, and last is the oldest of the
// series that has most, of the owner who has most.
func lastToGo(ended map[string]entry, size func(entry) int64) []string {
	order := newest(ended)
	fair(order, ended, size, func(e entry) series { return e.series })
	fair(order, ended, size, func(e entry) whose { return e.whose })
	return order
}

// fair sorts runs by the size of those before them that have the same key.
func fair[K comparable](order []string, ended map[string]entry, size func(entry) int64, key func(entry) K) {
	sum, before := make(map[K]int64), make(map[string]int64, len(order))
	for _, id := range order {
		e := ended[id]
		k := key(e)
		before[id] = sum[k]
		sum[k] += size(e)
	}
	slices.SortStableFunc(order, func(a, b string) int { return cmp.Compare(before[a], before[b]) })
}

// newest returns the runs by their end, the last first: not by start, since a long run may end after many later ones,
// and must not go before its end was reported.
func newest(ended map[string]entry) []string {
	return slices.SortedFunc(maps.Keys(ended), func(a, b string) int { return cmp.Compare(ended[b].seq, ended[a].seq) })
}
