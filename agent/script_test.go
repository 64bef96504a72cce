package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"beanstalk-agent/agent/internal/api"
)

// The command line, end to end: each script under testdata/script runs the real
// binary, with the real supervisor, sockets and processes, in a directory of
// its own. Off Beanstalk nothing else is needed, root neither. Each has a secret
// in the application's environment, and everything the agent says is searched for
// it: see secrets_test.go.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"agent": agentMain})
}

// testClock, set for an agent of these tests, names a file with the duration by
// which its scheduler's clock differs from the machine's. A static program takes
// no faketime, and a time namespace does not move the wall clock, so this is the
// one part of such an agent that is not real.
const testClock = "AGENT_TEST_CLOCK"

var clock func() time.Time

// agentMain is the agent as it is shipped, but for its clock; what it says is kept.
func agentMain() {
	if file := os.Getenv(testClock); file != "" {
		clock = func() time.Time {
			text, _ := os.ReadFile(file)
			by, _ := time.ParseDuration(strings.TrimSpace(string(text)))
			return time.Now().Add(by)
		}
	}
	withCapture()
}

func TestScripts(t *testing.T) {
	if _, err := exec.LookPath("tmux"); err != nil && os.Getenv("CI") != "" {
		t.Fatal("needs tmux") // elsewhere its script is skipped
	}
	root := t.TempDir() // testscript's own choice stays behind when not all scripts are run
	if flag.Lookup("testwork").Value.String() == "true" {
		root = "" // as it is meant to, then
	}
	testscript.Run(t, testscript.Params{
		Dir:         "testdata/script",
		WorkdirRoot: root,
		Setup: func(e *testscript.Env) error {
			port, err := freePort()
			if err != nil {
				return err
			}
			// Short: a socket's path may have 107 bytes.
			dir, err := os.MkdirTemp("", "a")
			if err != nil {
				return err
			}
			e.Defer(func() { os.RemoveAll(dir) })
			e.Defer(func() { checkSilence(t, dir) })
			if err := errors.Join(os.Mkdir(filepath.Join(dir, captureDir), 0o700), plant(filepath.Join(e.WorkDir, "app", ".env"))); err != nil {
				return err
			}
			e.Setenv("AGENT_SOCKET", filepath.Join(dir, "s"))
			e.Setenv("AGENT_CONFIG", filepath.Join(e.WorkDir, "agent.yaml"))
			e.Setenv("AGENT_STATE", filepath.Join(dir, "state"))
			e.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			e.Setenv("NOTIFY_SOCKET", "")
			e.Setenv("NO_COLOR", "1")
			e.Setenv("GORACE", "atexit_sleep_ms=0") // built with the race detector, each verb would end a second later
			e.Setenv("STATE_DIR", filepath.Join(dir, "state"))
			e.Setenv("HEALTH_LISTEN", fmt.Sprintf("127.0.0.1:%d", port))
			conf := fmt.Sprintf("state_dir: %s\nhealth: {listen: '127.0.0.1:%d'}\nmetrics: {sample: 1s}\n", filepath.Join(dir, "state"), port)
			return os.WriteFile(filepath.Join(e.WorkDir, "agent.yaml"), []byte(conf), 0o600)
		},
		Condition: func(cond string) (bool, error) { return cond == "root" && os.Geteuid() == 0, nil },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"eventually": eventually,
			"code":       code,
			"signal":     sendSignal,
			"again":      signalAgain,
			"unseen":     unseen,
		},
	})
}

// eventually SECONDS CMD ARGS… repeats a command until it succeeds.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	seconds, err := strconv.Atoi(args[0])
	ts.Check(err)
	deadline := time.Now().Add(time.Duration(seconds) * time.Second)
	for {
		err := ts.Exec(args[1], args[2:]...)
		if (err == nil) != neg {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%v: not within %d s: %v", args[1:], seconds, err)
		}
		time.Sleep(50 * time.Millisecond) // between two looks at a condition
	}
}

// code N CMD ARGS… runs a command that must end with exit status N.
func code(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if e, ok := err.(interface{ ExitCode() int }); ok {
		got = strconv.Itoa(e.ExitCode())
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != args[0] {
		ts.Fatalf("%v: exit status %s, want %s", args[1:], got, args[0])
	}
}

var signals = map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL, "HUP": syscall.SIGHUP,
	"STOP": syscall.SIGSTOP}

// signal NAME sends a signal to the agent that answers at AGENT_SOCKET; CONT to the one that was stopped.
func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	if args[0] == "CONT" {
		pid, err := strconv.Atoi(ts.Getenv("SIGNALLED"))
		ts.Check(errors.Join(err, syscall.Kill(pid, syscall.SIGCONT)))
		return
	}
	var s api.Status
	ts.Check(api.NewClient(ts.Getenv("AGENT_SOCKET")).Get(context.Background(), "/v1/status", &s))
	ts.Setenv("SIGNALLED", strconv.Itoa(s.PID))
	ts.Check(syscall.Kill(s.PID, signals[args[0]]))
}

// again NAME sends another signal to the agent that had the last one, which
// must be there still, and is gone within seconds. It is sent until then: one
// that comes while the agent is about to let signals have their way is lost.
func signalAgain(ts *testscript.TestScript, neg bool, args []string) {
	pid, err := strconv.Atoi(ts.Getenv("SIGNALLED"))
	ts.Check(err)
	ts.Check(syscall.Kill(pid, 0))
	for deadline := time.Now().Add(10 * time.Second); syscall.Kill(pid, signals[args[0]]) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("process %d is still there", pid)
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
