package appenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// instance is a Beanstalk instance below a temporary root.
type instance struct {
	root string
	cfg  Config
}

func newInstance(t testing.TB) *instance {
	t.Helper()
	in := &instance{root: t.TempDir()}
	in.cfg = Config{Beanstalk: true, Root: in.root, AppDir: filepath.Join(in.root, "var/app/current")}
	in.write(t, "/var/app/current/app.py", "")
	in.write(t, "/etc/passwd", fmt.Sprintf("root:x:0:0:root:/root:/bin/bash\nwebapp:x:%d:%d::/home/webapp:/sbin/nologin\n", os.Geteuid()+boolInt(os.Geteuid() == 0)*900, os.Getegid()))
	in.write(t, "/etc/group", "root:x:0:\nwebapp:x:900:\ndocker:x:991:webapp,other\n")
	in.cfg.User = "webapp"
	return in
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (in *instance) write(t testing.TB, path, text string) {
	t.Helper()
	path = filepath.Join(in.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (in *instance) program(t testing.TB, path string) {
	t.Helper()
	in.write(t, path, "")
	if err := os.Chmod(filepath.Join(in.root, path), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (in *instance) process(t *testing.T, pid int, env ...string) {
	in.write(t, fmt.Sprintf("/proc/%d/environ", pid), strings.Join(env, "\x00")+"\x00")
	old := in.cfg.WebPIDs
	in.cfg.WebPIDs = func(ctx context.Context) ([]int, error) {
		if old == nil {
			return []int{pid}, nil
		}
		pids, err := old(ctx)
		return append(pids, pid), err
	}
}

func properties(text string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) { return []byte(text), nil }
}

func TestSecretsLieOverTheDeploymentFile(t *testing.T) {
	in := newInstance(t)
	in.write(t, DefaultDeploymentEnv, "A=1\nDB=old\nx.y=2\n")
	in.write(t, DefaultSecrets, "DB=new\nKEY='a b'\n")
	env, err := New(in.cfg).Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := joined(env.Vars()); got != "A=1|DB=new|KEY=a b" {
		t.Errorf("got %q", got)
	}
	if s := env.Source("DB"); !strings.HasSuffix(s, DefaultSecrets) {
		t.Errorf("DB is said to be from %q", s)
	}
	w := strings.Join(env.Warnings(), "\n")
	if !strings.Contains(w, "DB: ") || !strings.Contains(w, "env:3:1: ") || strings.Contains(w, "new") || strings.Contains(w, "old") {
		t.Errorf("warnings: %s", w)
	}
}

func TestGetConfigStandsInForTheFile(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, in *instance){
		"absent":                   func(t *testing.T, in *instance) {},
		"one systemd would refuse": func(t *testing.T, in *instance) { in.write(t, DefaultDeploymentEnv, "A=\xff\n") },
		"empty, so being written":  func(t *testing.T, in *instance) { in.write(t, DefaultDeploymentEnv, "") },
		"a directory":              func(t *testing.T, in *instance) { in.write(t, DefaultDeploymentEnv+"/x", "") },
	} {
		t.Run(name, func(t *testing.T) {
			in := newInstance(t)
			spoil(t, in)
			in.cfg.GetConfig = properties(`{"B":"1","A":"a\n\"b\"","dotted.name":"z"}`)
			env, err := New(in.cfg).Resolve(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := joined(env.Vars()); got != "B=1|A=a\n\"b\"" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestTheLiveProcessStandsInWhenNothingElseCan(t *testing.T) {
	in := newInstance(t)
	in.cfg.GetConfig = func(context.Context) ([]byte, error) { return nil, errors.New("could not parse environment variables") }
	in.process(t, 41, "garbage left by a title", "", "")
	in.process(t, 42, "A=1", "INVOCATION_ID=x", "JOURNAL_STREAM=1:2", "SYSTEMD_EXEC_PID=42", "_=/x", "B=a=b")
	env, err := New(in.cfg).Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := joined(env.Vars()); got != "A=1|B=a=b" {
		t.Errorf("got %q", got)
	}
	if len(env.Warnings()) == 0 {
		t.Error("nothing said")
	}
}

// The web process's HOME and USER are not those of a user that somebody chose.
func TestAnotherUserKeepsItsOwnVariablesInAStandIn(t *testing.T) {
	in := newInstance(t)
	in.process(t, 42, "A=1", "HOME=/home/webapp", "USER=webapp", "LOGNAME=webapp", "SHELL=/bin/web")
	in.write(t, "/etc/passwd", fmt.Sprintf("webapp:x:%d:%d::/home/webapp:/bin/web\nother:x:%[1]d:%[2]d::/other:/bin/sh\n", os.Geteuid(), os.Getegid()))
	for user, want := range map[string]string{"": "/home/webapp webapp webapp /bin/web", "other": "/other other other /bin/sh"} {
		p, err := New(in.cfg).Profile(t.Context(), ProfileOptions{User: user})
		var got []string
		for _, name := range ofUser {
			v, _ := p.Env.Lookup(name)
			got = append(got, v)
		}
		if a, _ := p.Env.Lookup("A"); err != nil || a != "1" || strings.Join(got, " ") != want {
			t.Errorf("%q: %q, %v, want %s", user, got, err, want)
		}
	}
}

// Fifty jobs due in the same second, and a get-config that takes its time.
func TestManyReadersShareOneSlowGetConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newInstance(t)
		calls := 0
		in.cfg.GetConfig = func(context.Context) ([]byte, error) {
			calls++
			time.Sleep(time.Second) // in the bubble
			return []byte(`{"A":"1"}`), nil
		}
		r := New(in.cfg)
		start := time.Now()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if env, err := r.Resolve(t.Context()); err != nil || joined(env.Vars()) != "A=1" {
					t.Errorf("%v, %v", env, err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); calls > 2 || took > 2*time.Second {
			t.Errorf("%d calls in %v", calls, took)
		}
		if r.Resolve(t.Context()); calls < 2 {
			t.Error("the answer was kept for a later reader")
		}
	})
}

func TestAnEmptyFileIsBelievedWhenNobodyKnowsBetter(t *testing.T) {
	in := newInstance(t)
	in.write(t, DefaultDeploymentEnv, "# none\n")
	env, err := New(in.cfg).Resolve(t.Context())
	if err != nil || len(env.Vars()) > 0 || len(env.Warnings()) == 0 {
		t.Errorf("%v, %v", env, err)
	}
}

func TestBeforeTheFirstDeployment(t *testing.T) {
	in := newInstance(t)
	os.RemoveAll(in.cfg.AppDir)
	in.cfg.GetConfig = properties(`{"A":"1"}`)
	r := New(in.cfg)
	if _, err := r.Resolve(t.Context()); !errors.Is(err, ErrNotDeployed) {
		t.Errorf("resolve: %v", err)
	}
	in.write(t, DefaultDeploymentEnv, "A=1\n")
	if _, err := r.Profile(t.Context(), ProfileOptions{}); !errors.Is(err, ErrNotDeployed) {
		t.Errorf("profile: %v", err)
	}
}

// The agent was started before the engine had written what kind of platform this is.
func TestDockerIsNoticedLater(t *testing.T) {
	in := newInstance(t)
	in.write(t, filepath.Join(filepath.Dir(DefaultDeploymentEnv), "env.list"), "A=1\n")
	in.cfg.GetConfig = properties(`{"A":"1"}`)
	if _, err := New(in.cfg).Resolve(t.Context()); !errors.Is(err, ErrDocker) {
		t.Error(err)
	}
}

func TestTheUnitAndItsUserAreFoundOnceTheyAreThere(t *testing.T) {
	in := newInstance(t)
	in.cfg.User = ""
	in.write(t, DefaultDeploymentEnv, "A=1\n")
	r := New(in.cfg)
	p, err := r.Profile(t.Context(), ProfileOptions{})
	if err != nil || p.User.Name != "webapp" || p.Umask != 0o022 {
		t.Errorf("%v, %v", p, err)
	}
	in.write(t, "/etc/passwd", fmt.Sprintf("shop:x:%d:%d::/srv:/bin/sh\n", os.Geteuid(), os.Getegid()))
	in.write(t, "/etc/systemd/system/web.service", "[Service]\nUser=shop\nUMask=0027\nEnvironment=B=2\n")
	p, err = r.Profile(t.Context(), ProfileOptions{})
	if b, _ := p.Env.Lookup("B"); err != nil || p.User.Name != "shop" || p.Umask != 0o027 || b != "2" {
		t.Errorf("%v, %v", p, err)
	}
}

// A deployment takes the web unit's file away for as long as it needs to remove one tree and rename the other. A run
// that starts meanwhile must not do without what the unit sets.
func TestAUnitThatADeploymentReplacesIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newInstance(t)
		const path, text = "/etc/systemd/system/web.service", "[Service]\nEnvironment=B=2\n"
		in.write(t, DefaultDeploymentEnv, "A=1\n")
		in.write(t, path, text)
		r := New(in.cfg)
		want := func(vars, warning string) {
			t.Helper()
			env, err := r.Resolve(t.Context())
			if err != nil || joined(env.Vars()) != vars || !strings.Contains(strings.Join(env.Warnings(), "\n"), warning) {
				t.Fatalf("%v, %v, want %s and %q", env, err, vars, warning)
			}
		}
		want("B=2|A=1", "")
		os.Remove(filepath.Join(in.root, path))
		time.AfterFunc(readLimit/2, func() { // in the bubble
			in.write(t, path+".new", text) // which is not whole at once
			os.Rename(filepath.Join(in.root, path+".new"), filepath.Join(in.root, path))
		})
		want("B=2|A=1", "")
		os.Remove(filepath.Join(in.root, path))
		want("A=1", "unit is gone")
		os.Remove(filepath.Join(in.root, DefaultDeploymentEnv)) // so that nothing is kept
		in.write(t, DefaultDeploymentEnv, "A=2\n")
		start := time.Now()
		if want("A=2", ""); time.Since(start) > readLimit/2 {
			t.Error("waited twice for a unit that is gone")
		}
	})
}

func TestDockerIsRefusedPlainly(t *testing.T) {
	if _, err := New(Config{Docker: true}).Resolve(t.Context()); !errors.Is(err, ErrDocker) {
		t.Error(err)
	}
}

func TestAChangedFileIsReadAgain(t *testing.T) {
	in := newInstance(t)
	r := New(in.cfg)
	for i := range 5 {
		want := fmt.Sprintf("A=%d", i)
		in.write(t, DefaultDeploymentEnv, want+"\n") // the same size every time, within one clock tick
		env, err := r.Resolve(t.Context())
		if err != nil || joined(env.Vars()) != want {
			t.Fatalf("got %v, %v, want %s", env, err, want)
		}
	}
}

func TestLocalModeReadsDotenvAndNothingOfTheAgentsOwn(t *testing.T) {
	t.Setenv("PLANTED_OWN", "x")
	t.Setenv("PATH", "/planted")
	in := newInstance(t)
	in.cfg.Beanstalk, in.cfg.User = false, ""
	in.write(t, "/var/app/current/.env", "# c\nexport A='1'\nB=\"${A}2\"\n")
	in.write(t, "/var/app/current/more.env", "A=3\n")
	in.cfg.EnvFiles = []string{"more.env"}
	p, err := New(in.cfg).Profile(t.Context(), ProfileOptions{Extra: []string{"C=4"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"A": "3", "B": "12", "C": "4", "PATH": defaultPath} {
		if got, _ := p.Env.Lookup(name); got != want {
			t.Errorf("%s=%q, want %q", name, got, want)
		}
	}
	if _, ok := p.Env.Lookup("PLANTED_OWN"); ok {
		t.Error("the agent's own environment is in the run's")
	}
	if p.User.UID != uint32(os.Geteuid()) || p.Dir != in.cfg.AppDir {
		t.Errorf("uid %d in %q", p.User.UID, p.Dir)
	}
}

func TestAMissingNamedEnvFileIsAnError(t *testing.T) {
	in := newInstance(t)
	in.cfg.Beanstalk = false
	in.cfg.EnvFiles = []string{"gone.env"}
	if _, err := New(in.cfg).Resolve(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestDotenvDoesNotLeaveTheApplicationsTree(t *testing.T) {
	in := newInstance(t)
	in.cfg.Beanstalk = false
	in.write(t, "/etc/shadow", "A=planted\n")
	if err := os.Symlink(filepath.Join(in.root, "etc/shadow"), filepath.Join(in.cfg.AppDir, ".env")); err != nil {
		t.Fatal(err)
	}
	if env, err := New(in.cfg).Resolve(t.Context()); err == nil {
		t.Errorf("read %v through a link out of the tree", env.Vars())
	}
}

func TestProfileIsWhatSystemdWouldGive(t *testing.T) {
	in := newInstance(t)
	in.write(t, DefaultDeploymentEnv, "A=1\nHOME=/elsewhere\n")
	in.program(t, "/var/app/venv/staging-abc/bin/python")
	in.write(t, "/etc/locale.conf", "LANG=en_US.UTF-8\nX=1\n")
	if err := os.Symlink(in.cfg.AppDir, filepath.Join(in.root, "link")); err != nil {
		t.Fatal(err)
	}
	in.cfg.AppDir = filepath.Join(in.root, "link")
	p, err := New(in.cfg).Profile(t.Context(), ProfileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"LANG=en_US.UTF-8", "PATH=" + in.root + "/var/app/venv/staging-abc/bin:" + defaultPath, "HOME=/elsewhere", "LOGNAME=webapp", "USER=webapp", "A=1"}
	if !slices.Equal(p.Env, want) {
		t.Errorf("got  %q\nwant %q", []string(p.Env), want)
	}
	if p.Dir != filepath.Join(in.root, "var/app/current") || p.Umask != 0o022 || !slices.Contains(p.User.Groups, 991) {
		t.Errorf("dir %q umask %o groups %v", p.Dir, p.Umask, p.User.Groups)
	}
}

// systemd 219 passes on what /etc/passwd says, and no locale that nobody chose.
func TestProfileOnAmazonLinux2(t *testing.T) {
	in := newInstance(t)
	in.cfg.Systemd = AmazonLinux2
	in.write(t, DefaultDeploymentEnv, "A=1\n")
	p, err := New(in.cfg).Profile(t.Context(), ProfileOptions{})
	want := []string{"PATH=" + defaultPath, "HOME=/home/webapp", "LOGNAME=webapp", "USER=webapp", "SHELL=/sbin/nologin", "A=1"}
	if err != nil || !slices.Equal(p.Env, want) {
		t.Errorf("got  %q, %v\nwant %q", []string(p.Env), err, want)
	}
}

func TestPathWithoutAnySource(t *testing.T) {
	in := newInstance(t)
	in.write(t, DefaultDeploymentEnv, "A=1\n")
	r := New(in.cfg)
	for release, want := range map[string]string{"NAME=x\nID=debian\n": defaultPath, "NAME=\"Amazon Linux\"\nID=\"amzn\"\n": mergedPath} {
		in.write(t, "/etc/os-release", release)
		p, err := r.Profile(t.Context(), ProfileOptions{})
		if got, _ := p.Env.Lookup("PATH"); err != nil || got != want {
			t.Errorf("%q: %q, %v", release, got, err)
		}
	}
}

// A request for a run is JSON, which would silently replace what is no text.
func TestWhatIsNoTextIsToldAndNotReplaced(t *testing.T) {
	in := newInstance(t)
	in.write(t, DefaultDeploymentEnv, "A=1\n")
	_, err := New(in.cfg).Profile(t.Context(), ProfileOptions{Extra: []string{"B=1", "NAME=J\xf6rg", "x\xf6=1"}})
	if s := fmt.Sprint(err); s != "env: NAME: is not valid UTF-8\nenv: is not valid UTF-8" {
		t.Error(s)
	}
}

func TestDiffNamesWhatDiffers(t *testing.T) {
	in := newInstance(t)
	in.write(t, DefaultDeploymentEnv, "PATH=/p\nSAME=1\nCHANGED=new\nGONE=1\n")
	in.process(t, 7, "PATH=/p", "LANG=C.UTF-8", "HOME=/home/webapp", "USER=webapp", "LOGNAME=webapp", "SAME=1", "CHANGED=old", "EXTRA=1", "INVOCATION_ID=z", "PWD=/")
	in.process(t, 8, "PATH=/p", "LANG=C.UTF-8", "HOME=/home/webapp", "USER=webapp", "LOGNAME=webapp", "SAME=1", "CHANGED=new", "GONE=1")
	d, err := New(in.cfg).Diff(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range d.Vars {
		if v.State != Same || v.PIDs != nil {
			got = append(got, fmt.Sprint(v.Name, " ", v.State, " ", v.PIDs))
		}
	}
	want := []string{"CHANGED changed [7]", "CHANGED same [8]", "EXTRA only-web [7]", "GONE only-run [7]", "GONE same [8]"}
	if !slices.Equal(got, want) || !differs(d) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// php-fpm's master runs as root and has no HOME; the pool's user, as whom runs are started, has one. Else the PHP
// platform differed for ever.
func TestDiffWhereTheUnitNamesNoUser(t *testing.T) {
	in := newInstance(t)
	in.write(t, DefaultDeploymentEnv, "PATH=/p\nA=1\n")
	in.process(t, 7, "PATH=/p", "LANG=C.UTF-8", "A=1")
	r := New(in.cfg)
	if d, err := r.Diff(t.Context()); err != nil || len(d.Vars) != 6 || !differs(d) {
		t.Errorf("without a unit: %v, %v", d, err)
	}
	in.write(t, "/usr/lib/systemd/system/php-fpm.service", "[Service]\nExecStart=/usr/sbin/php-fpm\n")
	if d, err := r.Diff(t.Context()); err != nil || len(d.Vars) != 3 || differs(d) {
		t.Errorf("with a unit without a user: %v, %v", d, err)
	}
	in.write(t, "/usr/lib/systemd/system/php-fpm.service", "[Service]\nUser=webapp\n")
	if d, err := r.Diff(t.Context()); err != nil || !differs(d) {
		t.Errorf("with a unit of that user: %v, %v", d, err)
	}
}

func TestLimitsOfWhatIsRead(t *testing.T) {
	in := newInstance(t)
	f, err := os.Create(filepath.Join(in.root, "big"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.Truncate(maxFile + 1)
	if _, _, err := readOnce(func() (*os.File, error) { return openFile(f.Name()) }, maxFile); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("err = %v", err)
	}
}

// A process can give any memory of its own out as its environment.
func TestEnvironOfAProcessHasALimit(t *testing.T) {
	in := newInstance(t)
	in.write(t, DefaultDeploymentEnv, "A=1\n")
	in.process(t, 7, "A=1")
	if err := os.Truncate(filepath.Join(in.root, "proc/7/environ"), 1<<30); err != nil {
		t.Fatal(err)
	}
	in.process(t, 8, slices.Repeat([]string{"A=1"}, 100_000)...)
	in.process(t, 9, "A=2")
	d, err := New(in.cfg).Diff(t.Context())
	if err != nil || !slices.Equal(d.PIDs, []int{9}) || len(d.Unread) != 2 {
		t.Errorf("read %v, not read %q, %v", d.PIDs, d.Unread, err)
	}
}
