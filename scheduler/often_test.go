package scheduler

import (
	"testing"
	"time"
)

func TestPerMonth(t *testing.T) {
	for expr, want := range map[string]int{
		"* * * * *":          43_800, // 525,600 a year
		"*/5 * * * *":        8_760,
		"30 4 * * *":         30,
		"0 3 1 * *":          1,
		"0 0 1 1 *":          0, // less than one in two
		"@every 1s":          2_628_000,
		"*/10 9-16 * * 1-5":  1_044, // 261 working days
		"0 2 29 2 *":         0,
		"30 2 * * 0,1,2,3,4": 22,
	} {
		s, err := parseSchedule(expr, false, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		got := PerMonth(s, time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), 20_000)
		if diff := got - want; diff < -want/100 || diff > want/100 {
			t.Errorf("%q: %d a month, want %d", expr, got, want)
		}
	}
}
