package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/packaging/testbed/gotool"
	"beanstalk-agent/packaging/testbed/hung"
)

// nobody is a user whom no other test has: one here attacks the next process of that user, whosever it is.
var nobody = &Credential{UID: 64123, GID: 64123}

// as is sh, run by nobody.
func as(line string) Spec {
	spec := sh(line)
	spec.Cred, spec.Dir = nobody, "/"
	return spec
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		gotool.Need(t, "root, to start commands as another user")
	}
}

// shortly makes starts wait less long.
func shortly(t *testing.T, limit time.Duration) {
	before := startWait
	startWait = limit
	t.Cleanup(func() { startWait = before })
}

// others starts commands until stop, and fails when one of them does not start: whatever becomes of a start, no
// other waits for it.
func others(t *testing.T) (stop func() (started int)) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	n := 0
	wg.Go(func() {
		for ctx.Err() == nil {
			if out, _, err := run(t, sh("echo up")); out != "up\n" || err != nil {
				t.Errorf("another start: %q, %v", out, err)
			}
			n++
		}
	})
	return func() int { cancel(); wg.Wait(); return n }
}

// What the application names may be a file system of its own that answers nothing: its program, the program's
// interpreter, its directory, or one of PATH. Only that start fails; nothing of it is left, if the kernel can end it.
func TestStartOnAFileSystemThatDoesNotAnswer(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 7 s")
	}
	needRoot(t)
	shortly(t, 3*time.Second)
	for _, takes := range []bool{false, true} {
		dir := hung.Mount(t, takes)
		script := filepath.Join(t.TempDir(), "job")
		if err := os.WriteFile(script, []byte("#!"+dir+"/x\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		for p := filepath.Dir(script); p != "/" && p != os.TempDir(); p = filepath.Dir(p) {
			os.Chmod(p, 0o755)
		}
		stop := others(t)
		var wg sync.WaitGroup
		for what, spec := range map[string]Spec{
			"program":     {Args: []string{dir + "/x"}},
			"interpreter": {Args: []string{script}},
			"directory":   {Args: []string{"true"}, Dir: dir + "/x"},
			"PATH":        {Args: []string{"x"}, Env: []string{"PATH=" + dir + ":/bin"}},
		} {
			wg.Go(func() {
				spec.Cred = nobody
				_, _, err := run(t, spec)
				e, ok := errors.AsType[*StartError](err)
				if !ok || e.Code != CodeRefused || e.Ours || !strings.Contains(e.Error(), "does not answer") {
					t.Errorf("%s, request taken %v: %+v", what, takes, err)
				}
			})
		}
		wg.Wait()
		if n := stop(); n == 0 {
			t.Error("no other start came through")
		}
		if !takes {
			eventually(t, "no process is left", func() bool {
				reaper.mu.Lock()
				defer reaper.mu.Unlock()
				return len(reaper.procs) == 0
			})
		}
	}
}

// Processes that the kernel does not end add up: a user has so many of them, and another is not concerned.
func TestUserWhoseStartsDoNotEnd(t *testing.T) {
	needRoot(t)
	shortly(t, time.Second)
	spec := Spec{Args: []string{hung.Mount(t, true) + "/x"}, Cred: &Credential{UID: 5, GID: 5}}
	var wg sync.WaitGroup
	for range maxUnkillable {
		wg.Go(func() {
			if _, _, err := run(t, spec); err == nil || !strings.Contains(err.Error(), "does not answer") {
				t.Errorf("it started: %v", err)
			}
		})
	}
	wg.Wait()
	if _, _, err := run(t, spec); err == nil || !strings.Contains(err.Error(), "do not end") || Ours(err) {
		t.Errorf("one more: %v", err)
	}
	if out, _, err := run(t, as("echo up")); out != "up\n" || err != nil {
		t.Errorf("another user: %q, %v", out, err)
	}
}

