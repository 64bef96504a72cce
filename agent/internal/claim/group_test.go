package claim

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"beanstalk-agent/packaging/testbed/versity"
)

// Two environments in one group, two instances each, run 500 slots once between them, over a network that loses answers.
func TestAGroupRunsEachSlotOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 20 s")
	}
	urls := versity.Start(t, testBucket)
	const jobs, slots = 10, 50
	var mu sync.Mutex
	won, missed := map[jobSlot][]string{}, map[jobSlot]string{}
	var wg sync.WaitGroup
	for i := range 4 {
		s := storeAt(t, versity.Faulty(t, urls[i%2], 0.05), fmt.Sprintf("i-%d", i))
		c := s.config
		c.Environment, c.Group = []string{"blue", "green"}[i%2], "shop"
		s, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		for job := range jobs {
			wg.Go(func() {
				for n := range slots {
					q := beside(firstSlot.Add(time.Duration(n) * time.Minute))
					q.Job, q.Window = fmt.Sprintf("job %d", job), 2*time.Second
					o, err := s.Claim(t.Context(), q)
					mu.Lock()
					if slot := (jobSlot{job, n}); err != nil {
						missed[slot] = err.Error()
					} else if o.State == Won {
						won[slot] = append(won[slot], o.Run.Environment+" "+o.Run.Owner)
					} else if o.State == Superseded {
						missed[slot] = string(o.State)
					}
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	by := map[string]int{}
	for job := range jobs {
		for n := range slots {
			slot := jobSlot{job, n}
			if owners := won[slot]; len(owners) > 1 || len(owners) == 0 && missed[slot] == "" {
				t.Errorf("slot %v ran on %q: %q", slot, owners, missed[slot])
			} else if len(owners) == 1 {
				by[strings.Fields(owners[0])[0]]++
			}
		}
	}
	if t.Logf("ran by environment: %v; %d named", by, len(missed)); by["blue"] == 0 || by["green"] == 0 {
		t.Error("one of the environments ran nothing")
	}
}
