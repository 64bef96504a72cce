package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/runs"
)

// One caller's runs are bounded, of whatever kind, and take nothing from root's, from jobs or from another caller's.
func TestRunsOfOneCallerAreLimited(t *testing.T) {
	if testing.Short() {
		t.Skip("starts 200 commands")
	}
	d := start(t)
	hold := func(uid uint32) (runs.Run, error) {
		req := spooled("")
		req.Args, req.Caller.UID = []string{"/bin/sleep", "1000"}, uid
		return d.Start(t.Context(), req, runs.Handover{})
	}
	var first runs.Run
	for i := range maxOfCaller {
		run, err := hold(64123)
		if err != nil {
			t.Fatalf("run %d: %v", i+1, err)
		}
		if i == 0 {
			first = run
		}
	}
	_, err := hold(64123)
	if r, ok := errors.AsType[*runs.Refused](err); !ok || r.Status != http.StatusTooManyRequests || r.Hint == "" {
		t.Errorf("one more: %v", err)
	}
	job := spooled("true")
	job.Kind = "cron"
	terminal := onTerminal("true")
	terminal.Caller.UID = 64123
	if _, err := d.Start(t.Context(), terminal, runs.Handover{}); err == nil {
		t.Error("one more, on a terminal, began")
	}
	for name, req := range map[string]runs.Request{"root's": spooled("true"), "a job": job} {
		if run, err := d.Start(t.Context(), req, runs.Handover{}); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if run, err = d.Wait(t.Context(), run.ID); err != nil || run.ExitCode != 0 {
			t.Errorf("%s: %+v, %v", name, run, err)
		}
	}
	if _, err := hold(64124); err != nil {
		t.Errorf("another caller's: %v", err)
	}
	if _, err := d.Stop(t.Context(), first.ID, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := hold(64123); err != nil {
		t.Errorf("when one has ended: %v", err)
	}
}

// Whatever users and jobs start, a part of all places is left for who comes after them, however few there are.
func TestEachCrowdLeavesPlaces(t *testing.T) {
	for _, all := range []int{maxRuns, 960, 40} {
		c := crowd{all: all, files: 4096, of: map[uint32]int{}}
		fill := func(m member) (n int) {
			for c.enter(m) == nil {
				n++
			}
			return n
		}
		for uid := range uint32(100) { // whose names are different
			fill(member{caller: 1000 + uid})
		}
		users := c.live
		jobs := fill(member{owner: true, cron: true})
		root := fill(member{owner: true})
		if users < all/3 || users > all/2 || jobs < all/4 || root < all/4 || users+jobs+root != all {
			t.Errorf("of %d places users took %d, jobs %d, root %d", all, users, jobs, root)
		}
		for uid := range uint32(100) {
			for c.of[1000+uid] > 0 {
				c.leave(member{caller: 1000 + uid})
			}
		}
		if c.callers != 0 || len(c.of) != 0 || c.enter(member{caller: 1}) != nil {
			t.Errorf("when all have left, %+v", c)
		}
	}
}

// Jobs and users together leave root its places, whichever come first.
func TestRootsPlacesAreLeftWhoeverComesFirst(t *testing.T) {
	c := crowd{all: maxRuns, of: map[uint32]int{}}
	for c.enter(member{owner: true, cron: true}) == nil { // jobs
	}
	for uid := range uint32(100) {
		for c.enter(member{caller: 1000 + uid}) == nil {
		}
	}
	if left := maxRuns - c.live; left != maxRuns-maxOfCron {
		t.Errorf("%d places are left for root, want %d", left, maxRuns-maxOfCron)
	}
}

// No kind of run holds more descriptors of this process than are reckoned with.
func TestDescriptorsOfRunsAreReckonedWith(t *testing.T) {
	d := start(t)
	null := devNull(t)
	some := 20
	if testing.Short() {
		some = 4
	}
	for name, begin := range map[string]func() error{
		"output": func() error {
			_, err := d.Start(t.Context(), spooled("exec sleep 1000"), runs.Handover{})
			return err
		},
		"terminal": func() error {
			ours, _ := sleeper(t)
			_, err := d.Start(t.Context(), onTerminal("exec sleep 1000"), runs.Handover{Conn: ours})
			return err
		},
		"pipes": func() error {
			ours, _ := sleeper(t)
			_, err := d.Start(context.Background(), request("exec sleep 1000"),
				runs.Handover{Conn: ours, Files: []int{null, null, null}})
			return err
		},
	} {
		before := descriptors(d.cmd.Process.Pid)
		for range some {
			if err := begin(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		eventually(t, name+" holds few descriptors", func() bool {
			return descriptors(d.cmd.Process.Pid)-before <= some*filesOfRun
		})
	}
}

// The supervisor raises its own limit of open files, if it may, and a command has the one that the supervisor was
// started with.
func TestFileLimitIsRaisedForTheSupervisorAlone(t *testing.T) {
	for limit, set := range map[string]string{"900\n1000\n": "ulimit -Sn 900; ulimit -Hn 1000", "1000\n1000\n": "ulimit -n 1000"} {
		dir := t.TempDir()
		text, _ := json.Marshal(Config{Socket: dir + "/s", StateDir: dir, Version: "test", AllowUsers: []string{"*"}, AllowRoot: true})
		as := self("supervisor", "SUPERVISOR_TEST_CONFIG="+string(text))
		cmd := exec.Command("/bin/sh", "-c", set+"; exec "+as.Path)
		cmd.Env, cmd.Stderr = as.Env, t.Output()
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() { cmd.Process.Signal(syscall.SIGTERM); cmd.Wait() }()
		out.Read(make([]byte, 1)) // it is ready
		var its unix.Rlimit
		err = unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &its)
		if err != nil || mayRaiseLimits(t) && its.Cur < filesWanted {
			t.Errorf("the supervisor may have %d, want %d, %v", its.Cur, filesWanted, err)
		}
		t.Logf("the supervisor may have %d", its.Cur)
		c := &runs.Client{Socket: dir + "/s"}
		run, err := c.Start(t.Context(), spooled("ulimit -Sn >"+dir+"/limits; ulimit -Hn >>"+dir+"/limits"), runs.Handover{})
		if err == nil {
			_, err = c.Wait(t.Context(), run.ID)
		}
		if got, _ := os.ReadFile(dir + "/limits"); err != nil || string(got) != limit {
			t.Errorf("a command has %q, want %q, %v", got, limit, err)
		}
	}
}

// mayRaiseLimits reports whether this process has CAP_SYS_RESOURCE.
func mayRaiseLimits(t *testing.T) bool {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "CapEff:\t")
	caps, _ := strconv.ParseUint(strings.SplitN(rest, "\n", 2)[0], 16, 64)
	return caps>>unix.CAP_SYS_RESOURCE&1 == 1
}

// A watchdog that ended all runs since they hold all descriptors would do what whoever started them wants.
func TestTooManyFilesOfRunsIsNoFaultOfOurs(t *testing.T) {
	full := &command.StartError{Ours: true, Err: syscall.EMFILE}
	for name, c := range map[string]struct {
		live int
		err  error
		want bool
	}{
		"runs hold most":        {150, full, true},
		"something else does":   {10, full, false},
		"it fails otherwise":    {150, &command.StartError{Ours: true, Err: syscall.EPERM}, false},
		"it does not fail":      {150, nil, false},
		"runs hold all and end": {0, full, false},
	} {
		s := &server{crowd: crowd{live: c.live, files: 1024}}
		if s.crowded(c.err) != c.want {
			t.Errorf("%s: %v", name, !c.want)
		}
	}
}
