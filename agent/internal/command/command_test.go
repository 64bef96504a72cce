//go:build linux

package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/packaging/testbed/planted"
)

// The tests use no os/exec: the reaper collects every child of the process, as it does in the supervisor.
var reaper Reaper

func TestMain(m *testing.M) {
	if line := os.Getenv("COMMAND_TEST_IN_PLACE"); line != "" {
		err := ExecInPlace(Spec{Args: strings.Split(line, "|"), Env: []string{"PATH=/bin:/usr/bin", "ONLY=this"}, Dir: "/"})
		var e *StartError
		errors.As(err, &e)
		os.Exit(e.Code)
	}
	if act := attacks[os.Getenv("COMMAND_TEST_ATTACK")]; act != nil {
		attackMain(act)
	}
	if err := errors.Join(Subreaper(), CloseOnExec()); err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { reaper.Run(ctx) })
	code := m.Run()
	cancel()
	wg.Wait()
	os.Exit(code)
}

// run starts spec with its output in a pipe, and returns the output and how it ended.
func run(t *testing.T, spec Spec) (string, Status, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	spec.Files = [3]int{int(null.Fd()), int(w.Fd()), int(w.Fd())}
	p, err := Start(spec, &reaper)
	w.Close()
	if err != nil {
		return "", Status{}, err
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	return string(out), p.Status(), nil
}

func sh(line string) Spec {
	return Spec{Args: Shell(line), Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin:/" + planted.Value, "PLANTED=" + planted.Value}}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}

func TestStatus(t *testing.T) {
	for line, want := range map[string]Status{
		"true":                       {},
		"exit 7":                     {Code: 7},
		"exit 255":                   {Code: 255},
		"kill -TERM $$":              {Code: 143, Signal: syscall.SIGTERM},
		"ulimit -c 0; kill -SEGV $$": {Code: 139, Signal: syscall.SIGSEGV},
	} {
		_, got, err := run(t, sh(line))
		if err != nil || got.Code != want.Code || got.Signal != want.Signal {
			t.Errorf("%q ended as %+v, %v; want %+v", line, got, err, want)
		}
	}
}

// The same environment, byte for byte and in order; nothing else of the parent's.
func TestCommandSeesItsSpecAndNothingElse(t *testing.T) {
	leak, err := os.Open("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	spec := Spec{Args: []string{"/usr/bin/env", "-0"}, Env: []string{"B=1", "A=x\ny", "EMPTY=", "B=2", "odd name=\xff", "PLANTED=" + planted.Value}}
	if out, _, err := run(t, spec); err != nil || out != strings.Join(spec.Env, "\x00")+"\x00" {
		t.Errorf("environment is %q, %v", out, err)
	}
	for umask, want := range map[int]string{0: "0022", NoUmask: "0000", 0o027: "0027", 0o077: "0077"} {
		spec := sh("umask; pwd; ls /proc/self/fd | wc -l; cut -d' ' -f5,6 /proc/self/stat; echo $$; grep -E 'SigIgn|SigBlk' /proc/self/status | tr -d '\\n'")
		spec.Umask, spec.Dir = umask, "/usr/lib"
		out, _, err := run(t, spec)
		f := strings.Split(out, "\n")
		if err != nil || len(f) < 6 || f[0] != want || f[1] != "/usr/lib" || f[2] != "4" {
			t.Errorf("umask %o: %q, %v", umask, out, err)
			continue
		}
		if f[3] != f[4]+" "+f[4] {
			t.Errorf("process group and session are %q, its pid is %s", f[3], f[4])
		}
		if strings.Trim(f[5], "SigBlkIn:\t0") != "" {
			t.Errorf("signals are ignored or blocked: %s", f[5])
		}
	}
	if out, st, err := run(t, Spec{Args: []string{"/usr/bin/env"}}); err != nil || out != "" || st.Code != 0 {
		t.Errorf("no environment gave %q, %v", out, err)
	}
}

func ownUmask(t *testing.T) string {
	text, err := os.ReadFile("/proc/self/status")
	_, rest, ok := strings.Cut(string(text), "\nUmask:\t")
	if err != nil || !ok {
		t.Fatalf("no umask in %q, %v", text, err)
	}
	return rest[:4]
}

// What a command is given must not change the process.
func TestNothingOfACommandChangesItsParent(t *testing.T) {
	before := ownUmask(t)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			spec := sh("umask; grep NoNewPrivs /proc/self/status")
			spec.Umask, spec.NoNewPrivs = 0o070+i%8, true
			out, _, err := run(t, spec)
			if want := fmt.Sprintf("%04o\nNoNewPrivs:\t1\n", spec.Umask); err != nil || out != want {
				t.Errorf("got %q, %v; want %q", out, err, want)
			}
		})
	}
	wg.Wait()
	if now := ownUmask(t); now != before {
		t.Errorf("umask is %s, was %s", now, before)
	}
	if out, _, _ := run(t, sh("grep NoNewPrivs /proc/self/status")); out != "NoNewPrivs:\t0\n" {
		t.Errorf("a later command has %q", out)
	}
}

func TestLookup(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return name
	}
	os.Mkdir(filepath.Join(a, "tool"), 0o755) // a directory of that name is passed over
	write(filepath.Join(b, "tool"), "#!/bin/sh\necho b $0\n", 0o755)
	write(filepath.Join(a, "denied"), "#!/bin/sh\n", 0o644)
	write(filepath.Join(a, "plain"), "echo plain $1", 0o755)
	write(filepath.Join(a, "orphan"), "#!/no/such/interpreter\n", 0o755)
	write(filepath.Join(a, "garbage"), "\x7fELF not really", 0o755)
	path := "PATH=" + a + ":" + b + ":/usr/bin:/bin"
	for _, c := range []struct {
		args []string
		env  string
		dir  string
		out  string
		code int
	}{
		{[]string{"tool"}, path, "", "b " + b + "/tool\n", 0},
		{[]string{"./tool"}, path, b, "b ./tool\n", 0},
		{[]string{"tool"}, "PATH=", b, "b tool\n", 0}, // an empty element is the directory itself
		{[]string{"plain", "arg"}, path, "", "plain arg\n", 0},
		{[]string{"denied"}, path, "", "", 126},
		{[]string{"orphan"}, path, "", "", 126},
		{[]string{"./" + "tool/"}, path, a, "", 126},
		{[]string{a}, path, "", "", 126},
		{[]string{"tool"}, "PATH=" + a, "", "", 126}, // only the directory is there
		{[]string{"absent"}, path, "", "", 127},
		{[]string{"/absent/x"}, path, "", "", 127},
		{[]string{"true"}, "NOPATH=1", "", "", 0},
		{[]string{"true"}, path, "/absent", "", 125},
		{[]string{"true"}, path, filepath.Join(a, "plain"), "", 125},
		{[]string{""}, path, "", "", 125},
		{[]string{"true", "a\x00b"}, path, "", "", 125},
	} {
		out, st, err := run(t, Spec{Args: c.args, Env: []string{c.env}, Dir: c.dir})
		code := st.Code
		if e, ok := errors.AsType[*StartError](err); ok {
			code = e.Code
		}
		if code != c.code || out != strings.ReplaceAll(c.out, "b tool\n", "b "+b+"/tool\n") {
			t.Errorf("%q with %s in %q: code %d, output %q (%v); want %d, %q", c.args, c.env, c.dir, code, out, err, c.code, c.out)
		}
	}
}

