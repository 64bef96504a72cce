package appenv

import (
	"strings"
	"testing"
)

// A .env file names what its process has besides: python-dotenv reads os.environ, in which that is. godotenv read
// nothing there, and a PATH without its programs, without a word.
func TestDotenvNamesWhatTheRunHas(t *testing.T) {
	in := local(t)
	in.program(t, "/home/web/app/.venv/bin/python")
	in.write(t, "/home/web/app/.env", "PATH=${HOME}/bin:${PATH}\nDATA=${HOME}/data\nNAME=${USER:-nobody}\nHOME2='${NONE}'\n")
	in.write(t, "/home/web/app/more.env", "URL=x://${DATA}\nDATA=y\nAGAIN=${DATA}\n")
	in.own(t, "/home/web/app/.env", web)
	in.own(t, "/home/web/app/more.env", web)
	in.own(t, "/home/web/app/.venv/bin/python", web)
	in.cfg.EnvFiles = []string{"more.env"}
	r := New(in.cfg)
	for range 2 { // the second reads again: the home may be another
		p, err := r.Profile(t.Context(), ProfileOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"PATH": "/home/web/bin:" + in.at("/home/web/app/.venv/bin") + ":" + defaultPath, "DATA": "y", "NAME": "web",
			"HOME2": "", "URL": "x:///home/web/data", "AGAIN": "y"} {
			if got, ok := p.Env.Lookup(name); !ok || got != want {
				t.Errorf("%s=%q, want %q", name, got, want)
			}
		}
	}
	env, err := r.Resolve(t.Context())
	if notes := strings.Join(env.Notes(), "\n"); err != nil || !strings.Contains(notes, ".env:4:8: HOME2: a variable in the value is set neither") {
		t.Errorf("notes: %s, %v", notes, err)
	}
}

// On Beanstalk the properties are there first, and another user gets what root's file says: nothing of the application's.
func TestDotenvNamesTheProperties(t *testing.T) {
	in := newInstance(t)
	in.write(t, DefaultDeploymentEnv, "RDS_HOSTNAME=db\nPATH=/x\n")
	in.write(t, "/var/app/current/.env", "URL=x://${RDS_HOSTNAME}/d\nTHEIRS=/tmp/x.so\n")
	in.write(t, "/etc/agent/roots.env", "ROOTS=${RDS_HOSTNAME}:${THEIRS}:${URL}\n")
	in.cfg.EnvFiles = []string{".env", in.at("/etc/agent/roots.env")}
	env, err := New(in.cfg).Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"URL": "x://db/d", "ROOTS": "db::", "PATH": "/x"} {
		if got, _ := env.Lookup(name); got != want {
			t.Errorf("%s=%q, want %q", name, got, want)
		}
	}
}

// `agent exec -u root` had the directory of the application's own PATH in what root's file makes of ${PATH}.
func TestRootsFileHasNoPathOfTheApplications(t *testing.T) {
	in := local(t)
	in.write(t, "/home/web/app/.env", "PATH=/tmp/evil:/usr/bin\n")
	in.own(t, "/home/web/app/.env", web)
	in.program(t, "/home/web/app/.venv/bin/python")
	in.own(t, "/home/web/app/.venv/bin/python", web)
	in.write(t, "/etc/agent/roots.env", "WRAP=${PATH}\nTOOLS=/opt/bin:${LANG}\n")
	in.cfg.EnvFiles = []string{in.at("/etc/agent/roots.env")}
	r := New(in.cfg)
	for user, want := range map[string]string{"root": "", "web": in.at("/home/web/app/.venv/bin") + ":" + defaultPath} {
		p, err := r.Profile(t.Context(), ProfileOptions{User: user})
		if err != nil {
			t.Fatal(err)
		}
		wrap, _ := p.Env.Lookup("WRAP")
		if tools, _ := p.Env.Lookup("TOOLS"); wrap != want || tools != "/opt/bin:C.UTF-8" {
			t.Errorf("%s has WRAP=%q, want %q, and TOOLS=%q", user, wrap, want, tools)
		}
	}
}
