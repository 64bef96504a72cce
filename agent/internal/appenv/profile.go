package appenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Profile is what a run started now inherits. Dir and Umask are those of the web process.
type Profile struct {
	Env      Environ // every name once, in order
	Dir      string  // absolute, without symlinks: `current` may point elsewhere later
	User     User
	Umask    int
	Warnings []string // never with a value
}

// ProfileOptions are the options of one run. All are optional.
type ProfileOptions struct {
	User   string   // another user than the application's; the caller has checked permission
	AppEnv bool     // that user gets all of the application's environment and its directory, too
	Dir    string   // relative to the application's directory, or absolute; only the command itself looks at it
	Extra  []string // NAME=value, a job's own environment: replaces all others, in order
	Writer Writer   // of the file that names the command
}

// The PATH of a service for which no source sets one (systemd's path-util.h): where /bin is /usr/bin, as on Amazon
// Linux, and where it may not be, as on Debian. Local mode uses the second one.
const (
	mergedPath  = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
	defaultPath = mergedPath + ":/sbin:/bin"
)

// Profile resolves what a run started now would get: PATH (with a virtualenv of this host first), LANG, HOME, LOGNAME,
// USER and SHELL, then the application's environment. In this order systemd builds a service's environment, so the
// application's own values win. HOME is left out when it is / and SHELL for a user without login shell, where systemd
// does so. Nothing is taken from the agent's own environment.
//
// Without ProfileOptions.User and Config.User the user is, on Beanstalk, the web unit's, else webapp if it exists; in
// local mode, for a root agent, the owner of the application's directory (see owner); else the agent's own. Unless
// AppEnv says otherwise, another user gets nothing by which the application could make him run its code (see foreign).
func (r *Resolver) Profile(ctx context.Context, o ProfileOptions) (Profile, error) {
	rd, err := r.read(ctx)
	if err != nil {
		return Profile{}, err
	}
	app, err := r.appDir(ctx)
	if err != nil {
		return Profile{}, err
	}
	env, warnings := &rd.env, rd.env.Warnings()
	user, byOwner, err := r.user(rd.unit)
	for _, w := range append(slices.Clip(rd.writers), o.Writer) {
		if err == nil {
			err = r.speaksFor(w, user.UID)
		}
	}
	dir := app
	if o.User != "" {
		asked, askedErr := r.namedUser(o.User, rd.unit)
		if another := err != nil || asked.UID != user.UID; another && !o.AppEnv {
			env, dir = r.foreign(env), homeDir(asked)
		}
		user, byOwner, err = asked, false, askedErr
	}
	if err != nil {
		return Profile{}, err
	}
	if byOwner && user.UID == 0 {
		warnings = append(warnings, fmt.Sprintf("commands run as root, because root owns %s", app))
	}
	if filepath.IsAbs(o.Dir) {
		dir = o.Dir
	} else if o.Dir != "" {
		dir = filepath.Join(app, o.Dir)
	}
	extra, err := parseExtra(o.Extra)
	if err != nil {
		return Profile{}, err
	}
	defaults := slices.DeleteFunc(r.defaults(rd, env, user), rd.unit.unsets)
	own := env.vars
	if rd.process && o.User != "" { // a process has its user's variables, a file rarely
		own = slices.DeleteFunc(slices.Clone(own), func(v Var) bool { return slices.Contains(ofUser, v.Name) })
	}
	vars := merge(defaults, own, extra)
	p := Profile{Env: make(Environ, len(vars)), Dir: dir, User: user, Umask: 0o022, Warnings: warnings}
	if r.cfg.Beanstalk {
		p.Umask = rd.unit.umask
	}
	for i, v := range vars {
		p.Env[i] = v.Assignment()
	}
	return p, nil
}

// appDir returns the application's real directory. A deployment removes and renames it within some milliseconds
// (5 measured in an engine log), so on Beanstalk a missing one is retried for a quarter of a second.
func (r *Resolver) appDir(ctx context.Context) (string, error) {
	for deadline := time.Now().Add(250 * time.Millisecond); ; {
		dir, err := realDir(r.cfg.AppDir)
		if err == nil && r.cfg.Beanstalk && isEmpty(dir) {
			err = fs.ErrNotExist
		}
		switch {
		case err == nil:
			return dir, nil
		case !errors.Is(err, fs.ErrNotExist) || !r.cfg.Beanstalk:
			return "", fmt.Errorf("the application's directory: %w", err)
		case time.Now().After(deadline):
			return "", ErrNotDeployed
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// realDir returns a directory's path without symlinks.
func realDir(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return "", readError(dir, err)
	}
	info, err := os.Stat(real)
	switch {
	case err != nil:
		return "", readError(dir, err)
	case !info.IsDir():
		return "", fmt.Errorf("%q is not a directory", dir)
	}
	return real, nil
}

func isEmpty(dir string) bool {
	d, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer d.Close()
	_, err = d.Readdirnames(1)
	return err == io.EOF
}

// User is as whom the application's commands run now.
func (r *Resolver) User(context.Context) (User, error) {
	if r.cfg.Docker {
		return User{}, ErrDocker
	}
	var web unit
	if r.cfg.Beanstalk {
		web = r.webUnit(map[string]stamp{})
	}
	u, _, err := r.user(web)
	return u, err
}

// parseExtra checks a job's own assignments.
func parseExtra(extra []string) ([]Var, error) {
	var vars []Var
	var faults Faults
	for _, a := range extra {
		name, value, ok := strings.Cut(a, "=")
		v := NewVar(name, value)
		switch f := checkSize(v); {
		case !ok || name == "":
			faults = append(faults, Fault{File: "env", Problem: "expected NAME=value"})
		case strings.IndexByte(a, 0) >= 0:
			faults = append(faults, Fault{File: "env", Name: nameOnly(name), Problem: nulProblem})
		case !utf8.ValidString(a):
			faults = append(faults, Fault{File: "env", Name: nameOnly(name), Problem: "is not valid UTF-8"})
		case f != nil:
			f.File = "env"
			faults = append(faults, *f)
		default:
			vars = append(vars, v)
		}
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return vars, nil
}