// Children that end at once, many at a time, each with its own status.
func TestReaperMissesNone(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			if _, st, err := run(t, sh("exit "+strconv.Itoa(i))); err != nil || st.Code != i {
				t.Errorf("run %d: %+v, %v", i, st, err)
			}
		})
	}
	wg.Wait()
	reaper.mu.Lock()
	defer reaper.mu.Unlock()
	if len(reaper.procs) != 0 {
		t.Errorf("%d are still on the books", len(reaper.procs))
	}
}

// Without control groups: the session, the process group and all that descends from them.
func TestEndWithoutControlGroups(t *testing.T) {
	place := &Place{}
	g, err := place.Group("x", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	spec := sh("trap '' TERM; sleep 4242 & (setsid sleep 4242; :) & echo up; wait; sleep 4242")
	spec.Group = g
	r, w, _ := os.Pipe()
	defer r.Close()
	null, _ := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	defer null.Close()
	spec.Files = [3]int{int(null.Fd()), int(w.Fd()), int(w.Fd())}
	p, err := Start(spec, &reaper)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	g.Leader(p.PID)
	io.ReadFull(r, make([]byte, 3))
	eventually(t, "four processes run", func() bool { return len(g.Processes()) >= 4 })
	pids := g.Processes()
	if err := g.End(Step{syscall.SIGTERM, 50 * time.Millisecond}); err != nil {
		t.Error(err)
	}
	<-p.Done()
	if p.Status().Signal != syscall.SIGKILL {
		t.Errorf("ended as %+v", p.Status())
	}
	for _, pid := range pids {
		if st, ok := processTable()[pid]; ok && st.State != 'Z' {
			t.Errorf("process %d lives", pid)
		}
	}
	if _, err := place.Group("y", Limits{Memory: 1 << 20}); !errors.Is(err, ErrNoMemoryLimit) {
		t.Errorf("a memory limit that cannot be kept gave %v", err)
	}
}

// A stopped process sees no TERM until it goes on.
func TestEndWakesStoppedProcesses(t *testing.T) {
	g, _ := (&Place{}).Group("x", Limits{})
	spec := sh("trap 'exit 3' TERM; kill -STOP $$; while :; do sleep 0.01; done")
	null, _ := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	defer null.Close()
	fd := int(null.Fd())
	spec.Group, spec.Files = g, [3]int{fd, fd, fd}
	p, err := Start(spec, &reaper)
	if err != nil {
		t.Fatal(err)
	}
	g.Leader(p.PID)
	eventually(t, "it is stopped", func() bool { return processTable()[p.PID].State == 'T' })
	if err := g.End(Step{syscall.SIGTERM, 10 * time.Second}); err != nil {
		t.Error(err)
	}
	<-p.Done()
	if p.Status().Code != 3 {
		t.Errorf("ended as %+v, not by its own handler", p.Status())
	}
}

func TestExecInPlace(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]struct {
		code int
		out  string
	}{
		"env":               {0, "PATH=/bin:/usr/bin\nONLY=this\n"},
		"sh|-c|pwd; exit 7": {7, "/\n"},
		"no-such-program":   {127, ""},
		"/tmp":              {126, ""},
	} {
		out, st, err := run(t, Spec{Args: []string{exe}, Env: []string{"COMMAND_TEST_IN_PLACE=" + line}})
		if err != nil || st.Code != want.code || out != want.out {
			t.Errorf("%q: %d, %q, %v; want %+v", line, st.Code, out, err, want)
		}
	}
}

