package claim

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/packaging/testbed/versity"
)

// An instance in processes of its own, which are the test binary: an agent, which may be killed and stopped at any moment,
// and what stands for its supervisor: a run, which ends itself when the lease in its file has passed.
const (
	aloneEnv = "CLAIM_TEST_ALONE" // an aloneSpec
	runEnv   = "CLAIM_TEST_RUN"   // a runSpec
)

type aloneSpec struct {
	URL, Owner, Dir string
	Overlap         Overlap
	End             time.Time
}

type runSpec struct {
	Ledger, Lease string // files
	Owner         string
	Slot          time.Time
	PID           int
}

const (
	alonePeriod = 700 * time.Millisecond
	aloneRenew  = 800 * time.Millisecond
)

// aloneTerms makes minutes seconds.
func aloneTerms() { lease, margin = 3*time.Second, 1500*time.Millisecond }

// ledgerLine writes one line in one write, so that a kill leaves no half of one.
func ledgerLine(file, format string, args ...any) {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err == nil {
		fmt.Fprintf(f, format+"\n", args...)
		f.Close()
	}
}

// runChild is a run.
func runChild(text string) {
	var spec runSpec
	if json.Unmarshal([]byte(text), &spec) != nil {
		os.Exit(1)
	}
	until := func() time.Duration {
		b, _ := os.ReadFile(spec.Lease)
		n, _ := strconv.ParseInt(string(b), 10, 64)
		return time.Duration(n)
	}
	if bootClock() >= until() {
		return
	}
	name := spec.Owner + "/" + spec.Slot.Format(time.RFC3339Nano)
	ledgerLine(spec.Ledger, "start %s %d", name, bootClock())
	for work := bootClock() + rand.N(4*time.Second); bootClock() < min(work, until()); {
		<-time.After(5 * time.Millisecond)
	}
	ledgerLine(spec.Ledger, "end %s %d", name, bootClock())
}

// aloneChild is an agent. It takes on the run that an earlier process of it has left.
func aloneChild(text string) {
	var spec aloneSpec
	if json.Unmarshal([]byte(text), &spec) != nil {
		os.Exit(1)
	}
	aloneTerms()
	ctx, cancel := context.WithDeadline(context.Background(), spec.End)
	defer cancel()
	s := storeAt(&testing.T{}, spec.URL, spec.Owner)
	if left, err := spec.left(); err == nil {
		spec.accompany(ctx, s, left)
	}
	for ctx.Err() == nil {
		slot := time.Now().Truncate(alonePeriod).Add(alonePeriod)
		pause(ctx, time.Until(slot))
		q := Request{Job: "job", Slot: firstSlot.Add(time.Duration(slot.UnixNano()/int64(alonePeriod)%1e6) * time.Second), Window: 3 * time.Second, Overlap: spec.Overlap}
		claim := s.Claim
		if spec.Overlap == Queue {
			claim = func(ctx context.Context, q Request) (Outcome, error) { return claimWhenFree(ctx, s, q, func(Run) {}) }
		}
		o, err := claim(ctx, q)
		switch {
		case err != nil:
			ledgerLine(spec.ledger(), "missed %s %q", spec.Owner, err.Error())
		case o.State == Won:
			spec.begin(ctx, s, o)
		default:
			ledgerLine(spec.ledger(), "%s %s", o.State, spec.Owner)
		}
	}
}

func (a aloneSpec) ledger() string { return filepath.Join(a.Dir, "ledger") }
func (a aloneSpec) record() string { return filepath.Join(a.Dir, a.Owner+".run") }

// left is the run that an earlier process has started.
func (a aloneSpec) left() (r runSpec, err error) {
	b, err := os.ReadFile(a.record())
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(b, &r)
}

func replaceFile(file, text string) {
	tmp := file + ".new"
	os.WriteFile(tmp, []byte(text), 0o600)
	os.Rename(tmp, file)
}

// begin starts a run that another kill of its agent does not end, and stays with it.
func (a aloneSpec) begin(ctx context.Context, s *Store, o Outcome) {
	os.Remove(a.record())
	spec := runSpec{Ledger: a.ledger(), Lease: filepath.Join(a.Dir, "lease."+o.Run.Nonce), Owner: a.Owner, Slot: o.Run.Slot}
	replaceFile(spec.Lease, strconv.FormatInt(int64(o.LeaseUntil), 10))
	text, _ := json.Marshal(spec)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, aloneEnv) }), runEnv+"="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if cmd.Start() != nil {
		return
	}
	go cmd.Wait()
	spec.PID = cmd.Process.Pid
	text, _ = json.Marshal(spec)
	replaceFile(a.record(), string(text))
	a.accompany(ctx, s, spec)
}

// accompany renews the lease until the run has ended, and records that. A run that is to end gets no lease.
func (a aloneSpec) accompany(ctx context.Context, s *Store, run runSpec) {
	for next := time.Now(); ctx.Err() == nil && !ended(run.PID); {
		if time.Now().After(next) {
			next = time.Now().Add(aloneRenew)
			limited, cancel := context.WithTimeout(ctx, 2*time.Second)
			r, err := s.Renew(limited, "job", run.Slot, 0)
			cancel()
			if err == nil || errors.Is(err, ErrNotRecorded) {
				replaceFile(run.Lease, strconv.FormatInt(int64(r.LeaseUntil), 10))
			}
		}
		<-time.After(10 * time.Millisecond)
	}
	limited, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	s.Finish(limited, "job", run.Slot, Result{Outcome: "exit 0"})
}

