package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/awsconf"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/launch"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/agent/internal/supervisor"
)

// Wiring: what one package says in the words of another. No package takes
// config.Config; these functions translate it.

func platformOptions(cfg config.Config) platform.Options {
	return platform.Options{
		AppDir: cfg.App.Dir, AppUser: cfg.App.User, Region: cfg.AWS.Region,
		IMDSEndpoint: os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
		NoIMDS:       strings.EqualFold(os.Getenv("AWS_EC2_METADATA_DISABLED"), "true"),
	}
}

func envConfig(cfg config.Config, inst *platform.Instance) appenv.Config {
	f, o := inst.Facts(), platformOptions(cfg)
	c := appenv.Config{
		AppDir: f.AppDir, User: cfg.App.User, EnvFiles: cfg.App.EnvFiles, // who it is when nobody says: appenv finds out at each start
		Beanstalk: f.Beanstalk, Docker: f.Docker, Systemd: appenv.SystemdVersion(f.Systemd),
		WebPIDs: func(ctx context.Context) ([]int, error) { return platform.WebPIDs(ctx, o, inst.Facts().WebUnit) },
	}
	if f.Beanstalk {
		c.GetConfig = func(ctx context.Context) ([]byte, error) { return platform.GetConfig(ctx, o, "environment") }
	}
	return c
}

// newAWS says as whom and where the agent itself speaks to AWS.
func newAWS(cfg config.Config) (*awsconf.AWS, error) {
	return awsconf.New(awsconf.Config{Region: cfg.AWS.Region, CloudWatchEndpoint: cfg.AWS.CloudWatchEndpoint, S3Endpoint: cfg.AWS.S3Endpoint})
}

func newLauncher(cfg config.Config, inst *platform.Instance, env *appenv.Resolver, runs *supervisor.Client, who *claims, log *slog.Logger) *launch.Launcher {
	exe, _ := os.Executable()
	return &launch.Launcher{Profile: env.Profile, Runs: runs, Version: inst.VersionLabel, Host: func() string { return hostName(inst) }, Claims: who, Audit: cfg.Exec.Audit, Log: log,
		Idle: cfg.Exec.Idle, Session: cfg.Exec.Session, NoNewPrivs: cfg.Exec.NoNewPrivileges,
		Poster: launch.Poster{Exe: exe, Env: func(ctx context.Context) []string {
			var headers []string
			for k, v := range cfg.Health.Headers {
				headers = append(headers, k+": "+v)
			}
			host, _ := healthHost(ctx, cfg, env)
			from, _ := origin(ctx, cfg, inst, env)
			return []string{postTarget + "=" + strings.TrimSuffix(from, ":"), postHost + "=" + host, postHeaders + "=" + strings.Join(headers, "\n")}
		}}}
}

// hostName is how people know this instance.
func hostName(inst *platform.Instance) string {
	if id := inst.Facts().InstanceID; id != "" {
		return id
	}
	name, _ := os.Hostname()
	return name
}

// newEnds is to be called before anything can be run.
func newEnds(cfg config.Config, runs *supervisor.Client, cron *cronParts, log *slog.Logger) *launch.Ends {
	return &launch.Ends{Events: runs.Events, File: filepath.Join(cfg.StateDir, "told"), Fresh: noRuns(cfg, runs), Log: log,
		Last:  func(ctx context.Context) (uint64, error) { i, err := runs.Info(ctx); return i.LastSeq, err },
		Began: cron.began,
		Tell:  func(r supervisor.Run) { launch.Ended(log, r); cron.ended(r) }}
}

// noRuns reports whether there is nothing where the supervisor keeps its runs.
func noRuns(cfg config.Config, runs *supervisor.Client) bool {
	dir := cfg.StateDir
	if runs.Socket == systemSupervisor {
		dir = systemState
	}
	found, err := os.ReadDir(filepath.Join(dir, "runs"))
	return len(found) == 0 && (err == nil || errors.Is(err, fs.ErrNotExist))
}
