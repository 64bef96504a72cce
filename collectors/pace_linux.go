package collectors

import "time"

// pace keeps apart searches whose size others choose: how many processes, descriptors and sockets there are. A step,
// one of those, takes 1 to 50 µs. The zero value is open.
type pace struct {
	next time.Time
}

const (
	paceFree = 10_000 // steps that are followed by no pause: a usual host has fewer
	paceStep = 500 * time.Microsecond
	paceMost = 10 * time.Minute
)

func (p *pace) open(now time.Time) bool { return !now.Before(p.next) }

// after ends a search of so many steps.
func (p *pace) after(now time.Time, steps int) {
	p.next = now.Add(min(time.Duration(max(steps-paceFree, 0))*paceStep, paceMost))
}
