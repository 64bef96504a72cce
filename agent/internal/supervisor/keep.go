package supervisor

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Keep bounds what is kept of runs that have ended. The oldest go first; a run that is live is never
// touched. Zero fields take the default.
type Keep struct {
	Count   int           // runs in all; default 2000
	PerName int           // runs of one job or program: a minutely job must not push out a nightly one; default 100
	Age     time.Duration // default 30 days
	Bytes   int64         // of the disk, with all that is kept of them; default 512 MiB
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
	seq   uint64 // of its end
	start uint64 // of its start
	at    time.Time
	name  string
	kind  string

	bytes  int64 // of the disk, all files
	output int64 // of these, the output's
}

// excess returns the runs beyond the limits. It orders by end, not by start: a long run may end after many
// later ones, and must not be pruned before its end was reported.
func (k Keep) excess(now time.Time, ended map[string]entry) (ids []string) {
	var count int
	var bytes int64
	names := make(map[string]int)
	for _, id := range newest(ended) {
		e := ended[id]
		key := e.kind + "\x00" + e.name
		count++
		bytes += e.bytes
		names[key]++
		if count > k.Count || names[key] > k.PerName || bytes > k.Bytes && count > 1 || now.Sub(e.at) > k.Age {
			ids = append(ids, id)
		}
	}
	return ids
}

// oldOutput returns the runs whose output has to go to free need bytes, the oldest first. The newest output, of stays
// bytes, does not.
func oldOutput(ended map[string]entry, need, stays int64) (ids []string) {
	order := newest(ended)
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

// newest returns the runs by their end, the last first.
func newest(ended map[string]entry) []string {
	return slices.SortedFunc(maps.Keys(ended), func(a, b string) int { return cmp.Compare(ended[b].seq, ended[a].seq) })
}