// Between setuid and exec a process is its user's: here one that does this to the next process numbers, as fast as it
// can. A start may fail; others, and the parent, must not wait.
var attacks = map[string]func(pid int){
	"stop":     func(pid int) { unix.Kill(pid, unix.SIGSTOP) },
	"continue": func(pid int) { unix.Kill(pid, unix.SIGSTOP); unix.Kill(pid, unix.SIGCONT) },
	"kill":     func(pid int) { unix.Kill(pid, unix.SIGKILL) },
	"crash":    func(pid int) { unix.Kill(pid, unix.SIGSEGV) },
	"urge":     func(pid int) { unix.Kill(pid, unix.SIGURG) }, // Go's own, to preempt
	"thread":   func(pid int) { unix.Tgkill(pid, pid, unix.SIGSTOP) },
	"trace":    func(pid int) { unix.PtraceSeize(pid) },
	"limit": func(pid int) {
		unix.Prlimit(pid, unix.RLIMIT_AS, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}, nil)
		unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{}, nil)
	},
	"starve": func(pid int) {
		unix.SchedSetAttr(pid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
	},
}

func TestStartThatItsUserAttacks(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 12 s")
	}
	needRoot(t)
	shortly(t, 2*time.Second)
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	for name := range attacks {
		stopAttack := attack(t, name)
		stop := others(t)
		failed, started, ends := 0, 0, []*Process(nil)
		hit := func() bool { return name != "stop" || failed > 0 }
		for end := time.Now().Add(time.Second); !time.Now().After(end) || !hit() && !time.Now().After(end.Add(time.Minute)); {
			spec := as("exec sleep 1000")
			spec.Files = [3]int{null, null, null}
			p, err := Start(spec, &reaper)
			switch e, ok := errors.AsType[*StartError](err); {
			case ok && !e.Ours:
				failed++
			case err != nil:
				t.Errorf("%s: %v", name, err)
			default:
				started++
				syscall.Kill(p.PID, syscall.SIGKILL)
				ends = append(ends, p) // one that is traced by now is collected once its tracer has ended
			}
		}
		stopAttack()
		for _, p := range ends {
			<-p.Done()
		}
		t.Logf("%s: %d starts failed, %d did not, %d others came through", name, failed, started, stop())
		if !hit() {
			t.Error("no process was stopped in time: this shows nothing")
		}
	}
}

// attack goes on, as nobody, until stop.
func attack(t *testing.T, name string) (stop func()) {
	spec := Spec{Args: []string{"/proc/self/exe"}, Env: []string{"COMMAND_TEST_ATTACK=" + name}, Cred: nobody, Files: [3]int{0, 1, 2}}
	p, err := Start(spec, &reaper)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		syscall.Kill(p.PID, syscall.SIGKILL)
		<-p.Done()
	}
}

// attackMain is the attacker: /proc/loadavg ends with the newest process's number.
func attackMain(act func(pid int)) {
	runtime.LockOSThread()
	fd, err := unix.Open("/proc/loadavg", unix.O_RDONLY, 0)
	if err != nil {
		panic(err)
	}
	buf := make([]byte, 100)
	for self := os.Getpid(); ; {
		got, _ := unix.Pread(fd, buf, 0)
		text := strings.TrimSpace(string(buf[:got]))
		last, _ := strconv.Atoi(text[strings.LastIndexByte(text, ' ')+1:])
		for range 200 {
			for pid := last; pid <= last+6; pid++ {
				if unix.Tgkill(self, pid, 0) != nil { // no thread of its own
					act(pid)
				}
			}
		}
	}
}

// A process that forks in its first instruction hands its score on: it must have the right one by then.
func TestChildrenHaveTheScoreOfTheirRun(t *testing.T) {
	for range 40 {
		spec := sh("cat /proc/self/oom_score_adj & cat /proc/self/oom_score_adj; wait")
		spec.OOMScoreAdj = 321
		if out, _, err := run(t, spec); out != "321\n321\n" || err != nil {
			t.Fatalf("scores are %q, %v; want 321 twice", out, err)
		}
	}
}

