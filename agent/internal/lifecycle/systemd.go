package lifecycle

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Watchdog notifies systemd's watchdog (sd_notify(3), WATCHDOG=1) as long as alive returns nil: systemd restarts a
// process that hangs or cannot answer its own clients. Without a configured watchdog it asks for one of the limit own
// (WATCHDOG_USEC=, systemd 236); 0, or without systemd: none.
func Watchdog(ctx context.Context, log *slog.Logger, own time.Duration, alive func(context.Context) error) error {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return err
	}
	if limit == 0 && own != 0 {
		sent, err := daemon.SdNotify(false, fmt.Sprintf("WATCHDOG_USEC=%d", own.Microseconds()))
		if err != nil || !sent {
			return err
		}
		limit = own
	}
	if limit == 0 {
		return nil
	}
	tick := time.NewTicker(limit / 3)
	defer tick.Stop()
	for {
		if err := check(ctx, limit/3, alive); err == nil {
			_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog) // without it systemd restarts us
		} else if ctx.Err() == nil {
			log.Error("watchdog not notified", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func check(ctx context.Context, limit time.Duration, alive func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return alive(ctx)
}

// Ready tells systemd that the program is ready, with a short status. Without systemd it does nothing.
func Ready(status string) {
	_, _ = daemon.SdNotify(false, fmt.Sprintf("%s\nSTATUS=%s", daemon.SdNotifyReady, status))
}

// Extend has systemd wait so long from now for the end of a stop, also beyond TimeoutStopSec= (EXTEND_TIMEOUT_USEC=,
// systemd 236; an older one ignores it). It shortens nothing.
func Extend(limit time.Duration) {
	_, _ = daemon.SdNotify(false, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", limit.Microseconds()))
}

// Stopping tells systemd that an orderly stop has begun.
func Stopping() { _, _ = daemon.SdNotify(false, daemon.SdNotifyStopping) }
