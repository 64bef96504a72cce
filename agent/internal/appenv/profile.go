package appenv

import (
	"cmp"
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
	defaults := slices.DeleteFunc(r.defaults(rd, env, user), func(v Var) bool {
		return slices.Contains(rd.unit.unset, v.Name) || slices.Contains(rd.unit.unset, v.Assignment())
	})
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

// user chooses the user of the application's runs. The unit's groups apply to the unit's user only.
func (r *Resolver) user(web unit) (u User, byOwner bool, err error) {
	name := r.cfg.User
	if name == "" && r.cfg.Beanstalk {
		name = web.user
		if _, err := r.LookupUser(defaultUser); name == "" && err == nil {
			name = defaultUser
		}
	}
	switch self := uint32(os.Geteuid()); {
	case name != "":
		u, err = r.namedUser(name, web)
		return u, false, err
	case self != 0:
		u, err = r.userByID(self, uint32(os.Getegid()))
		return u, false, err
	}
	uid, gid, err := r.owner()
	if err != nil {
		return User{}, false, err
	}
	u, err = r.userByID(uid, gid)
	return u, true, err
}

// namedUser is a user as whom this agent can run commands.
func (r *Resolver) namedUser(name string, web unit) (User, error) {
	u, err := r.LookupUser(name)
	if self := uint32(os.Geteuid()); err == nil && self != 0 && u.UID != self {
		err = fmt.Errorf("run as %q: the agent is not root, so it can run commands only as itself", name)
	}
	if err == nil && name == web.user {
		err = r.unitGroups(&u, web)
	}
	return u, err
}

// defaults are a service's variables before its own files, in systemd's order: the manager's by name, then the user's.
func (r *Resolver) defaults(rd *reading, env *Env, u User) []Var {
	vars := merge(r.locale(), []Var{NewVar("PATH", r.searchPath(env, u))}, rd.all)
	slices.SortFunc(vars, func(a, b Var) int { return cmp.Compare(a.Name, b.Name) })
	home, shell := u.Home, u.Shell
	if r.cfg.Systemd != AmazonLinux2 { // which passes them on unchanged
		if home, shell = clean(home), clean(shell); slices.Contains(noLogin, filepath.Base(shell)) {
			shell = ""
		}
		if home == "/" && r.cfg.Beanstalk {
			home = ""
		}
	}
	if home != "" {
		vars = append(vars, NewVar("HOME", home))
	}
	vars = append(vars, NewVar("LOGNAME", u.Name), NewVar("USER", u.Name))
	if shell != "" {
		vars = append(vars, NewVar("SHELL", shell))
	}
	return vars
}

// clean is filepath.Clean, but keeps "".
func clean(path string) string {
	if path == "" {
		return ""
	}
	return filepath.Clean(path)
}

// searchPath is the application's own PATH unchanged, else the default, for its own user with a virtualenv before it.
// Where that user is root, the virtualenv must be root's, as the application's directory is: another's would make root
// run his programs.
func (r *Resolver) searchPath(env *Env, u User) string {
	if path, ok := env.Lookup("PATH"); ok {
		return path
	}
	base := defaultPath
	release, err := r.texts.read(r.path("/etc/os-release"))
	if err == nil && strings.Contains(release, "\nID=\"amzn\"") {
		base = mergedPath
	}
	if env.foreign {
		return base
	}
	if venv := r.venvBin(env, u); venv != "" && (u.UID != 0 || r.rootsAlone(venv)) {
		return venv + ":" + base
	}
	return base
}

// noLogin are the shells of users who cannot log in.
var noLogin = []string{"nologin", "false", "true"}

// locales are the variables that systemd reads there; LC_ALL is not one of them.
var locales = []string{"LANG", "LANGUAGE", "LC_CTYPE", "LC_NUMERIC", "LC_TIME", "LC_COLLATE", "LC_MONETARY",
	"LC_MESSAGES", "LC_PAPER", "LC_NAME", "LC_ADDRESS", "LC_TELEPHONE", "LC_MEASUREMENT", "LC_IDENTIFICATION"}

// locale is what systemd gives every service: /etc/locale.conf, or Debian's file, else its built-in default.
func (r *Resolver) locale() []Var {
	for _, path := range []string{"/etc/locale.conf", "/etc/default/locale"} {
		data, err := r.texts.read(r.path(path))
		if err != nil || len(data) > maxFile {
			continue
		}
		file, err := ParseSystemd([]byte(data), r.cfg.Systemd)
		vars := slices.DeleteFunc(file.Vars, func(v Var) bool {
			return v.Value() == "" || !slices.Contains(locales, v.Name)
		})
		if err == nil && len(vars) > 0 {
			return vars
		}
	}
	if r.cfg.Systemd == AmazonLinux2 {
		return nil // it had no built-in default
	}
	return []Var{NewVar("LANG", "C.UTF-8")}
}

// venvBin finds the virtualenv's programs: in the folder that PYTHONPATH names (on Beanstalk the virtualenv's bin),
// else the newest of /var/app/venv/*, else the application's own .venv or venv. The folder's name differs between
// platforms, and an old one may be beside it. What its user cannot see is not there: these are links of his, perhaps.
func (r *Resolver) venvBin(env *Env, u User) string {
	var found []string
	if p, ok := env.Lookup("PYTHONPATH"); ok {
		for dir := range strings.SplitSeq(p, ":") {
			if filepath.IsAbs(dir) && filepath.Base(dir) == "bin" {
				found = append(found, dir)
			}
		}
	}
	globbed, _ := filepath.Glob(r.path("/var/app/venv/*/bin"))
	slices.SortFunc(globbed, func(a, b string) int { return modTime(b).Compare(modTime(a)) })
	found = append(found, globbed...)
	found = append(found, filepath.Join(r.cfg.AppDir, ".venv/bin"), filepath.Join(r.cfg.AppDir, "venv/bin"))
	for _, dir := range found {
		if r.Executes(u, filepath.Join(dir, "python")) {
			return dir
		}
	}
	return ""
}

func modTime(path string) time.Time {
	info, err := os.Lstat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
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
