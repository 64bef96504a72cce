package runs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// BootTime is a reading of this host's clock since boot, in nanoseconds. Agent and supervisor share it and nobody can
// set it. Unlike Go's own clock it also counts while the machine is suspended or hibernates: clock_gettime(2).
type BootTime int64

// BootNow reads the clock.
func BootNow() BootTime {
	var t unix.Timespec
	_ = unix.ClockGettime(bootClock, &t) // it fails for unknown clocks only
	return BootTime(t.Nano())
}

// MaxLease is the longest lease that a supervisor grants.
const MaxLease = 24 * time.Hour

// LeaseBody is what a renewal carries, and its answer: what is left.
type LeaseBody struct {
	Lease time.Duration `json:"lease_ns"`
	From  BootTime      `json:"lease_from_ns,omitzero"` // when it began; 0: now
}

// ErrNoLease is returned for a lease by a supervisor that keeps none, since it is older, and by a run that has none.
var ErrNoLease = errors.New("no lease is kept")

// ErrLapsed is returned for a lease that has ended. A run that has begun is being ended.
var ErrLapsed = errors.New("the lease has ended")

// Kinds of Refused for the two errors.
const (
	KindNoLease = "no lease"
	KindLapsed  = "lease lapsed"
)

// RenewLease lets a run that has a lease go on until the length has passed since from (0: now), also one that waits for
// its lock. A renewal never shortens a lease. The id is the whole one. ErrEnded, ErrLapsed: the run will not go on.
func (c *Client) RenewLease(ctx context.Context, id string, length time.Duration, from BootTime) error {
	if from == 0 {
		from = BootNow()
	}
	err := c.call(ctx, "POST", "/runs/"+url.PathEscape(id)+"/lease", LeaseBody{Lease: length, From: from}, nil)
	if r, ok := errors.AsType[*Refused](err); ok && r.Kind == "" && r.Status == http.StatusNotFound {
		return fmt.Errorf("renew the lease of run %s: the supervisor is older: %w", id, ErrNoLease)
	}
	return err
}

// leased notes when the lease of a request began, unless its caller has.
func (r Request) leased() Request {
	if r.Lease > 0 && r.LeaseFrom == 0 {
		r.LeaseFrom = BootNow()
	}
	return r
}

// knowsLease gives the refusal of an older supervisor, which names a field that it does not know, its kind.
func (e *Refused) knowsLease() {
	if e.Kind == "" && e.Status == http.StatusBadRequest && strings.Contains(e.Message, `unknown field "lease_`) {
		e.Kind = KindNoLease
	}
}
