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

// DiffState is how one variable differs.
type DiffState string

const (
	Same    DiffState = "same"
	Changed DiffState = "changed"  // both have it, with different values
	OnlyWeb DiffState = "only-web" // a run started now would not have it
	OnlyRun DiffState = "only-run" // the web process does not have it
)

// DiffVar is one variable of the live web processes beside that of a run started now.
type DiffVar struct {
	Name  string    `json:"name"`
	State DiffState `json:"state"`
	PIDs  []int     `json:"pids,omitempty"` // the web processes in this state, when not all are

	web, run Var
}

// Values returns both values, "" where there is none. The caller must keep them secret.
func (v DiffVar) Values() (web, run string) { return v.web.Value(), v.run.Value() }

// Diff compares the live web processes with a run started now.
type Diff struct {
	PIDs   []int     `json:"pids"`             // the web processes read
	Unread []string  `json:"unread,omitempty"` // those not read, with the reason
	Vars   []DiffVar `json:"vars"`             // by name; a name again where web processes differ from each other
}

// Diff compares each variable that a live web process was started with to Profile's for a run started now. It leaves
// out the variables of a single process (ofOneProcess) and, where the unit names no user, those of the run's user. A
// process's changes to its own environment are not visible. The error is ErrNoWeb, Profile's, or why no process could
// be read.
func (r *Resolver) Diff(ctx context.Context) (Diff, error) {
	profile, err := r.Profile(ctx, ProfileOptions{})
	if err != nil {
		return Diff{}, err
	}
	// php-fpm's master runs as root, and its workers set their user's variables only after their start.
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
	ctx, cancel := context.WithTimeout(ctx, environsTime)
	defer cancel()
	var d Diff
	var byName []DiffVar
	for _, pid := range pids {
		web, err := r.readEnviron(ctx, pid)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended
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
	d.Vars = mergeProcesses(byName, len(d.PIDs))
	return d, nil
}

// compare compares one process with the run.
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

// mergeProcesses joins the processes that have a variable in the same state.
func mergeProcesses(all []DiffVar, processes int) []DiffVar {
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
