package appenv

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"beanstalk-agent/packaging/testbed/gotool"
)

// Local mode as root: the owner of the application's directory runs its commands; root only where root owns it, and
// that is said.
func TestLocalModeRunsAsTheOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		gotool.Need(t, "root, to be another user")
	}
	in := newInstance(t)
	in.cfg.Beanstalk, in.cfg.User = false, ""
	r := New(in.cfg)
	p, err := r.Profile(t.Context(), ProfileOptions{})
	if err != nil || p.User.UID != 0 || !strings.Contains(strings.Join(p.Warnings, ""), "run as root, because root owns "+p.Dir) {
		t.Errorf("root's directory: uid %d, %q, %v", p.User.UID, p.Warnings, err)
	}
	if err := os.Chown(in.cfg.AppDir, 900, 900); err != nil {
		t.Fatal(err)
	}
	p, err = r.Profile(t.Context(), ProfileOptions{})
	if home, _ := p.Env.Lookup("HOME"); err != nil || p.User.Name != "webapp" || home != "/home/webapp" || len(p.Warnings) > 0 {
		t.Errorf("webapp's directory: %+v, %v", p.User, err)
	}
	if err := os.Chown(in.cfg.AppDir, 4711, 4712); err != nil {
		t.Fatal(err)
	}
	p, err = r.Profile(t.Context(), ProfileOptions{})
	if err != nil || p.User.UID != 4711 || p.User.GID != 4712 || !slices.Equal(p.User.Groups, []uint32{4712}) {
		t.Errorf("nobody's directory: %+v, %v", p.User, err)
	}
}

func TestUsersThatAreNotThere(t *testing.T) {
	in := newInstance(t)
	in.write(t, DefaultDeploymentEnv, "A=1\n")
	r := New(in.cfg)
	for _, name := range []string{"nobody-here", "-1", "99999999999", "web app", "#x"} {
		if _, err := r.Profile(t.Context(), ProfileOptions{User: name}); err == nil || !strings.Contains(err.Error(), "no such user") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestDirectoriesOfARun(t *testing.T) {
	in := newInstance(t)
	in.write(t, DefaultDeploymentEnv, "A=1\n")
	in.write(t, "/var/app/current/sub/x", "")
	r := New(in.cfg)
	// One that is not there has the same answer: the command finds out, as its user.
	for dir, want := range map[string]string{
		"sub": in.at("/var/app/current/sub"), "gone": in.at("/var/app/current/gone"), "app.py": in.at("/var/app/current/app.py"),
		"/root/x": "/root/x", "": in.cfg.AppDir,
	} {
		if p, err := r.Profile(t.Context(), ProfileOptions{Dir: dir}); err != nil || p.Dir != want {
			t.Errorf("%q is %q, %v", dir, p.Dir, err)
		}
	}
}

// TestAProcessTitleOverTheEnvironment: a real process that writes its title over the memory that /proc/PID/environ shows
// (perl's $0, python's setproctitle) is told as such, not taken for a process without variables.
func TestAProcessTitleOverTheEnvironment(t *testing.T) {
	perl, err := exec.LookPath("perl")
	if err != nil {
		gotool.Need(t, "perl, which writes over its environment")
	}
	for name, title := range map[string]string{"short": `"x"`, "longer than the arguments": `"x" x 120`, "with an assignment in it": `"gunicorn: [A=1] " x 20`} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(perl, "-e", `$0 = `+title+`; $| = 1; print "ready\n"; <STDIN>`)
			cmd.Env = []string{"A=1", "B=" + strings.Repeat("y", 300), "C=3"}
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()
			defer in.Close()
			if _, err := out.Read(make([]byte, 8)); err != nil {
				t.Fatal(err)
			}
			vars, err := New(Config{}).readEnviron(t.Context(), cmd.Process.Pid)
			if whole := joined(vars) == strings.Join(cmd.Env, "|"); !whole && err != errOverwritten {
				t.Errorf("%d variables, %v", len(vars), err)
			} else {
				t.Logf("whole: %v, %v", whole, err)
			}
		})
	}
}
