//go:build !linux

package collectors

import (
	"context"
	"fmt"
)

// Listen has no data here: only Linux tells the length of an accept queue.
type Listen struct {
	cfg   ListenConfig
	label []Label
	out   []Sample
}

// NewListen returns a Listen.
func NewListen(cfg ListenConfig) *Listen {
	cfg.complete()
	return &Listen{cfg: cfg, label: groupLabel(cfg.Name)}
}

// Name is "listen", and the group's name.
func (l *Listen) Name() string {
	if l.cfg.Name == "" {
		return "listen"
	}
	return "listen " + l.cfg.Name
}

// Close does nothing.
func (l *Listen) Close() error { return nil }

// Collect returns ErrNoData.
func (l *Listen) Collect(context.Context) ([]Sample, error) {
	return nil, fmt.Errorf("%w: this system does not tell accept queues", ErrNoData)
}
