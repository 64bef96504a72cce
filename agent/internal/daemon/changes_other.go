//go:build !linux

package daemon

import "context"

func changes(ctx context.Context, _ []string, look func()) error { return eachSecond(ctx, look) }
