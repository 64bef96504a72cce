package claim

import (
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"beanstalk-agent/packaging/testbed/versity"
)

var full = flag.Bool("full", os.Getenv("SOAK") != "", "run the contest at full length: 500 slots")

// contest is 20 claimants and some jobs that are due once a minute, pressed into short time: every period is a minute.
type contest struct {
	jobs     int
	slots    int           // of each job
	period   time.Duration // at least; minutes pass slower when the machine is slower
	window   time.Duration
	skew     int // minutes by which clocks differ, either way
	endpoint func(claimant int) string

	mu     sync.Mutex
	won    map[jobSlot][]string // owners
	lost   map[jobSlot]int      // how many claims were lost
	missed map[jobSlot][]string // errors
	late   int                  // superseded
}

type jobSlot struct{ job, n int }

var firstSlot = time.Date(1999, 12, 31, 2, 0, 0, 0, time.UTC) // before synctest's first moment

// run lets every claimant claim every slot when its own clock says that it is due. A minute ends when its time is over
// and not too many claims are under way: what is tested is who wins, not how fast the machine is.
func (c *contest) run(t *testing.T) {
	t.Helper()
	c.won, c.lost, c.missed = map[jobSlot][]string{}, map[jobSlot]int{}, map[jobSlot][]string{}
	const claimants = 20
	var stores []*Store
	for i := range claimants {
		stores = append(stores, storeAt(t, c.endpoint(i), fmt.Sprintf("i-%02d", i)))
	}
	room := make(chan struct{}, 8*claimants)
	var wg sync.WaitGroup
	for minute := -c.skew; minute < c.slots+c.skew; minute++ {
		over := time.After(c.period)
		for i, s := range stores {
			n := minute + i%(2*c.skew+1) - c.skew
			for job := range c.jobs {
				if n < 0 || n >= c.slots {
					continue
				}
				room <- struct{}{}
				wg.Go(func() {
					defer func() { <-room }()
					c.claim(t, s, jobSlot{job, n})
				})
			}
		}
		<-over
	}
	wg.Wait()
}

func (c *contest) claim(t *testing.T, s *Store, slot jobSlot) {
	q := beside(firstSlot.Add(time.Duration(slot.n) * time.Minute))
	q.Job, q.Window = fmt.Sprintf("nightly invoices %d", slot.job), c.window
	o, err := s.Claim(t.Context(), q)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil:
		c.missed[slot] = append(c.missed[slot], err.Error())
	case o.State == Won:
		c.won[slot] = append(c.won[slot], s.config.Owner)
	case o.State == Lost:
		c.lost[slot]++
	case o.State == Superseded:
		c.late++
	}
}

// doubles counts the slots that ran more than once.
func (c *contest) doubles() (n int) {
	for _, owners := range c.won {
		if len(owners) > 1 {
			n++
		}
	}
	return n
}

// A miss is named only if it explains all results: when a claim was lost, the other
// must have said that it may be marked as its own.
func (c *contest) silent() (n int) {
	for job := range c.jobs {
		for i := range c.slots {
			slot := jobSlot{job, i}
			said := strings.Join(c.missed[slot], "\n")
			if len(c.won[slot]) == 0 && (said == "" || c.lost[slot] > 0 && !strings.Contains(said, "may be marked as claimed here")) {
				n++
			}
		}
	}
	return n
}

func (c *contest) report(t *testing.T) {
	named := 0
	for slot, whys := range c.missed {
		if len(c.won[slot]) == 0 {
			named++
			t.Logf("slot %v did not run: %s", slot, whys[0])
		}
	}
	t.Logf("%d slots, 20 claimants: %d ran once, %d twice, %d did not and were named, %d were silent; superseded %d times",
		c.jobs*c.slots, len(c.won)-c.doubles(), c.doubles(), named, c.silent(), c.late)
}

// The claim of this package: two real gateways on one directory, a network that does its worst, clocks that differ by
// up to three minutes. No slot runs twice, none is missed without a word.
func TestContest(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 12 s")
	}
	urls := versity.Start(t, testBucket)
	for i := range urls {
		urls[i] = versity.Faulty(t, urls[i], 0.15)
	}
	c := &contest{jobs: 5, slots: 12, period: 600 * time.Millisecond, window: 6 * time.Second, skew: 3,
		endpoint: func(i int) string { return urls[i%2] }}
	if *full {
		c.jobs, c.slots, c.period = 10, 50, 800*time.Millisecond
	}
	c.run(t)
	c.report(t)
	if c.doubles() > 0 || c.silent() > 0 {
		t.Errorf("%d slots ran twice, %d were missed silently", c.doubles(), c.silent())
	}
	if ran, all := len(c.won), c.jobs*c.slots; ran < all*95/100 {
		t.Errorf("only %d of %d slots ran", ran, all)
	}
	if c.late > 0 {
		t.Errorf("%d claims found the register too short for three minutes of skew", c.late)
	}
}

// The negative control: against a store that ignores the conditions the same contest must see slots run twice. If it
// does not, the contest proves nothing.
func TestContestNoticesAStoreWithoutConditions(t *testing.T) {
	server := httptest.NewServer(&fakeS3{ignoreConditions: true})
	defer server.Close()
	url := versity.Faulty(t, server.URL, 0.15)
	c := &contest{jobs: 1, slots: 20, period: 40 * time.Millisecond, window: 4 * time.Second, skew: 3, endpoint: func(int) string { return url }}
	c.run(t)
	c.report(t)
	if c.doubles() == 0 {
		t.Error("no slot ran twice although nothing prevented it")
	}
}
