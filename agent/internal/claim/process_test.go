package claim

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/packaging/testbed/versity"
)

// A claimant in a process of its own is the test binary, configured by its environment: URL, owner, ledger, start in Unix
// milliseconds, first slot, slots and period.
const childEnv = "CLAIM_TEST_CHILD"

func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		if err := child(strings.Split(spec, "|")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if spec := os.Getenv(aloneEnv); spec != "" {
		aloneChild(spec)
		return
	}
	if spec := os.Getenv(runEnv); spec != "" {
		runChild(spec)
		return
	}
	os.Exit(m.Run())
}

// child claims slot after slot and writes what becomes of each into the ledger, one write a line, so that a kill cannot
// leave half of one. "won" is written when the run would start, as late as a real one could.
func child(spec []string) error {
	url, owner, file := spec[0], spec[1], spec[2]
	begin, _ := strconv.ParseInt(spec[3], 10, 64)
	slots, _ := strconv.Atoi(spec[4])
	period, err := time.ParseDuration(spec[5])
	if err != nil {
		return err
	}
	ledger, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	s := storeAt(&testing.T{}, url, owner)
	for n := range slots {
		due := time.UnixMilli(begin).Add(time.Duration(n) * period)
		if time.Since(due) > period { // started late, or stopped meanwhile: a real scheduler starts with the present
			continue
		}
		<-time.After(time.Until(due))
		slot := firstSlot.Add(time.Duration(n) * time.Minute)
		q := beside(slot)
		q.Window = 4 * time.Second
		o, err := s.Claim(context.Background(), q)
		if err != nil {
			fmt.Fprintf(ledger, "missed %d %s %v\n", n, owner, strings.ReplaceAll(err.Error(), "\n", " "))
			continue
		}
		fmt.Fprintf(ledger, "%s %d %s\n", o.State, n, owner)
		if o.State == Won {
			s.Finish(context.Background(), "job", slot, Result{Outcome: "exit 0"})
		}
	}
	return nil
}

// Processes are stopped, continued, killed and started again at any moment, against the real gateways through a bad
// network. No slot runs twice; a slot that did not run is named: by who missed it, or by the register, as claimed by an
// owner that never ended it.
func TestKilledAndStoppedClaimants(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 16 s")
	}
	urls := versity.Start(t, testBucket)
	for i := range urls {
		urls[i] = versity.Faulty(t, urls[i], 0.1)
	}
	const period, claimants = 500 * time.Millisecond, 8
	slots := 20
	if *full {
		slots = 80
	}
	ledger := filepath.Join(t.TempDir(), "ledger")
	begin := time.Now().Add(4 * time.Second) // on a busy machine eight processes take a while to start
	start := func(i int) *exec.Cmd {
		ahead := time.Duration(i%7-3) * period
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|i-%d|%s|%d|%d|%v", childEnv, urls[i%2], i, ledger, begin.Add(-ahead).UnixMilli(), slots, period))
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	var cmds []*exec.Cmd
	for i := range claimants {
		cmds = append(cmds, start(i))
	}
	seen := watch(t, urls[0])
	killed, stopped := 0, map[int]bool{}
	resume := func() {
		for i := range stopped {
			cmds[i].Process.Signal(syscall.SIGCONT)
		}
		clear(stopped)
	}
	for time.Since(begin) < time.Duration(slots+3)*period {
		switch i := rand.IntN(claimants); rand.IntN(3) {
		case 0:
			cmds[i].Process.Kill()
			cmds[i].Wait()
			cmds[i] = start(i)
			delete(stopped, i)
			killed++
		case 1:
			cmds[i].Process.Signal(syscall.SIGSTOP)
			if stopped[i] = true; len(stopped) > claimants/2 {
				resume()
			}
		case 2:
			resume()
		}
		<-time.After(rand.N(400 * time.Millisecond))
	}
	resume()
	for i, c := range cmds {
		if err := c.Wait(); err != nil {
			t.Errorf("claimant %d: %v", i, err)
		}
	}
	judgeLedger(t, ledger, slots, seen())
	t.Logf("%d kills", killed)
}

// watch reads the register all the time, because it forgets; what is returned ends that and gives every run seen.
func watch(t *testing.T, url string) (stop func() map[int64]Run) {
	s := storeAt(t, url, "watcher")
	ctx, cancel := context.WithCancel(t.Context())
	seen, done := map[int64]Run{}, make(chan error)
	look := func(ctx context.Context) error {
		r, err := s.Read(ctx, "job")
		for _, run := range r.Runs {
			seen[run.Slot.Unix()] = run
		}
		return err
	}
	go func() {
		for pause(ctx, 200*time.Millisecond) {
			look(ctx)
		}
		var err error
		for range 20 { // the last look must succeed, through the same bad network
			if err = look(context.WithoutCancel(ctx)); err == nil {
				break
			}
		}
		done <- err
	}()
	return func() map[int64]Run {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		return seen
	}
}

func judgeLedger(t *testing.T, ledger string, slots int, seen map[int64]Run) {
	t.Helper()
	f, err := os.Open(ledger)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	won, named, asked := map[int][]string{}, map[int]string{}, map[int]bool{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		what, rest, _ := strings.Cut(lines.Text(), " ")
		number, who, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Fatalf("ledger line %q", lines.Text())
		}
		asked[n] = true
		switch State(what) {
		case Won:
			won[n] = append(won[n], who)
		case "missed", Superseded:
			named[n] = lines.Text()
		}
	}
	unfinished, unclaimed := 0, 0
	for n := range slots {
		run, claimed := seen[firstSlot.Add(time.Duration(n)*time.Minute).Unix()]
		switch {
		case len(won[n]) > 1:
			t.Errorf("slot %d ran on %v", n, won[n])
		case len(won[n]) == 1:
		case claimed && run.Outcome == "":
			unfinished++
		case named[n] != "":
			t.Logf("slot %d did not run: %s", n, named[n])
		case !asked[n]:
			unclaimed++
		default:
			t.Errorf("slot %d did not run, and nothing says so: register %+v", n, run)
		}
	}
	t.Logf("%d slots: %d ran once, %d claimed by owners that were killed before the start, %d when no claimant was alive and awake",
		slots, len(won), unfinished, unclaimed)
	if len(won) < len(asked)/2 {
		t.Errorf("only %d of %d slots ran", len(won), len(asked))
	}
}
