package platform

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// Instance is the facts as far as they are known by now: those of local files
// from the start, the rest once Run has asked for them. It is safe for
// concurrent use.
type Instance struct {
	options    Options
	facts      atomic.Pointer[Facts]
	identified chan struct{}
}

// NewInstance reads local files.
func NewInstance(ctx context.Context, o Options) *Instance {
	i := &Instance{options: o, identified: make(chan struct{})}
	f := Detect(ctx, o)
	i.facts.Store(&f)
	return i
}

// Facts returns what is known now.
func (i *Instance) Facts() Facts { return *i.facts.Load() }

// Identified is closed once everything that can be known is.
func (i *Instance) Identified() <-chan struct{} { return i.identified }

// Run asks what may be slow, once, and returns; it does not fail.
func (i *Instance) Run(ctx context.Context, log *slog.Logger) {
	f := i.Facts().Identify(ctx, i.options)
	i.facts.Store(&f)
	close(i.identified)
	log.Info("instance identified", "instance", f, "missing", f.Missing)
}

// VersionLabel reads which version of the application is deployed now.
func (i *Instance) VersionLabel() string {
	return Detect(context.Background(), i.options).VersionLabel
}
