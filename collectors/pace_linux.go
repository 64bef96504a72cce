package collectors

import "time"

// pace keeps apart searches whose size others choose: how many processes, descriptors and listeners there are. Whatever
// one takes, it is not made again for fifty times as long, which is one 50th of a processor at most. A usual search is
// over in milliseconds, and so is its pause. The zero value is open.
type pace struct {
	next time.Time
}

const (
	paceShare = 50
	paceMost  = 10 * time.Minute
)

func (p *pace) open(now time.Time) bool { return !now.Before(p.next) }

// since ends a search that began then.
func (p *pace) since(began time.Time) {
	now := time.Now()
	p.next = now.Add(min(paceShare*now.Sub(began), paceMost))
}
