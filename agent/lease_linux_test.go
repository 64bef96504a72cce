package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/packaging/testbed/gotool"
	"beanstalk-agent/packaging/testbed/versity"
)

// A run that goes on while its owner is out for longer than its lease: TERM, its grace and KILL are over before another
// instance begins, by the order of what the runs themselves write. On a machine that was suspended nothing could end the
// run in time: it is killed when that wakes, and gets no grace. These are the real lease and the real processes:
//
//	SOAK=30m go test -parallel 5 -run TestNoRunOutlastsItsLease -v ./agent
func TestNoRunOutlastsItsLease(t *testing.T) {
	if os.Getenv("SOAK") == "" {
		t.Skip("takes seven minutes: set SOAK=30m")
	}
	for name, c := range map[string]struct {
		overlap string
		strike  func(p *pair)
	}{
		"cut off, skip":  {"skip", func(p *pair) { p.wires[p.owner].cutFor(time.Hour) }},
		"cut off, queue": {"queue", func(p *pair) { p.wires[p.owner].cutFor(time.Hour) }},
		"agent stopped":  {"skip", func(p *pair) { p.hosts[p.owner].cmd.Process.Signal(syscall.SIGSTOP) }},
		"agent dead":     {"skip", func(p *pair) { p.hosts[p.owner].killed() }},
		"suspended":      {"queue", (*pair).suspend},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, c.overlap)
			c.strike(p)
			p.other(10 * time.Minute)
			if name == "suspended" {
				p.wake()
			}
			p.judge(name == "suspended")
		})
	}
}

// A pair is two hosts with a job that never ends by itself, and that TERM does not end.
type pair struct {
	*ground
	wires  []*wire
	owner  int // the host that ran it first
	frozen []int
}

// pairGrace is the job's.
const pairGrace = 30 * time.Second

func newPair(t *testing.T, overlap string) *pair {
	store := versity.Start(t, fleetBucket)[0]
	p := &pair{ground: newGround(t), owner: -1}
	job := fmt.Sprintf("trap '' TERM; while :; do echo $PWD $$ >>%s; sleep 0.2; done", p.ledger)
	cron := fmt.Sprintf("cron:\n- {name: job, schedule: '@every 4s', overlap: %s, grace: %s, command: %q}\n", overlap, pairGrace, job)
	for i := range 2 {
		p.wires = append(p.wires, newWire(t, store))
		p.add(fmt.Sprintf("aws: {region: us-east-1, s3_endpoint: '%s'}\ncron: {claims: 's3://%s/pair'}\n", p.wires[i].url, fleetBucket), cron,
			append(identity(t, i), "AWS_ACCESS_KEY_ID="+versity.AccessKey, "AWS_SECRET_ACCESS_KEY="+versity.SecretKey)...)
	}
	await(t, "the job runs", func() bool { return len(p.ran()) > 0 })
	p.owner = slices.IndexFunc(p.hosts, func(h *host) bool { return strings.HasPrefix(p.ran()[0].name, h.dir+"/") })
	for _, h := range p.hosts {
		h.answers()
	}
	return p
}

// identity is the environment of an agent for which the metadata service answers.
func identity(t *testing.T, i int) []string {
	t.Helper()
	metadata := gotool.Metadata(t, map[string]any{"dynamic": map[string]any{"values": map[string]any{
		"instance-identity-document": map[string]string{"instanceId": fmt.Sprintf("i-0%d", i), "region": "eu-west-1", "accountId": "123456789012"},
	}}})
	return []string{"AWS_EC2_METADATA_DISABLED=", "AWS_EC2_METADATA_SERVICE_ENDPOINT=" + metadata}
}

// span is where in the ledger, which all runs write to, a run has its first and its last line.
type span struct {
	name        string
	first, last int
}

func (p *pair) ran() (all []span) {
	p.t.Helper()
	text, err := os.ReadFile(p.ledger)
	if err != nil {
		p.t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		at := slices.IndexFunc(all, func(s span) bool { return s.name == line })
		switch {
		case line == "":
		case at < 0:
			all = append(all, span{line, i, i})
		default:
			all[at].last = i
		}
	}
	return all
}

// suspend stops all that runs on the owner's host, as a suspend does but for the clocks.
func (p *pair) suspend() {
	h := p.hosts[p.owner]
	h.cmd.Process.Signal(syscall.SIGSTOP)
	p.frozen = append(h.supervisors(), h.running()...)
	for _, pid := range p.frozen {
		syscall.Kill(pid, syscall.SIGSTOP)
	}
	p.t.Cleanup(p.thaw)
}

func (p *pair) thaw() {
	for _, pid := range p.frozen {
		syscall.Kill(pid, syscall.SIGCONT)
	}
	p.hosts[p.owner].cmd.Process.Signal(syscall.SIGCONT)
}

// wake has it go on, and waits until the run is gone, which is not given its grace again.
func (p *pair) wake() {
	h := p.hosts[p.owner]
	woke := time.Now()
	p.thaw()
	await(p.t, "the run of the machine that woke has ended", func() bool { return len(h.running()) == 0 })
	if took := time.Since(woke); took >= pairGrace {
		p.t.Errorf("it went on for %s beside the other's", took)
	} else {
		p.t.Logf("the run ended %s after the machine woke", took.Round(time.Millisecond))
	}
}

// other waits until the other host runs the job.
func (p *pair) other(limit time.Duration) {
	p.t.Helper()
	struck := time.Now()
	h := p.hosts[1-p.owner]
	for len(h.running()) == 0 {
		if time.Since(struck) > limit {
			p.t.Fatalf("%s later nothing runs on the other host", limit)
		}
		<-time.After(time.Second)
	}
	p.t.Logf("the other host runs the job after %s", time.Since(struck).Round(time.Second))
}

// judge looks at what the runs wrote, and at what the hosts say.
func (p *pair) judge(woke bool) {
	await(p.t, "the other's run writes", func() bool { return len(p.ran()) > 1 })
	all := p.ran()
	if last := all[0].last; last > all[1].first && !woke {
		p.t.Errorf("line %d is of the owner's run, and the other's began with line %d", last, all[1].first)
	}
	if len(all) > 2 {
		p.t.Errorf("there were %d runs: %v", len(all), all)
	}
	said, _ := os.ReadFile(filepath.Join(p.hosts[1-p.owner].dir, "log"))
	if !strings.Contains(string(said), `msg="a run was lost with its instance"`) {
		p.t.Error("nobody says that the run was lost")
	}
	p.wires[p.owner].mend()
	h := p.hosts[p.owner]
	if h.cmd.ProcessState != nil {
		h.start()
	}
	h.cmd.Process.Signal(syscall.SIGCONT)
	await(p.t, "the owner says that its run was interrupted", func() bool {
		said, _ := os.ReadFile(filepath.Join(h.dir, "log"))
		return strings.Contains(string(said), "interrupted")
	})
}
