package scheduler

import "time"

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
