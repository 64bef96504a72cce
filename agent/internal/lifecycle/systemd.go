package lifecycle

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Watchdog feeds systemd's watchdog (sd_notify(3), WATCHDOG=1) as long as
// alive says so: a process that hangs, or that cannot answer its own clients,
// stops being fed and is restarted. Where no watchdog is asked for it does
// nothing.
func Watchdog(ctx context.Context, log *slog.Logger, alive func(context.Context) error) error {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil || limit == 0 {
		return err
	}
	tick := time.NewTicker(limit / 3)
	defer tick.Stop()
	for {
		if err := check(ctx, limit/3, alive); err == nil {
			_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog) // systemd's not hearing it has its own consequence
		} else if ctx.Err() == nil {
			log.Error("not feeding the watchdog", "err", err)
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

// Ready tells systemd that the program is ready and how it stands in a few
// words; without systemd it does nothing.
func Ready(status string) {
	_, _ = daemon.SdNotify(false, fmt.Sprintf("%s\nSTATUS=%s", daemon.SdNotifyReady, status))
}

// Stopping tells systemd that an orderly stop has begun.
func Stopping() { _, _ = daemon.SdNotify(false, daemon.SdNotifyStopping) }
