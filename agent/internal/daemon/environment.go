package daemon

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/appenv"
)

// Environment is the answer to `agent env`.
func (b *backend) Environment(ctx context.Context, names []string, values bool) (api.Environment, error) {
	p, err := b.app.Env().Profile(ctx, appenv.ProfileOptions{})
	if err != nil {
		return api.Environment{}, api.Unavailable(err)
	}
	sources, err := b.app.Env().Resolve(ctx)
	if err != nil {
		return api.Environment{}, api.Unavailable(err)
	}
	out := api.Environment{Variables: []api.Variable{}, Warnings: slices.Concat(p.Warnings, sources.Notes())}
	for _, assignment := range p.Env {
		name, value, _ := strings.Cut(assignment, "=")
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		v := api.Variable{Name: name, Length: len(value), Source: sources.Source(name)}
		if v.Source == "" {
			v.Source = "this host"
		}
		if values {
			v.Value = &value
		}
		out.Variables = append(out.Variables, v)
	}
	return out, nil
}

// EnvironmentDiff is the answer to `agent env --diff`.
func (b *backend) EnvironmentDiff(ctx context.Context, values bool) (api.EnvironmentDiff, error) {
	d, err := b.app.Env().Diff(ctx)
	if err != nil && !b.app.Facts().Beanstalk {
		return api.EnvironmentDiff{}, &api.Error{Status: http.StatusServiceUnavailable, Message: err.Error(),
			Hint: "only on Elastic Beanstalk is it known which process that is"}
	}
	if err != nil {
		return api.EnvironmentDiff{}, api.Unavailable(err)
	}
	out := api.EnvironmentDiff{PIDs: d.PIDs, Unread: d.Unread, Differences: []api.Difference{}}
	for _, v := range d.Vars {
		if v.State == appenv.Same {
			out.Same++
			continue
		}
		diff := api.Difference{Name: v.Name, Kind: string(v.State)}
		if values {
			web, here := v.Values()
			if v.State != appenv.OnlyRun {
				diff.Web = &web
			}
			if v.State != appenv.OnlyWeb {
				diff.Here = &here
			}
		}
		out.Differences = append(out.Differences, diff)
	}
	return out, nil
}
