package platform

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"
)

// Instance is the facts as far as they are known by now: those of local files from the start, the rest once Run has
// asked for them. It is safe for concurrent use.
type Instance struct {
	options    Options
	facts      atomic.Pointer[Facts]
	identified chan struct{}
	wanted     chan struct{} // has an element while a caller awaits a fact
	nginx      asRead[Nginx]
}

// NewInstance reads local files.
func NewInstance(ctx context.Context, o Options) *Instance {
	i := &Instance{options: o, identified: make(chan struct{}), wanted: make(chan struct{}, 1)}
	f := Detect(ctx, o)
	i.facts.Store(&f)
	return i
}

// Root is what stands before every path of the host, "" but in tests.
func (i *Instance) Root() string { return i.options.Root }

// AsksMetadata reports whether the metadata service is asked for the identity, which may come late.
func (i *Instance) AsksMetadata() bool { return i.options.asksIMDS(*i.facts.Load()) }

// Facts returns what is known now. An agent can be older than the first deployment: until the web process's unit is
// there it is looked for again.
func (i *Instance) Facts() Facts {
	f := i.facts.Load()
	if !f.Beanstalk || f.Docker || f.WebUnit != "" {
		return *f
	}
	again := f.deployed(i.options)
	if again.WebUnit == "" && !again.Docker {
		return *f
	}
	i.facts.CompareAndSwap(f, &again)
	return again
}

// Identified is closed once everything was asked for the first time.
func (i *Instance) Identified() <-chan struct{} { return i.identified }

// Run asks what may be slow and returns once it is known, or ctx is done. At the first boot Beanstalk has not written
// yet what the instance is. Run asks ever more rarely, but each second while a caller awaits a fact. It does not fail.
func (i *Instance) Run(ctx context.Context, log *slog.Logger) {
	for wait := 2 * time.Second; ; wait = min(2*wait, 5*time.Minute) {
		old := i.facts.Load()
		f := Detect(ctx, i.options).Identify(ctx, i.options)
		i.facts.Store(&f)
		select {
		case <-i.identified:
		default:
			close(i.identified)
			log.Info("instance identified", "instance", f, "missing", f.Missing)
			old = &f
		}
		if !slices.Equal(old.Missing, f.Missing) {
			log.Info("instance identified further", "instance", f, "missing", f.Missing)
		}
		if f.complete(i.options) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
		select {
		case <-ctx.Done():
			return
		case <-i.wanted:
		case <-time.After(wait - time.Second):
		}
	}
}

// WebPIDs returns the processes that serve the application now, as the function of that name does.
func (i *Instance) WebPIDs(ctx context.Context) ([]int, error) {
	return WebPIDs(ctx, i.options, i.Facts().WebUnit)
}

// GetConfig asks Beanstalk's get-config, as the function of that name does.
func (i *Instance) GetConfig(ctx context.Context, args ...string) ([]byte, error) {
	return GetConfig(ctx, i.options, args...)
}

// VersionLabel reads which version of the application is deployed now.
func (i *Instance) VersionLabel() string { return host{i.options}.versionLabel() }

// Await waits until the facts satisfy ok, for limit at most, and reports whether they do.
func (i *Instance) Await(ctx context.Context, limit time.Duration, ok func(Facts) bool) bool {
	end := time.NewTimer(limit)
	defer end.Stop()
	look := time.NewTicker(250 * time.Millisecond)
	defer look.Stop()
	for !ok(i.Facts()) {
		select {
		case i.wanted <- struct{}{}:
		default:
		}
		select {
		case <-ctx.Done():
			return false
		case <-end.C:
			return ok(i.Facts())
		case <-look.C:
		}
	}
	return true
}
