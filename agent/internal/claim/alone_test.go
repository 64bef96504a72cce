package claim

import (
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// The claim of leases: machines that die, agents that are killed, cut off and late, clocks that are wrong by minutes and
// drift by a hundredth, answers that are lost, writes that land when their writer has given up. At no moment do two runs of
// the job live, no slot is started twice, one reports each loss, and the job never stands still for long.
func TestNeverTwoAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 s")
	}
	for name, w := range map[string]*world{
		"skip":             {overlap: Skip, period: time.Minute, took: 3 * time.Minute},
		"skip, long runs":  {overlap: Skip, period: 5 * time.Minute, took: 20 * time.Minute},
		"skip, rerun":      {overlap: Skip, period: 20 * time.Minute, took: 10 * time.Minute, rerun: true},
		"queue":            {overlap: Queue, period: 5 * time.Minute, took: 9 * time.Minute},
		"queue, many":      {overlap: Queue, period: time.Minute, took: 2 * time.Minute},
		"replace":          {overlap: Replace, period: 3 * time.Minute, took: 9 * time.Minute},
		"queue and reruns": {overlap: Queue, period: 10 * time.Minute, took: 12 * time.Minute, rerun: true},
	} {
		t.Run(name, func(t *testing.T) {
			hours := 8
			if os.Getenv("SOAK") != "" {
				hours = 200
			}
			synctest.Test(t, func(t *testing.T) {
				w.t, w.f, w.faults = t, &fakeS3{}, 0.1
				w.run(3, time.Duration(hours)*time.Hour)
			})
			t.Logf("%d hours, %d slots started, longest pause %s, %d losses reported, claims %v",
				hours, len(w.starts), w.longest, len(w.reports), w.reasons)
			for i, fault := range w.judge() {
				if t.Error(fault); i > 5 {
					break
				}
			}
			if len(w.starts) == 0 || w.longest > 2*time.Hour {
				t.Errorf("the job stood still for %s", w.longest)
			}
		})
	}
}

// The negative controls: the judge must see a store that ignores conditions, and leases that others hold for passed while
// they are not.
func TestTheJudgeSeesTwoAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 3 s")
	}
	for name, careless := range map[string]bool{"careless store": true, "no margin": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{t: t, f: &fakeS3{ignoreConditions: careless}, overlap: Skip, period: time.Minute, took: 30 * time.Minute, faults: 0.1}
				if !careless {
					margin = -lease / 2
					defer func() { margin = 30 * time.Second }()
				}
				w.run(3, 12*time.Hour)
				if len(w.twice) == 0 {
					t.Error("nothing ran twice at once")
				}
			})
		})
	}
}
