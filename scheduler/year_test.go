package scheduler

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A year of two thousand jobs (two hundred with the race detector) over every change of the clocks of twenty zones: each slot
// the oracle knows starts exactly once, in its second, and nothing else does. Meanwhile
// the table is reloaded every day, as deployments do it.
func TestAYearOfJobsInTwentyZones(t *testing.T) {
	perZone := 100
	if testing.Short() || raceDetector {
		perZone = 10 // the race detector makes it ten times slower
	}
	begin := time.Date(2026, 12, 31, 12, 0, 0, 0, time.UTC)
	end := begin.AddDate(1, 0, 0)
	file, exprs := yearOfJobs(perZone)
	got := map[string][]int64{}
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		s := New(Config{
			OnEvent: func(e Event) { t.Errorf("event %+v", e) },
			Runner: runnerFunc(func(_ context.Context, f Firing) error {
				mu.Lock()
				defer mu.Unlock()
				got[f.Job.Name] = append(got[f.Job.Name], f.Due.Unix())
				if now := time.Now(); !now.Equal(f.Due) || f.Reason != Scheduled || f.Coalesced != 0 {
					t.Errorf("%s of %v started at %v: %s %s", f.Job.Name, f.Due, now, f.Reason, f.Why)
				}
				return nil
			}),
		})
		time.Sleep(time.Until(begin))
		s.SetTable(mustParse(t, "cron.yaml", file))
		ctx, cancel := context.WithDeadline(t.Context(), end.Add(time.Millisecond))
		defer cancel()
		var reloads sync.WaitGroup
		reloads.Go(func() {
			tab := mustParse(t, "cron.yaml", file)
			for ctx.Err() == nil {
				time.Sleep(23 * time.Hour)
				s.SetTable(tab)
			}
		})
		s.Run(ctx)
		reloads.Wait()
	})
	runs := 0
	for i, zone := range twentyZones {
		step := 5 * time.Minute
		if zone == "America/St_Johns" || strings.HasPrefix(zone, "Asia/Gaza") {
			step = time.Minute
		}
		w := newWalk(mustZone(t, zone), begin, end, step, 3*time.Hour)
		for j, expr := range exprs {
			name := fmt.Sprintf("z%d-%d", i, j)
			runs += len(got[name])
			if diff := firstDifference(got[name], w.due(expr)); diff != "" {
				t.Errorf("%s, %q in %s: %s", name, expr, zone, diff)
			}
		}
	}
	t.Logf("%d jobs, %d runs", len(got), runs)
}

// yearOfJobs makes a cron.yaml of n jobs in each of the twenty zones, most of them in the
// hours at which clocks change.
func yearOfJobs(n int) (file string, exprs []string) {
	for i := range n {
		minute, hour := i*5%60, i%5
		switch i % 10 {
		case 0:
			exprs = append(exprs, fmt.Sprintf("%d %d-%d/2 * * %d", minute, hour, hour+6, i/10%7))
		case 1:
			exprs = append(exprs, fmt.Sprintf("%d %d,23 %d,%d * 1-5", minute, hour, i%28+1, i%13+1))
		case 2:
			exprs = append(exprs, fmt.Sprintf("%d * %d * *", minute, i%31+1))
		case 3:
			exprs = append(exprs, fmt.Sprintf("*/15 %d %d * *", hour, i%31+1))
		default:
			exprs = append(exprs, fmt.Sprintf("%d %d * * *", minute, hour))
		}
	}
	var b strings.Builder
	b.WriteString("cron:\n")
	for i, zone := range twentyZones {
		for j, expr := range exprs {
			fmt.Fprintf(&b, "- {name: z%d-%d, schedule: '%s', timezone: %s, command: x}\n", i, j, expr, zone)
		}
	}
	return b.String(), exprs
}

func firstDifference(got []int64, want []time.Time) string {
	for i := range max(len(got), len(want)) {
		switch {
		case i == len(got):
			return fmt.Sprintf("run %d, due %v, is missing", i, want[i])
		case i == len(want):
			return fmt.Sprintf("run %d, of %v, is one too many", i, time.Unix(got[i], 0))
		case got[i] != want[i].Unix():
			return fmt.Sprintf("run %d was of %v, want %v", i, time.Unix(got[i], 0), want[i])
		}
	}
	return ""
}
