package cron

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/planted"
	"beanstalk-agent/packaging/testbed/versity"
	"beanstalk-agent/scheduler"
)

// open is a store of one register, which anybody may write.
type open struct {
	mu   sync.Mutex
	body []byte
}

func openTo(t *testing.T) (*open, string) {
	o := &open{}
	h := httptest.NewServer(o)
	t.Cleanup(h.Close)
	return o, h.URL
}

func (o *open) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	o.mu.Lock()
	defer o.mu.Unlock()
	tag := func() string {
		sum := md5.Sum(o.body)
		return `"` + hex.EncodeToString(sum[:]) + `"`
	}
	match := r.Header.Get("If-Match")
	switch put := r.Method == http.MethodPut; {
	case put && (match != "" && match != tag() || match == "" && o.body != nil):
		w.WriteHeader(http.StatusPreconditionFailed)
		return
	case put:
		o.body = body
	case o.body == nil:
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, "<Error><Code>NoSuchKey</Code></Error>")
		return
	}
	w.Header().Set("ETag", tag())
	if r.Method == http.MethodGet {
		w.Write(o.body)
	}
}

// forge has the newest run of the register lost, as if it had not been run again.
func (o *open) forge(t *testing.T, attempt int) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	var r claim.Register
	if err := json.Unmarshal(o.body, &r); err != nil {
		t.Fatal(err)
	}
	run := &r.Runs[0]
	run.Owner, run.Nonce, run.TakenFrom, run.LostBy = "i-forged", "forged", "", "forged"
	run.Outcome, run.Attempt, run.Until = "lost: no word from i-forged", attempt, time.Time{}
	o.body, _ = json.Marshal(r)
}

