package appenv

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"beanstalk-agent/agent/internal/strictpath"
)

// loaders are the beginnings of variables that make a program run other code, or read other files, than it would.
// Sources: sudo's list of what it removes (plugins/sudoers/env.c), glibc's for setuid programs
// (sysdeps/generic/unsecvars.h), and the manuals of the interpreters.
var loaders = []string{
	"LD_", "DYLD_", "_RLD", "LDR_", "LIBPATH=", "SHLIB_PATH=", "GCONV_PATH=", "GETCONF_DIR=", "GLIBC_",
	"HOSTALIASES=", "LOCALDOMAIN=", "LOCPATH=", "NLSPATH=", "MALLOC_", "NIS_PATH=", "RES_OPTIONS=", "RESOLV_",
	"TZDIR=", "TMPDIR=", "TERMINFO", "TERMPATH=", "TERMCAP=", "KRB5", "IFS=", "ENV=", "CDPATH=", "BASH",
	"SHELLOPTS=", "GLOBIGNORE=", "PS4=", "PROMPT_COMMAND=", "FPATH=", "NULLCMD=", "READNULLCMD=", "ZDOTDIR=",
	"PYTHON", "VIRTUAL_ENV", "PERL", "RUBY", "GEM_", "BUNDLE_", "NODE_", "NPM_", "npm_", "JAVA_", "_JAVA_", "JDK_",
	"CLASSPATH=", "CATALINA_", "DOTNET_", "CORECLR_", "COMPlus_", "PHPRC=", "PHP_INI_", "COMPOSER_", "LUA_",
	"TCLLIBPATH=", "ERL_", "GOFLAGS=", "GOENV=", "OPENSSL_", "SSL_", "SSLKEYLOGFILE=", "GIT_", "SSH_", "SUDO_",
	"EDITOR=", "VISUAL=", "PAGER=", "MANPAGER=", "BROWSER=", "LESS", "XDG_", "PGSERVICEFILE=", "PGSYSCONFDIR=",
	"PSQL", "MYSQL_HOME=", "AWS_CONFIG_FILE=", "AWS_SHARED_", "KUBECONFIG=", "DOCKER_CONFIG=", "CURL_", "WGETRC=",
	"INPUTRC=",
}

// foreign is what another user than the application's gets of its environment: what root says, as Beanstalk's
// properties and the unit are, and of that nothing by which that user would run, or read, what the application can
// write. The application's own user could make him, root too, run its code otherwise.
func (r *Resolver) foreign(e *Env) *Env {
	kept := e.filter(func(v *Var, theirs bool) bool {
		switch {
		case theirs, slices.Contains(ofUser, v.Name),
			slices.ContainsFunc(loaders, func(l string) bool { return strings.HasPrefix(v.Name+"=", l) }):
			return false
		case v.Name == "PATH":
			dirs := slices.DeleteFunc(filepath.SplitList(v.Value()),
				func(dir string) bool { return !r.rootsAlone(dir) })
			*v = NewVar("PATH", strings.Join(dirs, ":"))
			return len(dirs) > 0
		}
		return !r.namesApplication(v.Value())
	})
	kept.foreign = true
	return kept
}

// rootsAlone reports whether only root can put something into dir, or another directory in its place.
func (r *Resolver) rootsAlone(dir string) bool {
	way, err := strictpath.Follow(r.path("/"), dir)
	return err == nil && filepath.IsAbs(dir) && r.intruder(way, 0) == ""
}

// namesApplication reports whether a value has a path of the application's in it: its directory, or on Beanstalk its
// virtualenv.
func (r *Resolver) namesApplication(value string) bool {
	dirs := []string{r.cfg.AppDir, r.path("/var/app") + "/"}
	if real, err := filepath.EvalSymlinks(r.cfg.AppDir); err == nil {
		dirs = append(dirs, real)
	}
	return slices.ContainsFunc(dirs, func(dir string) bool { return strings.Contains(value, dir) })
}

// homeDir is where another user's run starts.
func homeDir(u User) string {
	if info, err := os.Stat(u.Home); err == nil && info.IsDir() && filepath.IsAbs(u.Home) {
		return filepath.Clean(u.Home)
	}
	return "/"
}
