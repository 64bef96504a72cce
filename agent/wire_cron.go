package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/awsconf"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/cron"
	"beanstalk-agent/agent/internal/launch"
	"beanstalk-agent/agent/internal/notify"
	"beanstalk-agent/agent/internal/runs"
)

// wallClock is what the scheduler goes by. Tests of clocks that differ, or are set, replace it.
var wallClock = time.Now

func newCron(cfg config.Config, a *app.App, aws *awsconf.AWS, client *runs.Client, l *launch.Launcher, log *slog.Logger) (*cron.Cron, error) {
	zone, err := time.LoadLocation(cfg.Cron.Timezone)
	if err != nil {
		return nil, err
	}
	files := []string{cfg.Cron.File}
	if cfg.Cron.File == config.Default().Cron.File {
		files = append(files, "crontab")
	}
	return cron.New(cron.Config{App: a, AWS: aws, Runs: client, Begin: l.Begin, Log: log,
		Files: files, Location: zone, Claims: cfg.Cron.Claims, Limit: cfg.Cron.Limit,
		StateDir: cfg.StateDir, HoldFile: strings.TrimSuffix(cfg.Socket, ".sock") + "-held", NoRuns: noRuns(cfg, client),
		Notify: notifyTargets(cfg), Cooldown: cfg.Cooldown, Now: wallClock})
}

func notifyTargets(cfg config.Config) (list []notify.Target) {
	for _, t := range cfg.Notify {
		target := notify.Target{Type: notify.Type(t.Type), Name: t.Name, URL: t.URL, StartURL: t.StartURL, FailURL: t.FailURL,
			Token: t.Token, Jobs: t.Jobs, Tail: t.Output}
		for _, on := range t.On {
			target.On = append(target.On, notify.Kind(on))
		}
		list = append(list, target)
	}
	return list
}

// cronFaults reports, with its line, what newCron would refuse, or what would make every slot be missed.
func cronFaults(c config.Config, fault func(key, format string, a ...any)) {
	if err := cron.CheckClaims(c.Cron.Claims); err != nil {
		fault("cron.claims", "%v", err)
	}
	for i, t := range notifyTargets(c) {
		t.Check(func(key, format string, a ...any) {
			fault(fmt.Sprintf("notify[%d].%s", i, key), format, a...)
		})
	}
}

// noRuns reports whether there is nothing where the supervisor keeps its runs.
func noRuns(cfg config.Config, client *runs.Client) bool {
	dir := cfg.StateDir
	if client.Socket == runs.SystemSocket {
		dir = systemState
	}
	found, err := os.ReadDir(filepath.Join(dir, "runs"))
	return len(found) == 0 && (err == nil || errors.Is(err, fs.ErrNotExist))
}
