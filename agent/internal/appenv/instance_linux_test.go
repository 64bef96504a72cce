package appenv_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/packaging/testbed/gotool"
	"beanstalk-agent/packaging/testbed/planted"
)

// What an instance of a Python platform has, as far as public evidence goes.
const (
	webUnit = `[Unit]
Description=This is web daemon
[Service]
User=webapp
Type=simple
EnvironmentFile=/opt/elasticbeanstalk/deployment/env
EnvironmentFile=-/opt/elasticbeanstalk/deployment/secrets/web
ExecStart=/usr/bin/gunicorn --bind 127.0.0.1:8000 --workers=2 --threads=2 wsgi:application
Restart=always
WorkingDirectory=/var/app/current/
`
	wsgi = `def application(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
`
	deploymentEnv = `PATH=/var/app/venv/staging-LQM1lest/bin:/usr/local/bin:/usr/bin:/bin
PYTHONPATH=/var/app/venv/staging-LQM1lest/bin
PLAIN=planted-5c1e
SPECIAL=p@$$w0rd #1;&"'\\ %s` + " \t" + `
QUOTED="two words \"and\" \n"
KEY="-----BEGIN-----
planted-5c1e+/=
-----END-----
"
dotted.name=1
export NOT=1
AWS_REGION=planted-5c1e
HTTP_PROXY=http://planted-5c1e.invalid:1
EMPTY=
CHANGES=before`
)

// TestDiffOnABootedInstance: a run started now gets exactly what gunicorn's workers have; one changed property is
// found, and only it.
func TestDiffOnABootedInstance(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 s")
	}
	if _, err := os.Stat("/usr/bin/gunicorn"); err != nil {
		gotool.Need(t, "the package gunicorn")
	}
	b := boot(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	b.write("/opt/inside.test", string(binary), 0o755)
	b.run("useradd", "--system", "--create-home", "--shell", "/usr/sbin/nologin", "webapp")
	b.run("groupadd", "shared-files")
	b.run("usermod", "-aG", "shared-files", "webapp")
	b.write("/etc/systemd/system/web.service", webUnit, 0o644)
	b.write("/etc/systemd/system/web.service.d/team.conf", "[Service]\nEnvironment=\"TEAM=has a drop-in\" PLAIN=lost\nUMask=0027\n", 0o644)
	b.write("/var/app/current/wsgi.py", wsgi, 0o644)
	b.write("/var/app/venv/staging-LQM1lest/bin/python", "", 0o755)
	b.write(appenv.DefaultDeploymentEnv, deploymentEnv, 0o400)
	b.write(appenv.DefaultSecrets, "DB_PASSWORD='planted-5c1e secret'\nPLAIN=b\n", 0o400)
	b.run("systemctl", "daemon-reload")
	b.run("systemctl", "start", "web")

	if got := b.differences(t); len(got) > 0 {
		t.Errorf("freshly started: %v", got)
	}
	if got := b.asWebapp(t); !strings.Contains(got, "Groups:") || got != b.run("/bin/sh", "-c", "tr '\\0' '\\n' </proc/$(systemctl show -P MainPID web)/status | grep -E '^(Uid|Gid|Groups|Umask):'") {
		t.Errorf("a run would be %s", got)
	}

	b.inside("exact")

	b.write(appenv.DefaultDeploymentEnv, strings.Replace(deploymentEnv, "before", "after", 1), 0o400)
	if got := b.differences(t); !slices.Equal(got, []string{"CHANGES changed"}) {
		t.Errorf("after one property changed: %v", got)
	}
	b.run("systemctl", "restart", "web")
	if got := b.differences(t); len(got) > 0 {
		t.Errorf("after the web service restarted: %v", got)
	}

	b.run("systemctl", "stop", "web")
	b.run("usermod", "--shell", "/bin/bash", "webapp")
	b.run("systemctl", "start", "web")
	if got := b.differences(t); len(got) > 0 {
		t.Errorf("after the user got a login shell: %v", got)
	}
	b.inside("exact")
}