// Whoever may write the bucket writes that a slot which an instance has run again, or has seen end well, is lost. It does
// not run there once more, and neither does one before it; the next process of the instance has it from the supervisor.
func TestASlotIsRunAgainOnceByAnInstance(t *testing.T) {
	t.Parallel()
	const own = "i-0123456789abcdef0"
	rerun := func(j *scheduler.Job) { j.OnOwnerLoss = scheduler.OwnerLossRerun }
	for name, c := range map[string]struct {
		serve func(*testing.T, *fleet, *open, scheduler.Firing)
		kept  runs.Run
	}{
		"taken over": {func(t *testing.T, b *fleet, o *open, f scheduler.Firing) {
			if _, attempt, err := b.takeOver(t.Context(), f); err != nil || attempt != 2 {
				t.Fatal(attempt, err)
			}
			f.Attempt = 2
			write(b, f, "exit 1")
		}, runs.Run{State: runs.StateExited, ExitCode: 1, Reason: "adopted: lost with i-forged"}},
		"ended well": {func(t *testing.T, b *fleet, o *open, f scheduler.Firing) {
			write(b, f, runs.Good)
		}, runs.Run{State: runs.StateExited, Reason: "scheduled"}},
		"of a later one, taken over": {func(t *testing.T, b *fleet, o *open, f scheduler.Firing) {
			f.Due = f.Due.Add(time.Second)
			if _, err := b.claim(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			o.forge(t, 1)
			if _, _, err := b.takeOver(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			o.mu.Lock()
			defer o.mu.Unlock()
			o.body = bytes.ReplaceAll(o.body, []byte(f.Due.UTC().Format(time.RFC3339)), []byte(f.Due.Add(-time.Second).UTC().Format(time.RFC3339)))
		}, runs.Run{State: runs.StateExited, ExitCode: 1, Reason: "adopted: lost with i-forged", Slot: time.Now().Add(time.Minute)}},
	} {
		store, url := openTo(t)
		b := fleetAt(t, url, own)
		var log bytes.Buffer
		b.log = planted.Log(t, &log)
		f := firing(t, rerun)
		if name != "of a later one, taken over" {
			if _, err := b.claim(t.Context(), f); err != nil {
				t.Fatal(err)
			}
		}
		if name == "taken over" {
			store.forge(t, 1)
		}
		c.serve(t, b, store, f)
		next := fleetAt(t, url, own)
		if c.kept.Slot.IsZero() {
			c.kept.Slot = f.Due
		}
		next.runs = manyRuns{list: []runs.Run{{Slot: f.Due.Add(-time.Hour), Reason: "manual"}, c.kept}}
		for attempt, x := range []*fleet{b, next, b} {
			store.forge(t, 5+attempt)
			if _, _, err := x.takeOver(t.Context(), f); !errors.Is(err, scheduler.ErrElsewhere) {
				t.Errorf("%s: taken over with %v", name, err)
			}
		}
		if n := strings.Count(log.String(), "look who may write its register"); n != 2 {
			t.Errorf("%s: said %d times:\n%s", name, n, &log)
		}
		f.Due = f.Due.Add(time.Minute) // which was lost in truth
		store.mu.Lock()
		store.body = nil
		store.mu.Unlock()
		if _, err := fleetAt(t, url, "i-0fedcba9876543210").claim(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		store.forge(t, 1)
		if _, _, err := b.takeOver(t.Context(), f); err != nil {
			t.Errorf("%s: the next slot: %v", name, err)
		}
	}
}

// Without the supervisor's word no slot is taken over: it could not start anything anyway.
func TestNoSlotIsTakenOverWithoutTheRecords(t *testing.T) {
	t.Parallel()
	_, url := openTo(t)
	b := fleetAt(t, url, "i-0123456789abcdef0")
	b.runs = away{}
	f := firing(t, func(j *scheduler.Job) { j.OnOwnerLoss = scheduler.OwnerLossRerun })
	if _, _, err := b.takeOver(t.Context(), f); !isUnclaimed(err) || len(b.losses.planned()) != 1 {
		t.Errorf("%v, planned %v", err, b.losses.planned())
	}
}

// away is a supervisor that does not answer.
type away struct{ noSupervisor }

func (away) List(context.Context, runs.Filter) ([]runs.Run, error) {
	return nil, errors.New("no supervisor")
}

// What runs again is a slot of the job: whoever writes the register cannot make one up.
func TestOnlySlotsOfTheScheduleRunAgain(t *testing.T) {
	zone, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	table, err := scheduler.Parse("crontab", []byte("30 2 * * * nightly\n@every 90m often\n"), scheduler.ParseOptions{Location: zone})
	if err != nil {
		t.Fatal(err)
	}
	nightly, often := table.Jobs[0], table.Jobs[1]
	at := func(s string) time.Time {
		at, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	const never = "the job's schedule does not have it"
	for name, c := range map[string]struct {
		job   scheduler.Job
		slot  string
		after time.Duration
		taken string
		want  string
	}{
		"due":                  {nightly, "2026-11-30T07:30:00Z", 10 * time.Minute, "", ""},
		"after a jump":         {nightly, "2027-03-14T07:00:00Z", 10 * time.Minute, "", ""},
		"the first of two":     {nightly, "2026-11-01T07:30:00Z", 10 * time.Minute, "", ""},
		"each 90 minutes":      {often, "2026-11-30T07:30:00Z", 10 * time.Minute, "", ""},
		"a second later":       {nightly, "2026-11-30T07:30:01Z", 10 * time.Minute, "", never},
		"a fraction of one":    {nightly, "2026-11-30T07:30:00.001Z", 10 * time.Minute, "", never},
		"not of the 90":        {often, "2026-11-30T07:00:00Z", 10 * time.Minute, "", never},
		"not due yet":          {nightly, "2026-11-30T07:30:00Z", -time.Minute, "", never},
		"old":                  {nightly, "2026-11-30T07:30:00Z", 2 * time.Hour, "", "it is older than catch_up allows"},
		"taken over before":    {nightly, "2026-11-30T07:30:00Z", 10 * time.Minute, "i-1", "it has been run again once"},
		"of the age of others": {nightly, "0001-01-01T00:00:01Z", 10 * 365 * 24 * time.Hour, "", "it is older than catch_up allows"},
	} {
		r := claim.Run{Slot: at(c.slot), TakenFrom: c.taken}
		if got := whyNotAgain(c.job, r, r.Slot.Add(c.after)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// A restart of the agent ends no run that has no lease, however many slots have been claimed since and whether S3 answers
// or not; nor one that goes on without S3, though its job is out of the cron file by then.
func TestAdoptedRunThatNeedsNoLeaseGoesOn(t *testing.T) {
	t.Parallel()
	gone := scheduler.Job{Name: "job", Location: time.UTC}
	for name, c := range map[string]struct {
		change func(*scheduler.Job)
		old    bool // an older agent started it
		renews bool
		ends   bool
	}{
		"allow":                          {func(j *scheduler.Job) { j.Overlap = scheduler.Allow }, false, false, false},
		"allow, of an older agent":       {func(j *scheduler.Job) { j.Overlap = scheduler.Allow }, true, true, false},
		"on_claim_error: run":            {func(j *scheduler.Job) { j.OnClaimError = scheduler.ClaimErrorRun }, false, true, false},
		"skip":                           {func(j *scheduler.Job) {}, false, true, true},
		"allow, with on_owner_loss":      {func(j *scheduler.Job) { j.Overlap, j.OnOwnerLoss = scheduler.Allow, scheduler.OwnerLossRerun }, false, true, true},
		"skip, and the file says to run": {func(j *scheduler.Job) {}, false, true, true},
	} {
		_, h, _, _ := heldAt(t, versity.Careless(t), ours, c.change)
		run := begunBy(h, nil)
		f := scheduler.Firing{Job: gone, Due: h.slot, Attempt: 1}
		if c.old {
			delete(run.Meta, metaLease)
			delete(run.Meta, metaUnheard)
			c.change(&f.Job)
		}
		if name == "skip, and the file says to run" {
			f.Job.OnClaimError = scheduler.ClaimErrorRun
		}
		_, url := openTo(t) // where no run is listed any more
		for _, store := range []string{url, "http://127.0.0.1:9"} {
			now := fleetAt(t, store, ours)
			e := &ends{}
			now.leases.runs = e
			adopted, _ := now.adopt(f, run)
			_, renews := adopted.next()
			switch {
			case renews && store == url:
				adopted.tryRenew(t.Context(), "run")
			case renews:
				adopted.until = runs.BootNow()
				adopted.notRenewed(t.Context(), "run", errors.New("S3 is silent"))
			}
			if renews != c.renews || (len(e.ended) > 0) != c.ends {
				t.Errorf("%s, at %s: renews %v, ended %v", name, store, renews, e.ended)
			}
		}
	}
}

// An interrupted slot beside which a later one runs, as overlap: allow has it, is not run again and is reported, once.
func TestAnInterruptedSlotBesideALaterOneIsMissed(t *testing.T) {
	t.Parallel()
	_, store := openTo(t)
	a, b := fleetAt(t, store, ours), fleetAt(t, store, "i-0fedcba9876543210")
	var missed []string
	for _, x := range []*fleet{a, b} {
		x.losses.missed = func(_ string, _ claim.Run, why string) { missed = append(missed, why) }
	}
	f := firing(t, func(j *scheduler.Job) { j.OnOwnerLoss, j.Overlap = scheduler.OwnerLossRerun, scheduler.Allow })
	if _, err := a.claim(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	claimLater(t, b, f)
	write(a, f, "interrupted: shutdown")
	for range 2 {
		for _, x := range []*fleet{b, a} {
			x.losses.look(t.Context(), f.Job, func(_ scheduler.Job, r claim.Run) { t.Errorf("%s runs again", r.Slot) })
		}
	}
	if len(missed) != 1 || missed[0] != "a later slot has come due" {
		t.Errorf("reported %q", missed)
	}
}

// While a job is paused no claim looks after its runs: the instances plan a look for when the lease of one is over.
func TestTheLossOfAPausedJobsRunIsLookedFor(t *testing.T) {
	t.Parallel()
	store := versity.Careless(t)
	f := firing(t, func(*scheduler.Job) {})
	if _, err := fleetAt(t, store, ours).claim(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	b := fleetAt(t, store, "i-0fedcba9876543210")
	pauseJob(t, b, f)
	f.Due = f.Due.Add(time.Second)
	if _, err := b.claim(t.Context(), f); !errors.Is(err, scheduler.ErrElsewhere) {
		t.Fatal(err)
	}
	if in := time.Until(b.losses.planned()["job"].at); in < 4*time.Minute || in > 7*time.Minute {
		t.Errorf("looks in %s, of %v", in, b.losses.planned())
	}
}

// A slot that an earlier process of this instance has taken over is another attempt: an owed start of it is none of it.
func TestASlotThatRunsAgainHereIsNotReclaimed(t *testing.T) {
	t.Parallel()
	store, url := openTo(t)
	a := fleetAt(t, url, ours)
	f := firing(t, func(j *scheduler.Job) { j.OnOwnerLoss = scheduler.OwnerLossRerun })
	if _, err := a.claim(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	store.forge(t, 1)
	if _, attempt, err := a.takeOver(t.Context(), f); err != nil || attempt != 2 {
		t.Fatal(attempt, err)
	}
	if h, err := fleetAt(t, url, ours).claim(t.Context(), f); h != nil || !errors.Is(err, scheduler.ErrElsewhere) {
		t.Errorf("its first attempt: %v, %v", h, err)
	}
	f.Attempt, f.Reason = 2, scheduler.Retry
	if h, err := fleetAt(t, url, ours).claim(t.Context(), f); h == nil || err != nil {
		t.Errorf("the second one: %v, %v", h, err)
	}
}

// A start that waits for the environment's lock and then for the host's has its timeout all the same.
func TestALockOfTheEnvironmentIsWaitedForTwice(t *testing.T) {
	for scope, want := range map[scheduler.LockScope]time.Duration{scheduler.LockHost: time.Hour, scheduler.LockEnvironment: 2 * time.Hour} {
		f := firing(t, func(j *scheduler.Job) { j.Lock, j.LockScope, j.CatchUp = "db", scope, time.Hour })
		if got := request(f).LockWait; got != want {
			t.Errorf("%v: %s", scope, got)
		}
	}
}
