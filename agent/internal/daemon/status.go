package daemon

import (
	"context"
	"fmt"
	"os"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/buildinfo"
	"beanstalk-agent/agent/internal/runs"
)

// Status is the one screen: each part says how it stands in lines of its own. For self, the agent's own watchdog, each
// part is asked for what it has in memory, to see that it answers, and nothing is shown: what the application can make
// slow, its files, its processes, its environment and its answers, must not end the agent. Nor is the supervisor asked,
// which has a watchdog of its own.
func (b *backend) Status(ctx context.Context, self bool) api.Status {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	s := api.Status{Version: buildinfo.Version(), PID: os.Getpid(), Started: b.started, Ready: true}
	if self {
		b.callers.Status(ctx)
		b.cron.OwnStatus()
		b.check.Status(ctx, false)
		b.drain.Status(ctx)
		b.metrics.Status(ctx)
		return s
	}
	answers := func(ctx context.Context) []api.Line { return b.check.Status(ctx, true) }
	for _, part := range []func(context.Context) []api.Line{
		b.app.Status, b.callers.Status, b.runLines, b.cron.Status, answers, b.drain.Status, b.metrics.Status,
	} {
		s.Lines = append(s.Lines, part(ctx)...)
	}
	return s
}

func (b *backend) runLines(ctx context.Context) []api.Line {
	info, err := b.runs.Info(ctx)
	if err != nil {
		hint := "sudo systemctl status agent-runs"
		return []api.Line{api.NewLine("runs", api.Bad, hint, "the supervisor does not answer: %v", err)}
	}
	live, err := b.runs.List(ctx, runs.Filter{Live: true})
	if err != nil {
		return []api.Line{api.NewLine("runs", api.Bad, "", "%v", err)}
	}
	for uid, n := range info.HeldUp {
		hint := "sudo journalctl -u agent-runs names the runs; end that user's processes; where they do not end:\n" +
			"echo 1 | sudo tee /sys/fs/fuse/connections/*/abort"
		return []api.Line{api.NewLine("runs", api.Warn, hint,
			"processes of user %d hold up %s of ended runs; with 16 no more of that user's start",
			uid, api.Count(n, "output"))}
	}
	text := fmt.Sprintf("%d running; contained by %s", len(live), info.Place)
	if info.Version != buildinfo.Version() {
		hint := "it is replaced when its last run ends"
		text += "; the supervisor is of version " + info.Version
		return []api.Line{api.NewLine("runs", api.Note, hint, "%s", text)}
	}
	return []api.Line{api.NewLine("runs", api.Good, "", "%s", text)}
}
