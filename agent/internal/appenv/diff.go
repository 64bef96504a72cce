package appenv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
)

// ErrNoWeb: there is no live web process to compare with.
var ErrNoWeb = errors.New("no web process is running")

// DiffState says how one variable differs.
type DiffState string

const (
	Same    DiffState = "same"
	Changed DiffState = "changed"  // both have it, with different values
	OnlyWeb DiffState = "only-web" // a run started now would not have it
	OnlyRun DiffState = "only-run" // the web process does not have it
)

// DiffVar is one variable as the live web processes have it and as a run started now would get it.
type DiffVar struct {
	Name  string    `json:"name"`
	State DiffState `json:"state"`
	PIDs  []int     `json:"pids,omitempty"` // the web processes in this state, when not all are

	web, run Var
}

// Values returns both values, "" where there is none. The caller answers for where they go.
func (v DiffVar) Values() (web, run string) { return v.web.Value(), v.run.Value() }

// Diff is the live web processes against what a run started now would get.
type Diff struct {
	PIDs   []int     `json:"pids"`             // the web processes that were read
	Unread []string  `json:"unread,omitempty"` // those that were not, with the reason
	Vars   []DiffVar `json:"vars"`             // by name; the same name again where web processes differ among themselves
}

// Differs reports whether any variable is not the same.
func (d Diff) Differs() bool {
	return slices.ContainsFunc(d.Vars, func(v DiffVar) bool { return v.State != Same })
}

// Diff compares, per variable, what each live web process was started with to what Profile gives a run started now.
// Variables that belong to a single process are left out: those systemd sets for one start of one service, those a
// shell sets on its way, those gunicorn hands to its successor (the list is ofOneProcess); and, where the unit names no
// user, those of the run's. What a process changed in itself after its start is not visible from outside. The error is
// ErrNoWeb, Profile's, or tells why no process could be read.
func (r *Resolver) Diff(ctx context.Context) (Diff, error) {
	profile, err := r.Profile(ctx, ProfileOptions{})
	if err != nil {
		return Diff{}, err
	}
	// php-fpm's master is root's, and its workers get their user's variables only after their start.
	unit := r.webUnit(map[string]stamp{})
	userless := unit.found && unit.user == ""
	pids, err := r.webPIDs(ctx)
	if err != nil {
		return Diff{}, err
	}
	var run []Var
	for _, a := range profile.Env {
		name, value, _ := strings.Cut(a, "=")
		run = append(run, NewVar(name, value))
	}
	var d Diff
	var byName []DiffVar
	for _, pid := range pids {
		web, err := r.readEnviron(pid)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it ended meanwhile
		}
		if err == nil && len(web) == 0 {
			err = errors.New("its environment is empty")
		}
		if err != nil {
			d.Unread = append(d.Unread, fmt.Sprintf("process %d: %v", pid, err))
			continue
		}
		d.PIDs = append(d.PIDs, pid)
		byName = append(byName, slices.DeleteFunc(compare(pid, web, run), func(v DiffVar) bool {
			return userless && v.State == OnlyRun && slices.Contains(ofUser, v.Name)
		})...)
	}
	if len(d.PIDs) == 0 && len(d.Unread) == 0 {
		return d, ErrNoWeb
	}
	if len(d.PIDs) == 0 {
		return d, fmt.Errorf("compare with the web process: %s", strings.Join(d.Unread, "; "))
	}
	d.Vars = fold(byName, len(d.PIDs))
	return d, nil
}

// ofUser are the variables that tell a process who its user is.
var ofUser = []string{"HOME", "LOGNAME", "USER", "SHELL"}

// compare is one process against the run.
func compare(pid int, web, run []Var) []DiffVar {
	rest := make(map[string]Var, len(run))
	for _, v := range run {
		rest[v.Name] = v
	}
	var out []DiffVar
	add := func(name string, state DiffState, web, run Var) {
		if !slices.Contains(ofOneProcess, name) {
			out = append(out, DiffVar{Name: name, State: state, PIDs: []int{pid}, web: web, run: run})
		}
	}
	for _, w := range web {
		ours, ok := rest[w.Name]
		delete(rest, w.Name)
		switch {
		case !ok:
			add(w.Name, OnlyWeb, w, Var{})
		case ours.Value() == w.Value():
			add(w.Name, Same, w, ours)
		default:
			add(w.Name, Changed, w, ours)
		}
	}
	for name, v := range rest {
		add(name, OnlyRun, Var{}, v)
	}
	return out
}

// fold joins the processes that have the same to say of a variable.
func fold(all []DiffVar, processes int) []DiffVar {
	slices.SortStableFunc(all, func(a, b DiffVar) int { return cmp.Compare(a.Name, b.Name) })
	var out []DiffVar
	for _, v := range all {
		i := slices.IndexFunc(out, func(o DiffVar) bool {
			return o.Name == v.Name && o.State == v.State && o.web.Value() == v.web.Value()
		})
		if i < 0 {
			out = append(out, v)
			continue
		}
		out[i].PIDs = append(out[i].PIDs, v.PIDs...)
	}
	for i := range out {
		if len(out[i].PIDs) == processes {
			out[i].PIDs = nil
		}
	}
	return out
}

// CompareProperties tells, by name only, where the environment and what `get-config environment` says now disagree:
// the deployment file is the truth for the web process, get-config for what the next deployment will write. Variables
// that only the environment has are the platform's own (PATH and the like) and no disagreement; nor are properties
// that systemd drops for their names. It runs get-config; it is for `doctor`.
func (r *Resolver) CompareProperties(ctx context.Context) ([]string, error) {
	if r.cfg.GetConfig == nil {
		return nil, errors.New("get-config is not on this host")
	}
	env, err := r.Resolve(ctx)
	if err != nil {
		return nil, err
	}
	out, err := r.cfg.GetConfig(ctx)
	if err != nil {
		return nil, err
	}
	file, err := parseProperties(out)
	if err != nil {
		return nil, fmt.Errorf("get-config environment: %w", err)
	}
	var found []string
	for _, v := range file.Vars {
		switch value, ok := env.Lookup(v.Name); {
		case !ok:
			found = append(found, v.Name+": get-config has it, the environment does not")
		case value != v.Value():
			found = append(found, v.Name+": get-config has another value than "+env.Source(v.Name))
		}
	}
	return found, nil
}