func TestTerminalIsTheControllingOne(t *testing.T) {
	term, err := OpenTerminal(12, 34, uint32(os.Getuid()))
	if err != nil {
		t.Fatal(err)
	}
	defer term.Close()
	spec := sh("stty size; echo to the terminal >/dev/tty; ps -o tpgid= -p $$ | tr -d ' '; echo $$")
	spec.Terminal, spec.Files = true, [3]int{term.Slave, term.Slave, term.Slave}
	p, err := Start(spec, &reaper)
	if err != nil {
		t.Fatal(err)
	}
	term.CloseSlave()
	var out bytes.Buffer
	io.Copy(&out, term.Master) // EIO at the end
	<-p.Done()
	f := strings.Split(out.String(), "\r\n")
	if len(f) != 5 || f[0] != "12 34" || f[1] != "to the terminal" || f[2] != f[3] {
		t.Errorf("it printed %q", out.String())
	}
	if err := term.Master.SetReadDeadline(time.Now()); err != nil {
		t.Errorf("the master takes no deadline: %v", err)
	}
}

// Threads may outlive the first one: /proc then shows a zombie, but the process lives.
func TestRunWhoseFirstThreadEndedIsNotOver(t *testing.T) {
	cmd := exec.Command("/usr/bin/python3", "-c", "import ctypes, threading, time\n"+
		"threading.Thread(target=time.sleep, args=(60,)).start()\nctypes.CDLL(None).pthread_exit(None)")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	pid := cmd.Process.Pid
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if p, ok := readStat(pid); ok && p.State == 'Z' {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the first thread did not end")
		}
	}
	s := &session{}
	s.begin(pid)
	if got := s.members(); !slices.Equal(got, []int{pid}) || s.empty() {
		t.Errorf("got members %v, empty %v; want process %d, with a thread that sleeps", got, s.empty(), pid)
	}
}
func FuzzParseControlGroups(f *testing.F) {
	own, _ := os.ReadFile("/proc/self/cgroup")
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	f.Add(string(own), string(mounts))
	f.Add("0::/system.slice/agent-runs.service/supervisor\n", "35 26 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
	f.Fuzz(func(t *testing.T, own, mounts string) {
		paths, at := parseOwn(strings.NewReader(own)), parseMounts(strings.NewReader(mounts))
		for c, p := range paths {
			at.dir(c, p)
		}
	})
}

func TestParseControlGroups(t *testing.T) {
	paths := parseOwn(strings.NewReader("12:memory:/system.slice/agent-runs.service\n3:cpu,cpuacct:/x\n1:name=systemd:/system.slice/agent-runs.service\n0::/y\n"))
	for c, want := range map[string]string{"memory": "/system.slice/agent-runs.service", "cpuacct": "/x", "name=systemd": "/system.slice/agent-runs.service", "": "/y"} {
		if paths[c] != want {
			t.Errorf("%q is at %q, want %q", c, paths[c], want)
		}
	}
	at := parseMounts(strings.NewReader("30 25 0:26 /inner /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory\n31 25 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"))
	if got := at.dir("memory", "/inner/a"); got != "/sys/fs/cgroup/memory/a" {
		t.Errorf("memory's /inner/a is %q", got)
	}
	if got := at.dir("", "/a"); got != "/sys/fs/cgroup/unified/a" {
		t.Errorf("v2's /a is %q", got)
	}
}

// What a start costs beside the vfork that it replaces, in turns, as medians: until the command runs, and until it has
// ended. A fork copies page tables, so with as much memory as the supervisor may have.
func BenchmarkStart(b *testing.B) {
	ballast := make([]byte, 8<<20)
	for i := range ballast {
		ballast[i] = byte(i)
	}
	null, _ := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	defer null.Close()
	fd := int(null.Fd())
	spec := Spec{Args: []string{"true"}, Env: []string{"PATH=/usr/bin:/bin"}, Files: [3]int{fd, fd, fd}}
	attr := &syscall.ProcAttr{Env: spec.Env, Files: []uintptr{uintptr(fd), uintptr(fd), uintptr(fd)}, Sys: &syscall.SysProcAttr{Setsid: true}}
	ways := map[string]func() (*Process, error){
		"fork": func() (*Process, error) { return Start(spec, &reaper) },
		"vfork": func() (*Process, error) {
			return reaper.adopt(nil, func() (int, error) { return syscall.ForkExec("/usr/bin/true", spec.Args, attr) })
		},
	}
	up, over := map[string][]float64{}, map[string][]float64{}
	for b.Loop() {
		for way, start := range ways {
			begin := time.Now()
			p, err := start()
			if err != nil {
				b.Fatal(err)
			}
			up[way] = append(up[way], float64(time.Since(begin).Microseconds()))
			<-p.Done()
			over[way] = append(over[way], float64(time.Since(begin).Microseconds()))
		}
	}
	runtime.KeepAlive(ballast)
	for way := range ways {
		for what, times := range map[string][]float64{"-started-µs": up[way], "-ended-µs": over[way]} {
			slices.Sort(times)
			b.ReportMetric(times[len(times)/2], way+what)
		}
	}
}

func BenchmarkProcessTable(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		processTable()
	}
}

// An application's PATH may name ten thousands of directories: each program in them would be tried.
func TestLookupSearchesSoManyDirectoriesOnly(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"), []byte("#!/nowhere\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	paths := candidates(Spec{Args: []string{"x"}, Env: []string{"PATH=" + strings.Repeat(":", 100_000)}, Dir: dir})
	if len(paths) != 1 {
		t.Errorf("one directory is searched %d times", len(paths))
	}
	var many strings.Builder
	for i := range 10_000 {
		many.WriteString(dir + strings.Repeat("/", i%1000+1) + ":")
	}
	paths = candidates(Spec{Args: []string{"x"}, Env: []string{"PATH=" + many.String()}})
	if len(paths) != maxDirs {
		t.Errorf("%d directories are searched", len(paths))
	}
}
