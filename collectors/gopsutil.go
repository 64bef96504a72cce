package collectors

import (
	"context"

	"github.com/shirou/gopsutil/v3/common"
)

// gopsutilContext has gopsutil read the given /proc, whatever HOST_PROC in the
// agent's environment says. Only Linux has one.
func gopsutilContext(ctx context.Context, proc string) context.Context {
	return context.WithValue(ctx, common.EnvKey, common.EnvMap{common.HostProcEnvKey: proc})
}
