//go:build !linux

package platform

import (
	"context"
	"errors"
)

// WebPIDs needs Linux's cgroups.
func WebPIDs(context.Context, Options, string) ([]int, error) {
	return nil, errors.New("the web process can be found on Linux only")
}
