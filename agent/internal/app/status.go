package app

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/appfile"
	"beanstalk-agent/packaging"
)

// Status says what this host is, and where the environment comes from.
func (a *App) Status(ctx context.Context) []api.Line {
	return slices.Concat(a.hostLines(), a.addressLines(ctx), a.envLines(ctx))
}

func (a *App) hostLines() []api.Line {
	f := a.Facts()
	where := "not on Elastic Beanstalk: local mode"
	if f.Beanstalk {
		where = "environment " + cmp.Or(f.EnvironmentName, "not known")
		if f.InstanceID != "" {
			where += ", instance " + f.InstanceID
		}
		if label := a.inst.VersionLabel(); label != "" {
			where += ", application version " + label
		}
	}
	lines := []api.Line{api.NewLine("host", api.Good, "", "%s; application in %s", where, f.AppDir)}
	if f.Docker {
		lines = append(lines, api.NewLine("host", api.Bad, "",
			"a Docker platform: the application lives in a container, where cron and exec do not reach yet"))
	}
	if len(f.Missing) > 0 {
		lines = append(lines, api.NewLine("host", api.Note, "", "not found: %s", strings.Join(f.Missing, "; ")))
	}
	if _, err := os.Stat(f.AppDir); err == nil && f.Beanstalk && !f.Docker {
		exists := func(name string) bool { _, err := appfile.Stat(f.AppDir, name); return err == nil }
		for _, absent := range packaging.Absent(exists) {
			hint := "agent install --into . in the application's repository writes it"
			lines = append(lines, api.NewLine("host", api.Note, hint, "%s", absent))
		}
	}
	return lines
}

func (a *App) envLines(ctx context.Context) []api.Line {
	e, err := a.env.Resolve(ctx)
	if err != nil {
		hint := cmp.Or(appenv.Hint(err), "cron jobs and exec wait for it")
		return []api.Line{api.NewLine("environment", api.Bad, hint, "%v", err)}
	}
	var from []string
	for _, s := range e.Sources() {
		if s.State == "used" {
			from = append(from, fmt.Sprintf("%d from %s", s.Vars, s.Name))
		}
	}
	text := cmp.Or(strings.Join(from, ", "), "no variables: there is no .env")
	lines := []api.Line{api.NewLine("environment", api.Good, "", "%s", text)}
	for _, w := range e.Warnings() {
		lines = append(lines, api.NewLine("environment", api.Note, "", "%s", w))
	}
	return lines
}
