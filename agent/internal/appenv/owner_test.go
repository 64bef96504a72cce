package appenv

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"beanstalk-agent/agent/internal/appfile"
	"beanstalk-agent/packaging/testbed/gotool"
)

const web, victim = 900, 901

// local is a host off Beanstalk on which user web has the application in his home directory, as newInstance makes it.
func local(t *testing.T) *instance {
	t.Helper()
	if os.Geteuid() != 0 {
		gotool.Need(t, "root, to be another user")
	}
	in := newInstance(t)
	in.cfg = Config{Root: in.root, AppDir: in.at("/home/web/app")}
	in.write(t, "/etc/passwd", "root:x:0:0::/root:/bin/bash\nweb:x:900:900::/home/web:/bin/sh\nvictim:x:901:901::/home/victim:/bin/sh\n")
	in.write(t, "/etc/group", "root:x:0:\nweb:x:900:\nvictim:x:901:\nstaff:x:50:victim\n")
	for path, uid := range map[string]int{"/home/web/app/x": web, "/home/victim/x": victim, "/srv/app/x": 0} {
		in.write(t, path, "")
		in.own(t, filepath.Dir(path), uid)
	}
	in.own(t, "/home/web", web)
	return in
}

func (in *instance) at(path string) string { return filepath.Join(in.root, path) }

func (in *instance) own(t *testing.T, path string, uid int) {
	t.Helper()
	if err := os.Lchown(in.at(path), uid, uid); err != nil {
		t.Fatal(err)
	}
}

func (in *instance) mode(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(in.at(path), mode); err != nil {
		t.Fatal(err)
	}
}

func (in *instance) link(t *testing.T, path, to string, uid int) {
	t.Helper()
	os.RemoveAll(in.at(path))
	if err := os.Symlink(in.at(to), in.at(path)); err != nil {
		t.Fatal(err)
	}
	in.own(t, path, uid)
}

