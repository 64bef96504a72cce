package appenv

import (
	"os"
	"slices"
	"strings"
	"testing"

	"beanstalk-agent/packaging/testbed/gotool"
)

// `agent exec -u root -- id` ran the application's .venv/bin/id as root, with the LD_PRELOAD of its .env file.
func TestAnotherUserRunsNothingOfTheApplications(t *testing.T) {
	in := local(t)
	in.write(t, "/home/web/app/.env", "LD_PRELOAD=./x.so\nPATH=/home/web/bin\nHARMLESS=1\nUSER=web\n")
	in.own(t, "/home/web/app/.env", web)
	in.program(t, "/home/web/app/.venv/bin/python")
	in.write(t, "/root/x", "")
	r := New(in.cfg)
	p, err := r.Profile(t.Context(), ProfileOptions{User: "root", Extra: []string{"PYTHONPATH=/typed", "HARMLESS=typed"}})
	want := "HARMLESS=typed HOME=/root LANG=C.UTF-8 LOGNAME=root PATH=" + defaultPath + " PYTHONPATH=/typed SHELL=/bin/bash USER=root"
	if got := sorted(p.Env); err != nil || got != want || p.Dir != "/root" {
		t.Errorf("in %q: %s, %v\nwant %s", p.Dir, got, err, want)
	}
	p, err = r.Profile(t.Context(), ProfileOptions{User: "victim"})
	if got := sorted(p.Env); err != nil || strings.Contains(got, "x.so") || strings.Contains(got, ".venv") || p.Dir != "/" {
		t.Errorf("victim, whose home is not there, in %q: %s, %v", p.Dir, got, err)
	}
	for _, o := range []ProfileOptions{{User: "web"}, {}, {User: "root", AppEnv: true}} {
		p, err := r.Profile(t.Context(), o)
		if v, _ := p.Env.Lookup("LD_PRELOAD"); err != nil || v != "./x.so" || p.Dir != in.cfg.AppDir {
			t.Errorf("%+v: %q in %q, %v", o, v, p.Dir, err)
		}
	}
	if p, err := r.Profile(t.Context(), ProfileOptions{User: "root", Dir: "."}); err != nil || p.Dir != in.cfg.AppDir {
		t.Errorf("the directory that was asked for: %q, %v", p.Dir, err)
	}
}

// What root says of the application's environment is root's, but may name what the application can write.
func TestAnotherUserGetsWhatRootSays(t *testing.T) {
	if os.Geteuid() != 0 {
		gotool.Need(t, "root, to be another user")
	}
	in := newInstance(t)
	in.cfg.User = ""
	in.write(t, "/usr/bin/x", "")
	in.program(t, "/var/app/venv/staging-abc/bin/python")
	in.own(t, "/var/app/current", web)
	in.own(t, "/var/app/venv/staging-abc/bin", web)
	in.write(t, DefaultDeploymentEnv, strings.Join([]string{"DATABASE_URL=postgres://h/d", "PYTHONPATH=/x", "PYTHONSTARTUP=x", "LD_LIBRARY_PATH=/x", "LD_AUDIT=x",
		"NODE_OPTIONS=--require=x", "NODE_PATH=x", "RUBYOPT=-rx", "RUBYLIB=x", "PERL5LIB=x", "PERL5OPT=-Mx", "BASH_ENV=x", "ENV=x", "ENVIRONMENT=prod",
		"GCONV_PATH=x", "GLIBC_TUNABLES=x", "JAVA_TOOL_OPTIONS=-javaagent:x", "OPENSSL_CONF=x", "GIT_SSH_COMMAND=x", "EDITOR=x", "PS4=x", "IFS=x", "TMPDIR=x",
		"SETTINGS=" + in.at("/var/app/current/settings.ini"), "TOOLS=" + in.at("/var/app/venv/staging-abc/bin/tool"), "HOME=/home/webapp",
		"PATH=" + in.at("/var/app/venv/staging-abc/bin") + ":" + in.at("/usr/bin") + "::bin"}, "\n")+"\n")
	p, err := New(in.cfg).Profile(t.Context(), ProfileOptions{User: "root"})
	want := "DATABASE_URL=postgres://h/d ENVIRONMENT=prod HOME=/root LANG=C.UTF-8 LOGNAME=root PATH=" + in.at("/usr/bin") + " SHELL=/bin/bash USER=root"
	if got := sorted(p.Env); err != nil || got != want {
		t.Errorf("%s, %v\nwant %s", got, err, want)
	}
	p, err = New(in.cfg).Profile(t.Context(), ProfileOptions{User: "webapp"})
	if v, _ := p.Env.Lookup("PYTHONPATH"); err != nil || v != "/x" || p.Dir != in.cfg.AppDir {
		t.Errorf("the application's own user, by name: %q in %q, %v", v, p.Dir, err)
	}
}

// A process can give any memory of its own out as its environment.
func TestAnotherUserGetsNothingOfAProcess(t *testing.T) {
	if os.Geteuid() != 0 {
		gotool.Need(t, "root, to be another user")
	}
	in := newInstance(t)
	in.process(t, 42, "A=1", "HOME=/home/webapp", "XYZ=/tmp/x.so")
	if p, err := New(in.cfg).Profile(t.Context(), ProfileOptions{User: "root"}); err != nil || strings.Contains(sorted(p.Env), "x.so") {
		t.Errorf("%s, %v", sorted(p.Env), err)
	}
}

func sorted(env Environ) string {
	list := append([]string(nil), env...)
	slices.Sort(list)
	return strings.Join(list, " ")
}
