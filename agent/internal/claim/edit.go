package claim

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// change changes a register in memory, and reports whether it is to be written. It may be called several times.
type change func(*Register) (write bool, err error)

// edit changes a job's register by compare-and-swap. It tries until ctx is done. An ErrNotRecorded of change is final.
type edit struct {
	store    *Store
	job      string
	change   change
	register register // as last read; no tag: must be read
	stale    bool     // the register is of an earlier write: only a change to it can be relied on
}

// maxUnusable is how often a register that is none is read before that is believed.
const maxUnusable = 3

func (s *Store) edit(ctx context.Context, job string, c change) error {
	e := edit{store: s, job: job, change: c, register: s.cached(job)}
	e.stale = e.register.tag != ""
	var pauses backoff
	var last error
	for unusable := 0; ; {
		done, err := e.try(ctx)
		if errors.Is(err, ErrMisconfigured) { // or a proxy's page
			unusable++
		}
		if done || isFinal(err) || errors.Is(err, ErrNotRecorded) || unusable == maxUnusable {
			return err
		}
		if err != nil && (last == nil || ctx.Err() == nil) {
			last = err
		}
		if !pause(ctx, pauses.next(err)) {
			if last == nil {
				last = errors.New("others kept writing")
			}
			return fmt.Errorf("%w: %w: %w", ErrUnreachable, context.Cause(ctx), last)
		}
	}
}

// try tries once. Neither done nor an error means that the register must be read again.
func (e *edit) try(ctx context.Context) (done bool, err error) {
	s := e.store
	if e.register.tag == "" {
		if e.register, err = s.s3.get(ctx, e.job); err != nil {
			return false, err
		}
		if err = s.s3.believe(e.register); err != nil {
			return false, err
		}
		e.stale = false
	}
	next := register{e.register.clone(), e.register.tag}
	write, err := e.change(&next.Register)
	if err == nil && write {
		e.register = register{}
		return e.write(ctx, next)
	}
	if e.stale {
		e.register = register{}
		return false, nil
	}
	return err == nil, err
}

func (e *edit) write(ctx context.Context, next register) (done bool, err error) {
	next.Job = e.job
	next.tag, err = e.store.s3.put(ctx, next)
	switch {
	case isConflict(err):
		return false, nil
	case err != nil:
		return false, err
	}
	e.store.mu.Lock()
	defer e.store.mu.Unlock()
	e.store.keep(e.store.job(e.job), next)
	return true, nil
}

// mine returns the index of the run of a slot that this instance has, perhaps since an earlier process of it, or -1.
func (s *Store) mine(r *Register, job string, slot time.Time) int {
	i, nonce := r.find(slot), s.nonce(job, slot)
	if i < 0 || r.Runs[i].Owner != s.config.Owner || nonce != "" && r.Runs[i].Nonce != nonce {
		return -1
	}
	return i
}