// differences runs Diff inside, where process ids and cgroups are the instance's own.
func (b box) differences(t *testing.T) []string {
	t.Helper()
	var d struct {
		Vars []struct{ Name, State string }
	}
	out := b.inside("diff")
	line, _, _ := strings.Cut(out, "\n")
	if err := json.Unmarshal([]byte(line), &d); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if len(d.Vars) < 10 {
		t.Fatalf("compared %d variables only: %s", len(d.Vars), out)
	}
	if strings.Contains(out, planted.Value) || strings.Contains(out, "BEGIN") {
		t.Errorf("a value was printed: %s", out)
	}
	var got []string
	for _, v := range d.Vars {
		if v.State != "same" {
			got = append(got, v.Name+" "+v.State)
		}
	}
	return got
}

// asWebapp is what the kernel says of a process started with Profile's user and umask.
func (b box) asWebapp(t *testing.T) string {
	t.Helper()
	return b.inside("start")
}

// inside runs one of the functions below in the container.
func (b box) inside(what string) string {
	b.t.Helper()
	return b.run("/usr/bin/env", "-i", "ENV_TEST_INSIDE="+what, "/opt/inside.test")
}

// TestMain is also the part of the test above that runs inside the container.
func TestMain(m *testing.M) {
	what := os.Getenv("ENV_TEST_INSIDE")
	if what == "" {
		os.Exit(m.Run())
	}
	if err := inside(what); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func inside(what string) error {
	ctx, o := context.Background(), platform.Options{}
	f := platform.Detect(ctx, o)
	r := appenv.New(appenv.Config{
		Beanstalk: f.Beanstalk, AppDir: f.AppDir,
		GetConfig: func(ctx context.Context) ([]byte, error) { return platform.GetConfig(ctx, o, "environment") },
		WebPIDs:   func(ctx context.Context) ([]int, error) { return platform.WebPIDs(ctx, o, f.WebUnit) },
	})
	switch what {
	case "start":
		return start(ctx, r)
	case "exact":
		return exact(ctx, r)
	}
	// gunicorn's master and its two workers, all past execve.
	for deadline := time.Now().Add(20 * time.Second); ; {
		d, err := r.Diff(ctx)
		switch {
		case err == nil && len(d.PIDs) == 3 && len(d.Unread) == 0:
			return json.NewEncoder(os.Stdout).Encode(d)
		case time.Now().After(deadline):
			return fmt.Errorf("%v, %w", d, err)
		}
	}
}

func start(ctx context.Context, r *appenv.Resolver) error {
	p, err := r.Profile(ctx, appenv.ProfileOptions{})
	if err != nil {
		return err
	}
	if p.Dir != "/var/app/current" || p.User.Home != "/home/webapp" {
		return fmt.Errorf("dir %q, user %v", p.Dir, p.User)
	}
	cmd := exec.Command("/bin/sh", "-c", fmt.Sprintf("umask %04o; exec grep -E '^(Uid|Gid|Groups|Umask):' /proc/self/status", p.Umask))
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = p.Env, p.Dir, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: p.User.UID, Gid: p.User.GID, Groups: p.User.Groups}}
	return cmd.Run()
}

// exact compares a run's environment with the web process's as lists: the same assignments in the same order, when
// what belongs to one process is left out.
func exact(ctx context.Context, r *appenv.Resolver) error {
	p, err := r.Profile(ctx, appenv.ProfileOptions{})
	if err != nil {
		return err
	}
	d, err := r.Diff(ctx)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", d.PIDs[0]))
	if err != nil {
		return err
	}
	web := slices.DeleteFunc(strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00"), func(s string) bool {
		name, _, _ := strings.Cut(s, "=")
		return slices.Contains(appenv.OfOneProcess, name)
	})
	if !slices.Equal(web, p.Env) {
		return fmt.Errorf("the web process has %v, a run would have %v", appenv.Environ(web), p.Env)
	}
	return nil
}