// ended reports whether a process is gone, or nobody's any more.
func ended(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := bytes.Cut(b, []byte(") "))
	return err != nil || bytes.HasPrefix(after, []byte("Z"))
}

// aloneContest has instances run one job, and kills and stops their agents, and now and then a whole instance.
func aloneContest(t *testing.T, overlap Overlap, endpoint func(i int) string, lasts time.Duration) (dir string) {
	t.Helper()
	dir = t.TempDir()
	const instances = 5
	end := time.Now().Add(lasts)
	start := func(i int) *exec.Cmd {
		text, _ := json.Marshal(aloneSpec{endpoint(i), fmt.Sprint("i-", i), dir, overlap, end})
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), aloneEnv+"="+string(text))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	var cmds []*exec.Cmd
	for i := range instances {
		cmds = append(cmds, start(i))
	}
	for time.Until(end) > 4*time.Second {
		i := rand.IntN(instances)
		switch cmd := cmds[i]; rand.IntN(4) {
		case 0, 1: // the agent
			cmd.Process.Kill()
			cmd.Wait()
			cmds[i] = start(i)
		case 2: // the agent, for longer than a lease at times
			cmd.Process.Signal(syscall.SIGSTOP)
			time.AfterFunc(rand.N(5*time.Second), func() { cmd.Process.Signal(syscall.SIGCONT) })
		case 3: // the instance: its run goes with it
			cmd.Process.Kill()
			cmd.Wait()
			endRun(t, aloneSpec{Owner: fmt.Sprint("i-", i), Dir: dir})
			cmds[i] = start(i)
		}
		<-time.After(rand.N(600 * time.Millisecond))
	}
	for i, cmd := range cmds {
		cmd.Process.Signal(syscall.SIGCONT)
		cmd.Wait()
		endRun(t, aloneSpec{Owner: fmt.Sprint("i-", i), Dir: dir})
	}
	return dir
}

// endRun kills the run of an instance whose agent is dead, and writes its end, which it cannot. One that was started and
// is not in its record has a lease.
func endRun(t *testing.T, a aloneSpec) {
	run, err := a.left()
	if err != nil || ended(run.PID) {
		return
	}
	syscall.Kill(run.PID, syscall.SIGKILL)
	for deadline := time.Now().Add(10 * time.Second); !ended(run.PID); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a run cannot be killed")
		}
	}
	ledgerLine(a.ledger(), "end %s %d", a.Owner+"/"+run.Slot.Format(time.RFC3339Nano), bootClock())
}

type interval struct {
	name     string
	from, to int64
}

// intervals reads when each run started and ended, by one clock, from what the runs wrote.
func intervals(t *testing.T, ledger string) (all []interval, others map[string]int) {
	t.Helper()
	f, err := os.Open(ledger)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	open, others := map[string]int64{}, map[string]int{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if words[0] != "start" && words[0] != "end" {
			others[words[0]]++
			continue
		}
		at, err := strconv.ParseInt(words[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if words[0] == "start" {
			open[words[1]] = at
		} else if from, ok := open[words[1]]; ok {
			all = append(all, interval{words[1], from, at})
			delete(open, words[1])
		}
	}
	for name := range open {
		t.Errorf("nothing says when %s ended", name)
	}
	return all, others
}

// overlaps returns the pairs of runs that lived at the same time.
func overlaps(all []interval) (pairs []string) {
	for i, a := range all {
		for _, b := range all[i+1:] {
			if a.from < b.to && b.from < a.to {
				pairs = append(pairs, fmt.Sprintf("%+v and %+v", a, b))
			}
		}
	}
	return pairs
}

// Real processes on real gateways through a network that does its worst: agents are killed and stopped for longer than a
// lease, instances die with their run. By what the runs themselves write, no two live at once.
func TestRunsOfKilledAgentsAreAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 25 s")
	}
	for _, overlap := range []Overlap{Skip, Queue} {
		t.Run(string(overlap), func(t *testing.T) {
			t.Parallel()
			urls := versity.Start(t, testBucket)
			for i := range urls {
				urls[i] = versity.Faulty(t, urls[i], 0.1)
			}
			lasts := 20 * time.Second
			if os.Getenv("SOAK") != "" {
				lasts = 3 * time.Minute
			}
			dir := aloneContest(t, overlap, func(i int) string { return urls[i%2] }, lasts)
			all, others := intervals(t, filepath.Join(dir, "ledger"))
			t.Logf("%d runs; %v", len(all), others)
			for _, pair := range overlaps(all) {
				t.Error("at once: " + pair)
			}
			if len(all) < 5 {
				t.Errorf("only %d runs", len(all))
			}
		})
	}
}

// The negative control: on a store that ignores conditions runs live at once, and the judge sees it.
func TestRunsOnACarelessStoreAreNotAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 10 s")
	}
	t.Parallel()
	url := versity.Faulty(t, versity.Careless(t), 0.3)
	runs := 0
	for range 6 { // in ten seconds it is a matter of luck
		dir := aloneContest(t, Skip, func(int) string { return url }, 10*time.Second)
		all, _ := intervals(t, filepath.Join(dir, "ledger"))
		if len(overlaps(all)) > 0 {
			return
		}
		runs += len(all)
	}
	t.Errorf("%d runs, and none lived beside another", runs)
}
