//go:build !linux

package collectors

import (
	"context"
	"fmt"
)

// OOM has no data here: only Linux counts such kills.
type OOM struct{}

// NewOOM returns an OOM.
func NewOOM(OOMConfig) *OOM { return &OOM{} }

// Name is "oom".
func (o *OOM) Name() string { return "oom" }

// Close does nothing.
func (o *OOM) Close() error { return nil }

// Collect returns ErrNoData.
func (o *OOM) Collect(context.Context) ([]Sample, error) {
	return nil, fmt.Errorf("%w: this system does not count kills for want of memory", ErrNoData)
}
