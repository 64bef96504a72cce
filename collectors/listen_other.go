//go:build !linux

package collectors

import (
	"context"
	"fmt"
)

// Listen has no data here: only Linux tells the length of an accept queue.
type Listen struct{ cfg ListenConfig }

// NewListen returns a Listen.
func NewListen(cfg ListenConfig) *Listen {
	cfg.complete()
	return &Listen{cfg}
}

// Name is "listen", and the group's name.
func (l *Listen) Name() string { return l.cfg.collector() }

// Close does nothing.
func (l *Listen) Close() error { return nil }

// Collect returns ErrNoData.
func (l *Listen) Collect(context.Context) ([]Sample, error) {
	return nil, fmt.Errorf("%w: this system does not show accept queues", ErrNoData)
}
