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
	reading, cancel := context.WithTimeout(ctx, environsTime)
	defer cancel()
	var d Diff
	all := comparison{at: map[found]int{}}
	for _, pid := range pids {
		web, err := r.readEnviron(reading, pid)
		if ctx.Err() != nil {
			return d, ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended
		}
		if err == nil && len(web) == 0 {
			err = errors.New("its environment is empty")
		}
		if err == nil {
			err = all.add(slices.DeleteFunc(compare(pid, web, run), func(v DiffVar) bool {
				return userless && v.State == OnlyRun && slices.Contains(ofUser, v.Name)
			}))
		}
		if err != nil {
			d.Unread = append(d.Unread, fmt.Sprintf("process %d: %v", pid, err))
			continue
		}
		d.PIDs = append(d.PIDs, pid)
	}
	if len(d.PIDs) == 0 && len(d.Unread) == 0 {
		return d, ErrNoWeb
	}
	if len(d.PIDs) == 0 {
		return d, fmt.Errorf("compare with the web process: %s", strings.Join(d.Unread, "; "))
	}
	d.Vars = all.all(len(d.PIDs))
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
			add(ours.Name, Same, ours, ours) // the web process's copy is not kept
		default:
			add(w.Name, Changed, w, ours)
		}
	}
	for name, v := range rest {
		add(name, OnlyRun, Var{}, v)
	}
	return out
}

// maxDiff is the most memory that the differences of all web processes take; one process can have maxEnviron bytes. One
// with maxEnviron bytes in maxEnvironVars variables fits.
const maxDiff = 8 << 20

var errDiffFull = fmt.Errorf("too many variables: the differences of all processes exceed %d MB", maxDiff>>20)

// comparison is what was found in the web processes so far: one variable for each name, state and value.
type comparison struct {
	vars []DiffVar
	at   map[found]int // in vars
	size int           // about, in bytes
}

type found struct {
	name  string
	state DiffState
	web   string
}

// add joins a process to those that have a variable in the same state. It adds all of vars or, as an error, none.
func (c *comparison) add(vars []DiffVar) error {
	const perVar, perPID = 400, 16
	size := c.size
	for _, v := range vars {
		if _, ok := c.at[v.found()]; !ok {
			size += perVar + len(v.Name) + len(v.web.Value())
		}
		size += perPID
	}
	if size > maxDiff {
		return errDiffFull
	}
	c.size = size
	for _, v := range vars {
		i, ok := c.at[v.found()]
		if !ok {
			c.at[v.found()] = len(c.vars)
			c.vars = append(c.vars, v)
			continue
		}
		c.vars[i].PIDs = append(c.vars[i].PIDs, v.PIDs...)
	}
	return nil
}

func (v DiffVar) found() found { return found{v.Name, v.State, v.web.Value()} }

// all is what was found in so many processes, by name.
func (c *comparison) all(processes int) []DiffVar {
	slices.SortStableFunc(c.vars, func(a, b DiffVar) int { return cmp.Compare(a.Name, b.Name) })
	for i := range c.vars {
		if len(c.vars[i].PIDs) == processes {
			c.vars[i].PIDs = nil
		}
	}
	return c.vars
}
