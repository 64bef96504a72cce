package appenv

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"
)

// Resolve returns the environment that the web process would get if it were started now.
//
// On Beanstalk it is what systemd would give the web unit: its Environment=, then its environment files in order, each
// in systemd's grammar. The deployment file is always one of them, and so is the secrets file where it exists. When
// the deployment file is absent, empty, unreadable or one that systemd would refuse, `get-config environment` replaces
// it. When neither can be read, or another required file cannot be used, the live web process's environment replaces
// everything, without the variables of a single process. Where two sources have a name, the later one wins and
// Warnings names it. In local mode it is AppDir/.env, which may be absent. Config.EnvFiles come last in both.
//
// The error is ErrNotDeployed, ErrDocker, or names each source with its reason.
func (r *Resolver) Resolve(ctx context.Context) (*Env, error) {
	rd, err := r.read(ctx)
	if err != nil {
		return nil, err
	}
	return &rd.env, nil
}

func (r *Resolver) read(ctx context.Context) (*reading, error) {
	if r.cfg.Docker {
		return nil, ErrDocker
	}
	var owner uint32
	if r.strict() && r.cfg.User == "" {
		var err error
		if owner, _, err = r.owner(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	asked := time.Now()
	select {
	case r.lock <- struct{}{}:
		defer func() { <-r.lock }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	another := func(w Writer) bool { return w.byOwner && w.uid != owner }
	if r.last != nil && !slices.ContainsFunc(r.last.writers, another) && unchanged(r.last.seen) {
		return r.last, nil
	}
	// Jobs due at once share one reading: get-config may be slow.
	if r.shared.began.After(asked) {
		return r.shared.rd, r.shared.err
	}
	o := outcome{began: time.Now()}
	o.rd, o.err = r.readAll(ctx)
	if ctx.Err() == nil {
		r.shared = o
	}
	return o.rd, o.err
}

// readAll makes a new reading. The caller holds the lock.
func (r *Resolver) readAll(ctx context.Context) (*reading, error) {
	r.last = nil
	// A deployment may replace one file after another was read: start over until none changed during a reading.
	for tries := 0; ; tries++ {
		rd := &reading{seen: map[string]stamp{}}
		if err := r.sources(ctx, rd); err != nil {
			return nil, err
		}
		if !unchanged(rd.seen) && tries < 9 {
			continue
		}
		if !rd.live && r.allStable(rd.seen) {
			r.last = rd
		}
		return rd, nil
	}
}

// unchanged reports whether no path changed since.
func unchanged(seen map[string]stamp) bool {
	for path, st := range seen {
		info, err := os.Stat(path)
		if err != nil {
			info = nil
		}
		if (info == nil) != (st.info == nil) || info != nil && !stampOf(info).same(st) {
			return false
		}
	}
	return true
}

// allStable reports whether every path's last change is so old that the next one will show.
func (r *Resolver) allStable(seen map[string]stamp) bool {
	for _, st := range seen {
		if age := time.Since(st.changed); st.info != nil && age > -r.minAge && age < r.minAge {
			return false
		}
	}
	return true
}