// What the command's user may not see has one answer, whether it is there or not.
func TestWhatItsUserMayNotSee(t *testing.T) {
	needRoot(t)
	secret := filepath.Join(t.TempDir(), "secret")
	for p := filepath.Dir(secret); p != "/" && p != os.TempDir(); p = filepath.Dir(p) {
		os.Chmod(p, 0o755)
	}
	os.MkdirAll(filepath.Join(secret, "there"), 0o755)
	os.WriteFile(filepath.Join(secret, "tool"), []byte("#!/bin/sh\n"), 0o755)
	if err := os.Chmod(secret, 0o700); err != nil {
		t.Fatal(err)
	}
	answer := func(spec Spec) string {
		spec.Cred = nobody
		_, _, err := run(t, spec)
		e, ok := errors.AsType[*StartError](err)
		if !ok {
			t.Fatalf("%q started: %v", spec.Args, err)
		}
		return strings.NewReplacer("tool", "X", "none", "X", "there", "X").Replace(fmt.Sprint(e.Code, e))
	}
	for what, specs := range map[string][2]Spec{
		"by PATH":         {{Args: []string{"tool"}, Env: []string{"PATH=" + secret}}, {Args: []string{"none"}, Env: []string{"PATH=" + secret}}},
		"by name":         {{Args: []string{secret + "/tool"}}, {Args: []string{secret + "/none"}}},
		"as interpreter":  {{Args: []string{"tool"}, Dir: secret}, {Args: []string{"none"}, Dir: secret}},
		"directory":       {{Args: []string{"true"}, Dir: secret + "/there"}, {Args: []string{"true"}, Dir: secret + "/none"}},
		"not a directory": {{Args: []string{"true"}, Dir: secret + "/tool"}, {Args: []string{"true"}, Dir: secret + "/none"}},
	} {
		if there, none := answer(specs[0]), answer(specs[1]); there != none {
			t.Errorf("%s: %q when it is there, %q when not", what, there, none)
		}
	}
}

// What a command inherits is what ForkExec passes on: its parent's limits, before Go raised its own, and priority.
func TestCommandInheritsAsFromForkExec(t *testing.T) {
	const line = "ulimit -Sn; ulimit -Hn; ulimit -c; nice; grep -E 'Sig(Blk|Ign|Cgt)|Cap|Groups|Seccomp' /proc/self/status; cat /proc/self/loginuid; ls /proc/self/fd"
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out := w.Fd()
	p, err := reaper.adopt(nil, func() (int, error) {
		return syscall.ForkExec("/bin/sh", Shell(line), &syscall.ProcAttr{Env: []string{"PATH=/bin:/usr/bin"},
			Files: []uintptr{out, out, out}, Sys: &syscall.SysProcAttr{Setsid: true}})
	})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	if _, err := r.WriteTo(&want); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if got, _, err := run(t, sh(line)); got != want.String() || err != nil {
		t.Errorf("it has\n%s, %v, want\n%s", got, err, want.String())
	}
}

// A kernel before 5.5, or a container, knows no clone3 with what is asked of it.
func TestStartWithoutClone3(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	spec := sh("grep -E 'Sig(Blk|Ign)' /proc/self/status; kill -TERM $$")
	spec.Files = [3]int{int(w.Fd()), int(w.Fd()), int(w.Fd())}
	c := newChild(spec)
	status, closeAll, err := c.open(spec)
	if err != nil {
		t.Fatal(err)
	}
	defer status.Close()
	c.clone.exitSignal = 1 << 40 // EINVAL
	p, err := reaper.adopt(nil, func() (int, error) { pid, _ := c.fork(); return int(pid), nil })
	closeAll()
	w.Close()
	if err != nil || await(spec, p.PID, status) != nil || !c.catching {
		t.Fatalf("it did not start: %v", err)
	}
	var out strings.Builder
	if _, err := r.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if got := out.String(); strings.Trim(got, "SigBlkIn:\t0\n") != "" || p.Status().Signal != unix.SIGTERM {
		t.Errorf("its signals are %s, and it ended as %+v", got, p.Status())
	}
}