// Whoever could put another directory in the application's place became its owner, root too: a link in his home
// directory was enough. As sshd does with its files, ownership is believed only of a path that no third user can change.
func TestOnlyAPathOfItsOwnNamesTheUser(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, in *instance)
		uid    uint32
		want   string // in the error
	}{
		"web's own": {func(t *testing.T, in *instance) {}, web, ""},
		"a link to the root directory": {func(t *testing.T, in *instance) { in.link(t, "/home/web/app", "/", web) }, 0,
			`commands would run as root, the owner of "ROOT", but "ROOT/home/web" belongs to web`},
		"a link to another's": {func(t *testing.T, in *instance) { in.link(t, "/home/web/app", "/home/victim", web) }, 0,
			"would run as victim"},
		"root's link to another's": {func(t *testing.T, in *instance) {
			in.link(t, "/srv/current", "/home/victim", 0)
			in.cfg.AppDir = in.at("/srv/current")
		}, victim, ""},
		"a parent renamed": {func(t *testing.T, in *instance) {
			os.Rename(in.at("/srv"), in.at("/home/web/srv"))
			in.cfg.AppDir = in.at("/home/web/srv/app")
		}, 0, `ROOT/home/web" belongs to web`},
		"a way through and back": {func(t *testing.T, in *instance) {
			if err := os.Symlink(in.root+"/home/web/app/../../../srv/app", in.at("/srv/current")); err != nil {
				t.Fatal(err)
			}
			in.cfg.AppDir = in.at("/srv/current")
		}, 0, `ROOT/home/web" belongs to web`},
		"root's, in a sticky directory of root's": {func(t *testing.T, in *instance) {
			in.mode(t, "/srv", 0o777|fs.ModeSticky)
			in.cfg.AppDir = in.at("/srv/app")
		}, 0, ""},
		"web's link there": {func(t *testing.T, in *instance) {
			in.mode(t, "/srv", 0o777|fs.ModeSticky)
			in.link(t, "/srv/current", "/srv/app", web)
			in.cfg.AppDir = in.at("/srv/current")
		}, 0, `/srv/current" belongs to web`},
		"a sticky directory of another": {func(t *testing.T, in *instance) {
			in.mode(t, "/srv", 0o777|fs.ModeSticky)
			in.own(t, "/srv", victim)
			in.cfg.AppDir = in.at("/srv/app")
		}, 0, `/srv" belongs to victim`},
		"a directory that is itself sticky": {func(t *testing.T, in *instance) {
			in.mode(t, "/srv/app", 0o777|fs.ModeSticky)
			in.cfg.AppDir = in.at("/srv/app")
		}, 0, `everybody may write "ROOT/srv/app"`},
		"a parent that everybody writes": {func(t *testing.T, in *instance) { in.mode(t, "/home", 0o777) }, 0, `everybody may write "ROOT/home"`},
		"a group of his own":             {func(t *testing.T, in *instance) { in.mode(t, "/home/web", 0o775) }, web, ""},
		"root's group":                   {func(t *testing.T, in *instance) { in.mode(t, "/home", 0o775) }, web, ""},
		"a group with others": {func(t *testing.T, in *instance) {
			os.Chown(in.at("/home/web"), web, 50)
			in.mode(t, "/home/web", 0o775)
		}, 0, `group 50 may write "ROOT/home/web"`},
		"another's own group": {func(t *testing.T, in *instance) {
			os.Chown(in.at("/home/web"), web, victim)
			in.mode(t, "/home/web", 0o775)
		}, 0, `group 901 may write`},
		"a group that nothing is known of": {func(t *testing.T, in *instance) {
			os.Chown(in.at("/home/web"), web, 4711)
			in.mode(t, "/home/web", 0o775)
		}, 0, `group 4711 may write`},
		"an access list": {func(t *testing.T, in *instance) {
			in.mode(t, "/home/web", 0o755)
			if err := allowWrite(in.at("/home/web"), victim); err != nil {
				gotool.Need(t, "a file system with access lists: "+err.Error())
			}
		}, 0, "an access list says who may write"},
		"not there": {func(t *testing.T, in *instance) { os.RemoveAll(in.at("/home/web/app")) }, 0, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			in := local(t)
			c.change(t, in)
			r := New(in.cfg)
			p, err := r.Profile(t.Context(), ProfileOptions{})
			got := strings.ReplaceAll(errText(err), in.root, "ROOT")
			if c.want == "" && (err != nil || p.User.UID != c.uid) || c.want != "" && !strings.Contains(got, c.want) {
				t.Errorf("uid %d, %q, want %q", p.User.UID, got, c.want)
			}
			if _, isOwner := errors.AsType[OwnerError](err); isOwner && !strings.Contains(Hint(err), "app.user") {
				t.Errorf("hint %q", Hint(err))
			}
			if u, uerr := r.User(t.Context()); (uerr == nil) != (err == nil) || u.UID != p.User.UID {
				t.Errorf("the user alone: %v, %v", u, uerr)
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// The table is older than the run: one that web wrote does not run as root when root's directory has taken the place.
func TestATableRunsAsItsWriterOnly(t *testing.T) {
	in := local(t)
	in.link(t, "/srv/current", "/home/web/app", 0)
	in.cfg.AppDir = in.at("/srv/current")
	r := New(in.cfg)
	written := func(path string) Writer {
		t.Helper()
		info, err := os.Stat(in.at(path))
		if err != nil {
			t.Fatal(err)
		}
		return r.Writer("cron.yaml", info)
	}
	in.write(t, "/home/web/app/cron.yaml", "")
	in.own(t, "/home/web/app/cron.yaml", web)
	in.write(t, "/srv/app/cron.yaml", "")
	webs := written("/home/web/app/cron.yaml")
	if p, err := r.Profile(t.Context(), ProfileOptions{Writer: webs}); err != nil || p.User.UID != web {
		t.Fatalf("%v, %v", p.User, err)
	}
	in.link(t, "/srv/current", "/srv/app", 0)
	if p, err := r.Profile(t.Context(), ProfileOptions{Writer: webs}); err == nil || !strings.Contains(err.Error(), "commands run as root now") {
		t.Errorf("web's table runs as %d, %v", p.User.UID, err)
	}
	if p, err := r.Profile(t.Context(), ProfileOptions{Writer: written("/srv/app/cron.yaml")}); err != nil || p.User.UID != 0 {
		t.Errorf("%v, %v", p.User, err)
	}
	if w := written("/home/web/app/cron.yaml"); w.Err() == nil {
		t.Error("a file that was opened elsewhere is taken for root's")
	}
	in.link(t, "/srv/current", "/home/web/app", 0)
	for what, change := range map[string]func(){
		"another's":             func() { in.own(t, "/home/web/app/cron.yaml", victim) },
		"one that others write": func() { in.mode(t, "/home/web/app/cron.yaml", 0o666) },
		"a link to another's":   func() { in.link(t, "/home/web/app/cron.yaml", "/home/victim/x", web) },
	} {
		in.write(t, "/home/web/app/cron.yaml", "")
		in.own(t, "/home/web/app/cron.yaml", web)
		change()
		if w := written("/home/web/app/cron.yaml"); w.Err() == nil {
			t.Errorf("%s counts as web's", what)
		}
		os.Remove(in.at("/home/web/app/cron.yaml"))
	}
}

// The .env file is read as root and given to the application's user: it must be that user's to read.
func TestDotenvIsTheUsersOwn(t *testing.T) {
	for name, c := range map[string]struct {
		user   string // of the configuration
		change func(t *testing.T, in *instance)
		want   string
	}{
		"web's":        {"", func(t *testing.T, in *instance) { in.own(t, "/home/web/app/.env", web) }, ""},
		"root's":       {"", func(t *testing.T, in *instance) {}, ""},
		"another's":    {"", func(t *testing.T, in *instance) { in.own(t, "/home/web/app/.env", victim) }, "belongs to victim"},
		"others write": {"", func(t *testing.T, in *instance) { in.mode(t, "/home/web/app/.env", 0o666) }, "everybody may write"},
		"a chosen user, who reads what its owner may": {"web", func(t *testing.T, in *instance) {
			in.own(t, "/home/web", victim)
			in.own(t, "/home/web/app", victim)
			in.own(t, "/home/web/app/.env", victim)
		}, ""},
		"a chosen user, and a link to another's directory": {"web", func(t *testing.T, in *instance) {
			in.write(t, "/home/victim/.env", "A=1\n")
			in.own(t, "/home/victim/.env", victim)
			in.link(t, "/home/web/app", "/home/victim", web)
		}, "belongs to web"},
		"the same, open, in a closed directory": {"web", func(t *testing.T, in *instance) {
			in.write(t, "/home/victim/.env", "A=1\n")
			in.mode(t, "/home/victim/.env", 0o644)
			in.mode(t, "/home/victim", 0o700)
			in.link(t, "/home/web/app", "/home/victim", web)
		}, "belongs to web"},
		"a chosen user, a link, and a file that he can read": {"web", func(t *testing.T, in *instance) {
			in.write(t, "/home/victim/.env", "A=1\n")
			in.mode(t, "/home/victim/.env", 0o644)
			in.link(t, "/home/web/app", "/home/victim", web)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			in := local(t)
			in.cfg.User = c.user
			in.write(t, "/home/web/app/.env", "A=1\n")
			c.change(t, in)
			p, err := New(in.cfg).Profile(t.Context(), ProfileOptions{})
			if c.want == "" && (err != nil || !slices.Contains(p.Env, "A=1")) || c.want != "" && !strings.Contains(errText(err), c.want) {
				t.Errorf("%v, %v, want %q", p.Env, err, c.want)
			}
		})
	}
}

// A file that is read as root must be root's, or lie in the application's directory and not lead out of it.
func TestEnvFilesHandNothingOver(t *testing.T) {
	for name, c := range map[string]struct {
		path   string
		change func(t *testing.T, in *instance)
		want   string
	}{
		"in the directory": {"/home/web/app/extra.env", func(t *testing.T, in *instance) {}, ""},
		"a link out of it": {"/home/web/app/extra.env", func(t *testing.T, in *instance) {
			in.link(t, "/home/web/app/extra.env", "/etc/secret.env", web)
		}, "escapes"},
		"a folder that is a link out of it": {"/home/web/app/etc/secret.env", func(t *testing.T, in *instance) {
			in.link(t, "/home/web/app/etc", "/etc", web)
		}, "escapes"},
		"the directory by another way": {"/srv/web/extra.env", func(t *testing.T, in *instance) {
			in.link(t, "/srv/web", "/home/web/app", 0)
			in.link(t, "/home/web/app/extra.env", "/etc/secret.env", web)
		}, "escapes"},
		"root's elsewhere": {"/etc/secret.env", func(t *testing.T, in *instance) {}, ""},
		"web's elsewhere":  {"/home/web/extra.env", func(t *testing.T, in *instance) { in.own(t, "/home/web/extra.env", web) }, "belongs to web"},
		"a link in web's":  {"/home/web/extra.env", func(t *testing.T, in *instance) { in.link(t, "/home/web/extra.env", "/etc/secret.env", web) }, "belongs to web"},
		"others write it":  {"/etc/secret.env", func(t *testing.T, in *instance) { in.mode(t, "/etc/secret.env", 0o666) }, "everybody may write"},
	} {
		t.Run(name, func(t *testing.T) {
			in := local(t)
			for _, path := range []string{"/home/web/app/extra.env", "/home/web/extra.env", "/etc/secret.env"} {
				in.write(t, path, "A=1\n")
			}
			in.own(t, "/home/web/app/extra.env", web)
			c.change(t, in)
			in.cfg.EnvFiles = []string{in.at(c.path)}
			p, err := New(in.cfg).Profile(t.Context(), ProfileOptions{})
			if c.want == "" && (err != nil || !slices.Contains(p.Env, "A=1")) || c.want != "" && !strings.Contains(errText(err), c.want) {
				t.Errorf("%v, %v, want %q", p.Env, err, c.want)
			}
		})
	}
}

// systemd reads the unit's environment files as root, at the service's start, through any link. The agent would at once.
func TestEnvironmentFilesOfTheUnitHandNothingOver(t *testing.T) {
	if os.Geteuid() != 0 {
		gotool.Need(t, "root, to be another user")
	}
	for name, c := range map[string]struct {
		path   string
		change func(t *testing.T, in *instance)
		want   string
	}{
		"in the directory": {"/var/app/current/extra.env", func(t *testing.T, in *instance) {}, ""},
		"a link out of it": {"/var/app/current/extra.env", func(t *testing.T, in *instance) {
			in.link(t, "/var/app/current/extra.env", "/etc/secret.env", web)
		}, "escapes"},
		"elsewhere, web's": {"/home/webapp/extra.env", func(t *testing.T, in *instance) { in.own(t, "/home/webapp/extra.env", web) }, ""},
		"elsewhere, a link": {"/home/webapp/extra.env", func(t *testing.T, in *instance) {
			in.link(t, "/home/webapp/extra.env", "/etc/secret.env", web)
		}, "belongs to webapp"},
		"root's": {"/etc/secret.env", func(t *testing.T, in *instance) {}, ""},
		"in the directory, large": {"/var/app/current/extra.env", func(t *testing.T, in *instance) {
			os.Truncate(in.at("/var/app/current/extra.env"), maxTheirs+1)
		}, "at most 262144 are read"},
		"elsewhere, large": {"/home/webapp/extra.env", func(t *testing.T, in *instance) {
			in.own(t, "/home/webapp/extra.env", web)
			os.Truncate(in.at("/home/webapp/extra.env"), maxTheirs+1)
		}, "at most 262144 are read"},
	} {
		t.Run(name, func(t *testing.T) {
			in := newInstance(t)
			in.cfg.User = ""
			in.write(t, DefaultDeploymentEnv, "B=1\n")
			for _, path := range []string{"/var/app/current/extra.env", "/home/webapp/extra.env", "/etc/secret.env"} {
				in.write(t, path, "A=1\n")
			}
			in.own(t, "/var/app/current", web)
			in.own(t, "/home/webapp", web)
			c.change(t, in)
			in.write(t, "/etc/systemd/system/web.service", "[Service]\nUser=webapp\nEnvironmentFile="+c.path+"\n")
			p, err := New(in.cfg).Profile(t.Context(), ProfileOptions{})
			if c.want == "" && (err != nil || !slices.Contains(p.Env, "A=1")) || c.want != "" && !strings.Contains(errText(err), c.want) {
				t.Errorf("%v, %v, want %q", p.Env, err, c.want)
			}
		})
	}
}

// The application's user changes where his link leads at any moment between two looks of the agent.
func TestALinkThatKeepsTurningGetsNothing(t *testing.T) {
	in := local(t)
	in.link(t, "/home/web/app", "/home/web/mine", web)
	for dir, uid := range map[string]int{"/home/web/mine": web, "/home/victim": victim, "/srv/app": 0} {
		for _, name := range []string{"/.env", "/cron.yaml"} {
			in.write(t, dir+name, "OF="+strings.ReplaceAll(dir, "/", "_")+"\n")
			in.own(t, dir+name, uid)
		}
		in.own(t, dir, uid)
	}
	ctx, stop := context.WithCancel(t.Context())
	turned := make(chan struct{})
	go func() {
		defer close(turned)
		for i := 0; ctx.Err() == nil; i++ {
			to := []string{"/home/web/mine", "/home/victim", "/home/web/mine", "/srv/app"}[i%4]
			next := in.at("/home/web/next")
			os.Symlink(in.at(to), next)
			os.Lchown(next, web, web)
			os.Rename(next, in.at("/home/web/app"))
		}
	}()
	r := New(in.cfg)
	r.SetMinAge(0)
	good, refused := 0, 0
	for range 300 {
		var w Writer
		data, opened, err := appfile.Read(in.cfg.AppDir, "cron.yaml", 100)
		if err == nil {
			if w = r.Writer("cron.yaml", opened); w.Err() == nil && string(data) != "OF=_home_web_mine\n" {
				t.Fatalf("%q is taken for the word of %d", data, w.uid)
			}
		}
		p, err := r.Profile(t.Context(), ProfileOptions{Writer: w})
		of, _ := p.Env.Lookup("OF")
		switch {
		case err != nil:
			refused++
		case p.User.UID != web || of != "_home_web_mine":
			t.Fatalf("uid %d has the environment of %s", p.User.UID, of)
		default:
			good++
		}
	}
	stop()
	<-turned
	t.Logf("%d runs, %d refused", good, refused)
}

// The answer of cron check is of the user who runs the command, not of root.
func TestProgramsAreFoundAsTheirUser(t *testing.T) {
	in := local(t)
	for path, mode := range map[string]fs.FileMode{"/home/web/run": 0o700, "/home/victim/run": 0o755, "/srv/app/run": 0o644, "/srv/bin/run": 0o755} {
		in.write(t, path, "")
		in.own(t, path, web)
		in.mode(t, path, mode)
	}
	in.mode(t, "/home/victim", 0o700)
	r := New(in.cfg)
	u, err := r.User(t.Context())
	if err != nil || u.UID != web {
		t.Fatal(u, err)
	}
	for path, want := range map[string]bool{"/home/web/run": true, "/home/victim/run": false, "/srv/app/run": false, "/srv/bin/run": true, "/srv/bin": false, "/srv/no": false} {
		if got := r.Executes(u, in.at(path)); got != want {
			t.Errorf("%s: %t", path, got)
		}
		if got := r.Executes(User{}, in.at(path)); got != (want || path == "/home/victim/run") {
			t.Errorf("%s, root: %t", path, got)
		}
	}
}

// Each line of a file can be one.
func TestWarningsHaveALimit(t *testing.T) {
	in := newInstance(t)
	in.write(t, DefaultDeploymentEnv, strings.Repeat("no assignment\n", 100_000)+"A=1\n")
	env, err := New(in.cfg).Resolve(t.Context())
	if err != nil || len(env.Warnings()) != maxWarnings+1 {
		t.Errorf("%d warnings, %v", len(env.Warnings()), err)
	}
}
