package supervisor

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/runs"
)

// The exit codes of DESIGN §6, through the whole chain of client, agent's place and supervisor.
func TestExitCodes(t *testing.T) {
	d := start(t)
	dir := t.TempDir()
	script := filepath.Join(dir, "noexec")
	os.WriteFile(script, []byte("#!/bin/sh\n"), 0o644)
	lost := filepath.Join(dir, "lost")
	os.WriteFile(lost, []byte("#!/nowhere/sh\n"), 0o755)
	plain := filepath.Join(dir, "plain")
	os.WriteFile(plain, []byte("exit 9\n"), 0o755)
	limited := request("exec sleep 60")
	limited.Timeout = 50 * time.Millisecond
	nowhere := argv("true")
	nowhere.Dir = filepath.Join(dir, "absent")
	for name, c := range map[string]struct {
		req  runs.Request
		want int
	}{
		"success":                {argv("true"), 0},
		"the command's own":      {request("exit 7"), 7},
		"255":                    {request("exit 255"), 255},
		"TERM":                   {request("kill -TERM $$"), 143},
		"KILL":                   {request("kill -KILL $$"), 137},
		"not found":              {argv("no-such-program"), 127},
		"path not found":         {argv("/no/such/program"), 127},
		"path through a file":    {argv(script + "/x"), 127},
		"directory":              {argv("/tmp"), 126},
		"not executable":         {argv(script), 126},
		"interpreter is missing": {argv(lost), 126},
		"script without #!":      {argv(plain), 9},
		"time limit":             {limited, 124},
		"directory to run in":    {nowhere, 125},
		"nothing":                {argv(""), 125},
	} {
		cmd := d.client(c.req)
		out, err := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != c.want {
			t.Errorf("%s: exit code %d, want %d (%v, %s)", name, got, c.want, err, out)
		}
	}
}

// Reason: no copying and no framing means that any byte, any size and any half-closed pipe work.
func TestPipedStreamsAreTheClientsOwn(t *testing.T) {
	d := start(t)
	cmd := d.client(argv("cat"))
	in := bytes.Repeat([]byte{0, 1, 2, 0xff, '\n', '~', '.', 0x1b}, 100_000)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errs
	if err := cmd.Run(); err != nil || errs.Len() > 0 {
		t.Fatalf("%v, stderr %q", err, &errs)
	}
	if !bytes.Equal(out.Bytes(), in) {
		t.Errorf("%d bytes came back, %d went in, or they differ", out.Len(), len(in))
	}
	cmd = d.client(request("echo out; echo err >&2; exec 1>&-; echo more >&2"))
	out.Reset()
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil || out.String() != "out\n" || errs.String() != "err\nmore\n" {
		t.Errorf("%v, stdout %q, stderr %q", err, &out, &errs)
	}
}

func TestSignalsReachTheCommand(t *testing.T) {
	d := start(t)
	for sig, want := range map[syscall.Signal]int{syscall.SIGTERM: 40, syscall.SIGINT: 41, syscall.SIGUSR1: 42} {
		got := -1
		// -1: the signal came before the client was past its start, or after it had been told the end, and ended the client.
		for range 50 {
			if got = signalled(t, d, sig); got != -1 {
				break
			}
		}
		if got != want {
			t.Errorf("%v: exit code %d, want %d", sig, got, want)
		}
	}
}

// signalled sends a client sig once its command is ready, again until it is obeyed.
func signalled(t *testing.T, d *daemon, sig syscall.Signal) (code int) {
	cmd := d.client(request("trap 'exit 40' TERM; trap 'exit 41' INT; trap 'exit 42' USR1; echo ready; while :; do sleep 0.01; done"))
	out, _ := cmd.StdoutPipe()
	cmd.Start()
	out.Read(make([]byte, 6))
	live := func() int {
		list, err := d.List(t.Context(), runs.Filter{Live: true})
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	eventually(t, "the run is listed", func() bool { return live() == 1 }) // its first words may come before
	eventually(t, "the run has ended", func() bool {
		cmd.Process.Signal(sig)
		return live() == 0
	})
	cmd.Wait()
	return cmd.ProcessState.ExitCode()
}

func TestDetachedRun(t *testing.T) {
	d := start(t)
	gate := filepath.Join(t.TempDir(), "gate") // else it may have ended before its start is answered
	run, err := d.Start(t.Context(), spooled("until [ -e "+gate+" ]; do sleep 0.05; done; echo hello; exit 3"), runs.Handover{})
	if err != nil {
		t.Fatal(err)
	}
	if run.State != runs.StateRunning || run.PID == 0 || !alive(run.PID) && run.EndSeq != 0 {
		t.Errorf("started as %+v", run)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ended, err := d.Wait(t.Context(), run.ID)
	if err != nil || ended.State != runs.StateExited || ended.ExitCode != 3 || ended.OutputBytes != 6 {
		t.Errorf("ended as %+v, %v", ended, err)
	}
	if b, err := os.ReadFile(filepath.Join(d.cfg.StateDir, "runs", run.ID, "output")); string(b) != "hello\n" {
		t.Errorf("output is %q, %v", b, err)
	}
	again, err := d.Get(t.Context(), run.ID[:6])
	if err != nil || again.ID != run.ID || again.EndSeq != ended.EndSeq {
		t.Errorf("found as %+v, %v", again, err)
	}
}

func TestVanishedClientEndsItsRun(t *testing.T) {
	d := start(t)
	// The last sleep: its children may be gone before the shell itself is told.
	cmd := d.client(request("(setsid sleep 1000 & echo $!; wait) & echo $!; wait; sleep 1000"))
	out, _ := cmd.StdoutPipe()
	cmd.Start()
	var pids []int
	buf := make([]byte, 64)
	for len(pids) < 2 {
		n, err := out.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range strings.Fields(string(buf[:n])) {
			pid, _ := strconv.Atoi(f)
			pids = append(pids, pid)
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	for _, pid := range pids {
		eventually(t, "process "+strconv.Itoa(pid)+" is gone", func() bool { return !alive(pid) })
	}
	var run runs.Run
	eventually(t, "run has ended", func() bool {
		list, err := d.List(t.Context(), runs.Filter{})
		if err != nil || len(list) != 1 {
			t.Fatalf("%v, %v", list, err)
		}
		run = list[0]
		return !run.Live()
	})
	if run.StoppedBy != "client vanished" || run.ExitCode != 129 {
		t.Errorf("recorded as %+v", run)
	}
}

func TestLockIsHeldByOneRun(t *testing.T) {
	d := start(t)
	first := spooled("exec sleep 1000")
	first.Lock = "migrate"
	run, err := d.Start(t.Context(), first, runs.Handover{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Start(t.Context(), first, runs.Handover{})
	if r, ok := errors.AsType[*runs.Refused](err); !errors.Is(err, runs.ErrLocked) || !ok || r.Run == nil || r.Run.ID != run.ID || r.Code != 125 {
		t.Fatalf("second start: %v", err)
	}
	if stopped, err := d.Stop(t.Context(), run.ID, 0); err != nil || stopped.Signal != int(syscall.SIGTERM) || stopped.StoppedBy != "stop" {
		t.Errorf("stopped as %+v, %v", stopped, err)
	}
	if _, err := d.Start(t.Context(), first, runs.Handover{}); err != nil {
		t.Errorf("after the first has gone: %v", err)
	}
}
