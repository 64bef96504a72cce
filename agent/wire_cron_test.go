package main

import "testing"

func TestLimitOfJobs(t *testing.T) {
	for _, c := range []struct{ configured, processors, want int }{{0, 1, 16}, {0, 2, 16}, {0, 4, 32}, {3, 64, 3}, {100, 1, 100}} {
		if got := limit(c.configured, c.processors); got != c.want {
			t.Errorf("configured %d, %d processors: %d, want %d", c.configured, c.processors, got, c.want)
		}
	}
}
