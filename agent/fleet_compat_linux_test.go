package main

import (
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/packaging/testbed/gotool"
	"beanstalk-agent/packaging/testbed/versity"
)

// A fleet while a version is deployed: half of its hosts have the agent that landed, half the present one, on one
// register; two change, there and back, while their jobs run, by kill -9 or in order, on the state that the other left.
// A landed agent has no clock of its own, so all hosts have the machine's.
func TestFleetOfTwoVersions(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 7 s")
	}
	t.Parallel()
	z := sizeOfFleet()
	z.skew = 0
	landed := gotool.Agent(t, gotool.LandedAgent, "1.0.0")
	g := newGround(t)
	g.identified = true // a claim by a host's name alone is no later process's to end, and would block the job
	present := filepath.Join(g.dir, "agent")
	g.agent = func(i int) string { return []string{landed, present}[i%2] }
	url := versity.Faulty(t, versity.Start(t, fleetBucket)[0], 0.05)
	every := g.fleet(z, "sleep 0.5", func(int) string { return url })
	g.liveAndJudge(z, every, url, func(until time.Time) (changes int) {
		for ; time.Now().Before(until); changes++ {
			h := g.hosts[len(g.hosts)/2+changes%2]
			if h.agent = map[string]string{landed: present, present: landed}[h.agent]; changes%4 < 2 {
				h.killed()
			} else {
				h.cmd.Process.Signal(syscall.SIGTERM)
				h.cmd.Wait()
			}
			h.start()
			<-time.After(300*time.Millisecond + rand.N(600*time.Millisecond))
		}
		for _, h := range g.hosts {
			h.answers()
		}
		return changes
	})
}
