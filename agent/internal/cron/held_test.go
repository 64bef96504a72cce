package cron

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/planted"
	"beanstalk-agent/packaging/testbed/versity"
	"beanstalk-agent/scheduler"
)

// ends is a supervisor that notes what it is asked to end and which leases it gets.
type ends struct {
	noSupervisor
	mu     sync.Mutex
	ended  []string
	leases []time.Duration
}

func (e *ends) Stop(_ context.Context, id string, _ time.Duration) (runs.Run, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = append(e.ended, id)
	return runs.Run{}, nil
}

func (e *ends) Interrupt(ctx context.Context, id, _ string) (runs.Run, error) {
	return e.Stop(ctx, id, 0)
}

func (e *ends) RenewLease(_ context.Context, _ string, length time.Duration, from runs.BootTime) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.leases = append(e.leases, length-time.Duration(runs.BootNow()-from))
	return nil
}

// heldAt is a slot that an instance has won, and the fleet as it sees it.
func heldAt(t *testing.T, store, id string, change func(*scheduler.Job)) (*fleet, *held, *ends, *bytes.Buffer) {
	t.Helper()
	c := fleetAt(t, store, id)
	e, log := &ends{}, &bytes.Buffer{}
	c.leases.runs, c.runs = e, e
	c.leases.log = planted.Log(t, log)
	h, err := c.claim(t.Context(), firing(t, change))
	if err != nil || h == nil {
		t.Fatalf("%v, %v", h, err)
	}
	return c, h, e, log
}

// Half a lease without S3 is said once, with when the run ends, and shown as bad; at its end the run is ended, unless
// the job prefers to run.
func TestLeaseThatIsNotRenewed(t *testing.T) {
	t.Parallel()
	store := versity.Careless(t)
	for name, c := range map[string]struct {
		change func(*scheduler.Job)
		ends   bool
	}{
		"by default":          {func(*scheduler.Job) {}, true},
		"on_claim_error: run": {func(j *scheduler.Job) { j.Name, j.OnClaimError = "prefers", scheduler.ClaimErrorRun }, false},
	} {
		f, h, e, log := heldAt(t, store, "i-0123456789abcdef0", c.change)
		f.leases.note(h, true)
		bad := func() (n int) {
			for _, l := range f.status() {
				if l.State == api.Bad && strings.HasPrefix(l.Text, h.job+" ends at ") && strings.HasSuffix(l.Text, " UTC unless S3 answers") {
					n++
				}
			}
			return n
		}
		silent := errors.New("S3 is silent")
		h.notRenewed(t.Context(), "run", silent)
		if bad() != 0 || log.Len() > 0 {
			t.Errorf("%s: right after the claim: %s", name, log)
		}
		h.renewed -= runs.BootTime(claim.RenewEvery * 2)
		h.notRenewed(t.Context(), "run", silent)
		h.notRenewed(t.Context(), "run", silent)
		want := map[bool]int{true: 1, false: 0}[c.ends]
		if n := strings.Count(log.String(), "the run ends unless S3 answers"); n != want || bad() != want || len(e.ended) > 0 {
			t.Errorf("%s: after half of it said %d times, %d lines of status, ended %v", name, n, bad(), e.ended)
		}
		h.until = runs.BootNow()
		h.notRenewed(t.Context(), "run", silent)
		if (len(e.ended) == 1) != c.ends || errors.Is(h.why(), scheduler.ErrInterrupted) != c.ends ||
			c.ends && !strings.HasPrefix(h.why().Error(), claim.Interrupted) {
			t.Errorf("%s: at its end %v, %v", name, e.ended, h.why())
		}
	}
}

// A renewal reaches the supervisor, and never promises more than the register has.
func TestRenewalReachesTheSupervisor(t *testing.T) {
	t.Parallel()
	_, h, e, _ := heldAt(t, versity.Start(t, "bucket")[0], "i-0123456789abcdef0", func(*scheduler.Job) {})
	h.tryRenew(t.Context(), "run")
	r, err := h.store.Read(t.Context(), h.job)
	if err != nil || len(e.leases) != 1 {
		t.Fatalf("%v, %v", e.leases, err)
	}
	if left := r.Runs[0].Until.Sub(h.store.Now()) - h.grace; e.leases[0] <= 0 || e.leases[0] > left {
		t.Errorf("the supervisor has %s, the register %s", e.leases[0], left)
	}
	var req runs.Request
	h.request(&req, nil)
	if req.Lease <= 0 || req.LeaseFrom == 0 || !req.Slot.Equal(h.slot) || req.Meta[runs.MetaRegister] != "environment" {
		t.Errorf("the request has %+v", req)
	}
	h.until = runs.BootNow() - 1
	if h.request(&req, nil); req.Lease != 1 { // which the supervisor refuses; 0 would be none
		t.Errorf("after its end the lease is %s", req.Lease)
	}
}

// Another instance asks for the end of a run of a replace job, and its owner sees it. One whose slot was taken over ends,
// too; one that an older agent began may never have been claimed, and goes on.
func TestRunEndsWhenAnotherMayRunIt(t *testing.T) {
	t.Parallel()
	store := versity.Start(t, "bucket")[0]
	replace := func(j *scheduler.Job) { j.Name, j.Overlap = "replaced", scheduler.Replace }
	_, h, e, _ := heldAt(t, store, "i-0123456789abcdef0", replace)
	h.lookForEnd(t.Context(), "run")
	if len(e.ended) > 0 {
		t.Error("it ends unasked")
	}
	b := fleetAt(t, store, "i-0fedcba9876543210")
	s, err := b.open()
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Read(t.Context(), "replaced")
	if err != nil {
		t.Fatal(err)
	}
	askToEnd(t.Context(), b.log, s.Store, firing(t, replace), r.Runs[0])
	h.lookForEnd(t.Context(), "run")
	if len(e.ended) != 1 || !errors.Is(h.why(), scheduler.ErrReplaced) || !strings.Contains(h.why().Error(), "i-0fedcba9876543210") {
		t.Errorf("asked to end: %v, %v", e.ended, h.why())
	}
	for lenient, want := range map[bool]int{false: 1, true: 0} {
		_, h, e, _ := heldAt(t, store, "i-0123456789abcdef0", func(j *scheduler.Job) { j.Name = "gone" + map[bool]string{true: "1"}[lenient] })
		h.slot, h.lenient = h.slot.Add(-time.Hour), lenient // which the register does not have
		h.tryRenew(t.Context(), "run")
		if len(e.ended) != want {
			t.Errorf("not in the register, lenient %v: ended %v", lenient, e.ended)
		}
	}
}
