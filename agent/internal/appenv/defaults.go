package appenv

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

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

// outside finds what ${NAME} of a .env file means besides the file itself: a variable of the sources before it, or one
// that every run has, as HOME and PATH. python-dotenv looks into its process's environment, which has the same. In
// root's own file the application's variables have no part, not as PATH either, because another user gets what root's
// file says. A virtualenv in PATH stays: for another user foreign drops what names it.
func (r *Resolver) outside(rd *reading, below bool) func(name string) (string, bool) {
	before := &rd.env
	if !below {
		before = rd.env.filter(func(_ *Var, theirs bool) bool { return !theirs })
	}
	var defaults Env
	asked := false // a file has ten thousands of names, and who the user is, is read from files
	return func(name string) (string, bool) {
		value, ok := before.Lookup(name)
		if ok {
			return value, true
		}
		if !asked {
			asked = true
			if user, _, err := r.user(rd.unit); err == nil {
				defaults.add("", File{Vars: r.defaults(rd, before, user)})
			}
		}
		value, ok = defaults.Lookup(name)
		rd.live = rd.live || ok // it depends on more than the files: not to be reused
		return value, ok
	}
}
