package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/packaging/testbed/versity"
)

const fleetBucket = "elasticbeanstalk-eu-west-1-123456789012"

// fleetSize is of a fleet and its jobs. The long form is for a quiet machine:
// FLEET=long go test -run TestFleet ./agent
type fleetSize struct {
	hosts, jobs, slots int
	period             time.Duration // between a job's slots
	skew               int           // slots by which clocks differ, either way
}

func sizeOfFleet() fleetSize {
	if os.Getenv("FLEET") == "long" {
		return fleetSize{hosts: 20, jobs: 10, slots: 50, period: 5 * time.Second, skew: 3}
	}
	return fleetSize{hosts: 4, jobs: 3, slots: 4, period: time.Second, skew: 1}
}

// newFleet starts hosts whose agents share a store; each writes its clock's
// difference before its agent looks.
func newFleet(t *testing.T, z fleetSize, endpoint func(i int) string) (*ground, map[string]time.Duration) {
	t.Helper()
	g := newGround(t)
	return g, g.fleet(z, ":", endpoint)
}

// fleet is newFleet, of a ground that is there, and of jobs that end with this command.
func (g *ground) fleet(z fleetSize, command string, endpoint func(i int) string) map[string]time.Duration {
	g.t.Helper()
	cron, every := "cron:\n", map[string]time.Duration{}
	for i := range z.jobs {
		job := "job" + string(rune('a'+i))
		every[job] = z.period
		cron += fmt.Sprintf("- {name: %s, schedule: '@every %s', command: '%s; %s'}\n", job, z.period, g.signs(job), command)
	}
	for i := range z.hosts {
		config := fmt.Sprintf("aws: {region: us-east-1, s3_endpoint: '%s'}\ncron: {claims: 's3://%s/claims'}\n", endpoint(i), fleetBucket)
		env := []string{"AWS_ACCESS_KEY_ID=" + versity.AccessKey, "AWS_SECRET_ACCESS_KEY=" + versity.SecretKey}
		if g.identified {
			env = append(env, identity(g.t, i)...)
		}
		h := g.add(config, cron, env...)
		h.write("clock", (time.Duration(i%(2*z.skew+1)-z.skew) * z.period).String())
	}
	for _, h := range g.hosts {
		h.answers()
	}
	return every
}

// Whole agents, real gateways, a network that does its worst, agents stopped and
// killed at any moment, clocks that differ: no slot runs twice, and of each that
// did not run an agent or the job's register says why.
func TestFleetRunsEachSlotOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 8 s")
	}
	t.Parallel()
	z := sizeOfFleet()
	urls := versity.Start(t, fleetBucket)
	for i := range urls {
		urls[i] = versity.Faulty(t, urls[i], 0.1)
	}
	g, every := newFleet(t, z, func(i int) string { return urls[i%2] })
	g.liveAndJudge(z, every, urls[0], g.chaos)
}

// liveAndJudge lets a fleet live under a chaos until its slots are over, and judges.
func (g *ground) liveAndJudge(z fleetSize, every map[string]time.Duration, store string, chaos func(until time.Time) int) {
	t := g.t
	t.Helper()
	registers := watchRegisters(t, store, slices.Collect(maps.Keys(every)))
	ahead := time.Duration(z.skew) * z.period
	from := time.Now().Add(ahead + z.period)
	to := from.Add(time.Duration(z.slots) * z.period)
	kills := chaos(to.Add(ahead))

	var b balance
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-time.After(200 * time.Millisecond) { // a claim may take some seconds
		a := g.read(every)
		for s, why := range registers() {
			a.name(s, "the register: "+why)
		}
		if b = a.judge(every, from, to); len(b.doubles) > 0 || len(b.silent) == 0 {
			break
		}
	}
	t.Logf("%d hosts: %s; %d kills", z.hosts, b, kills)
	if len(b.doubles)+len(b.silent) > 0 {
		t.Errorf("%d slots ran twice, %d were missed silently", len(b.doubles), len(b.silent))
	}
	if b.ran == 0 { // how many depends on the network's and the killer's luck
		t.Error("nothing ran")
	}
}

// The negative control: the same agents against a store that ignores conditions
// must be seen to run a slot twice, else the test above proves nothing.
func TestFleetNoticesACarelessStore(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 s")
	}
	t.Parallel()
	store := versity.Faulty(t, versity.Careless(t), 0.5)
	g, every := newFleet(t, fleetSize{hosts: 4, jobs: 6, period: time.Second, skew: 1}, func(int) string { return store })
	from := time.Now()
	await(t, "a slot runs twice", func() bool {
		return len(g.read(every).judge(every, from, time.Now()).doubles) > 0
	})
}

// chaos stops, continues, kills and restarts agents until a time, and leaves all
// of them running.
func (g *ground) chaos(until time.Time) (kills int) {
	stopped := map[*host]bool{}
	resume := func() {
		for h := range stopped {
			h.cmd.Process.Signal(syscall.SIGCONT)
		}
		clear(stopped)
	}
	for time.Now().Before(until) {
		switch h := g.hosts[rand.IntN(len(g.hosts))]; rand.IntN(3) {
		case 0:
			h.killed()
			h.start()
			delete(stopped, h)
			kills++
		case 1:
			h.cmd.Process.Signal(syscall.SIGSTOP)
			if stopped[h] = true; len(stopped) > len(g.hosts)/2 {
				resume()
			}
		case 2:
			resume()
		}
		<-time.After(200*time.Millisecond + rand.N(600*time.Millisecond))
	}
	resume()
	return kills
}

// watchRegisters reads the jobs' registers all the time, since they forget, and
// returns what gives the slots that they name: claimed, and why there may be no run.
func watchRegisters(t *testing.T, url string, jobs []string) func() map[slot]string {
	t.Helper()
	s, err := claim.New(claim.Config{Bucket: fleetBucket, Region: "us-east-1", Prefix: "claims", Environment: "local", Owner: "watcher", Endpoint: url,
		Credentials: credentials.NewStaticCredentialsProvider(versity.AccessKey, versity.SecretKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[slot]string{}
	look := func(ctx context.Context) {
		for _, job := range jobs {
			r, err := s.Read(ctx, job)
			if err != nil {
				continue // looked at again soon
			}
			for _, run := range r.Runs {
				seen[slot{job, run.Slot.Unix()}] = cmp.Or(run.Outcome, "claimed, not ended")
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ask := make(chan chan map[slot]string)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case reply := <-ask:
				look(ctx)
				reply <- maps.Clone(seen)
			case <-time.After(time.Second):
				look(ctx)
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return func() map[slot]string {
		reply := make(chan map[slot]string)
		ask <- reply
		got := <-reply
		maps.DeleteFunc(got, func(_ slot, why string) bool { return why == "exit 0" })
		return got
	}
}
