//go:build linux

package supervisor

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

var faults = flag.Int("faults", faultCount(), "how many random faults each suite causes; the full suite is 500: FAULTS=500 in the environment")

func faultCount() int {
	if n, err := strconv.Atoi(os.Getenv("FAULTS")); err == nil {
		return n
	}
	return 8
}

// faulty is a supervisor that faults are caused to.
type faulty struct {
	*runs.Client
	daemon  string             // shell words that leave a process behind, sleeping for as long as is appended
	kill    func(t *testing.T) // kills the supervisor and returns once another one answers
	pid     func() int
	victims []string

	begin func(req runs.Request, mark string) (client *exec.Cmd, find func() (runs.Run, bool)) // a client, not yet started, and how its run is found
}

func TestFaults(t *testing.T) {
	d := start(t)
	d.Patience = 10 * time.Second
	causeFaults(t, &faulty{
		Client:  d.Client,
		begin:   d.begin(t),
		daemon:  "(sleep %s &)", // without control groups one that leaves the session too may be missed
		kill:    func(t *testing.T) { d.cmd.Process.Kill(); d.cmd.Wait(); d.restart(t) },
		pid:     func() int { return d.cmd.Process.Pid },
		victims: []string{"nobody", "client", "child", "tree", "supervisor"},
	})
}

func TestInsideFaults(t *testing.T) {
	c := inside(t)
	pid := func() int {
		info, err := c.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return info.PID
	}
	pid() // waits until it listens: its unit has started when it is executed
	d := &daemon{Client: c}
	causeFaults(t, &faulty{
		Client: c,
		begin:  d.begin(t),
		daemon: "(setsid sh -c 'setsid sleep %s &' &)",
		kill: func(t *testing.T) {
			old := pid()
			syscall.Kill(old, syscall.SIGKILL)
			eventually(t, "another supervisor answers", func() bool { info, err := c.Info(t.Context()); return err == nil && info.PID != old })
		},
		pid:     pid,
		victims: []string{"nobody", "client", "child", "tree", "nobody", "client", "child", "supervisor"},
	})
}

// begin starts clients that stand where the agent stands.
func (d *daemon) begin(t *testing.T) func(runs.Request, string) (*exec.Cmd, func() (runs.Run, bool)) {
	return func(req runs.Request, _ string) (*exec.Cmd, func() (runs.Run, bool)) {
		return d.client(req), func() (runs.Run, bool) {
			run, err := d.Get(t.Context(), req.ID)
			return run, err == nil && run.PID != 0
		}
	}
}

// TestOutliveFaults has everything real: agent exec, the agent that is killed at any moment, before there is a
// run too, and systemd that starts it again.
func TestOutliveFaults(t *testing.T) {
	agentInside(t)
	if os.Getenv("SUPERVISOR_TEST_INSIDE") != "v2" {
		t.Skip("an agent is killed in the same way on both layouts")
	}
	c := &runs.Client{Socket: "/run/agent-runs/supervisor.sock", Patience: 20 * time.Second}
	pid := func() int {
		info, err := c.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return info.PID
	}
	causeFaults(t, &faulty{
		Client: c,
		begin: func(req runs.Request, mark string) (*exec.Cmd, func() (runs.Run, bool)) {
			return agentExec(t, c, req, mark)
		},
		daemon:  "(setsid sh -c 'setsid sleep %s &' &)",
		pid:     pid,
		victims: []string{"nobody", "client", "child", "tree", "agent", "agent", "agent", "early agent"},
	})
}

// agentExec is what a person types. A detached run is waited for with agent wait.
func agentExec(t *testing.T, c *runs.Client, req runs.Request, mark string) (*exec.Cmd, func() (runs.Run, bool)) {
	flag := map[string]string{runs.IOPipes: "-T", runs.IOTerminal: "-t", runs.IOSpool: "-d"}[req.IO]
	args := append([]string{"exec", flag, "--grace", req.Grace.String(), "--"}, req.Args...)
	cmd := exec.Command("agent", args...)
	if req.IO == runs.IOSpool {
		cmd = exec.Command("sh", append([]string{"-c", `id=$(agent "$@") || exit; exec agent wait $id`, "sh"}, args...)...)
	}
	return cmd, func() (runs.Run, bool) {
		list, err := c.List(t.Context(), runs.Filter{Kind: "exec", Limit: 5})
		if err != nil {
			return runs.Run{}, false
		}
		i := slices.IndexFunc(list, func(r runs.Run) bool {
			whole, err := c.Get(t.Context(), r.ID) // no list has the arguments
			return err == nil && whole.PID != 0 && strings.Contains(strings.Join(whole.Args, " "), mark)
		})
		if i < 0 {
			return runs.Run{}, false
		}
		return list[i], true
	}
}

// causeFaults kills somebody at a random moment of a run, again and again. After each: the exit code is
// right, the output is whole, or the beginning of it where the command itself was killed, no process is
// left; and after all of them no descriptor and no thread.
func causeFaults(t *testing.T, f *faulty) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	before := 0
	for i := range *faults {
		victim := f.victims[rnd.IntN(len(f.victims))]
		ios := []string{runs.IOPipes, runs.IOSpool, runs.IOTerminal}
		io := ios[rnd.IntN(len(ios))]
		causeFault(t, f, i, victim, io, time.Duration(rnd.IntN(60))*time.Millisecond)
		if t.Failed() {
			t.Fatalf("fault %d: %s of a run with %s", i, victim, io)
		}
		if victim == "supervisor" || before == 0 {
			before = descriptors(f.pid())
		}
	}
	eventually(t, "no descriptor is left", func() bool { return descriptors(f.pid()) <= before+2 })
}

func descriptors(pid int) int {
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(fds)
}

// pattern is what the command of a fault writes.
func pattern() []byte {
	var b bytes.Buffer
	for i := 1; i <= 3000; i++ {
		fmt.Fprintln(&b, i)
	}
	return b.Bytes()
}

func causeFault(t *testing.T, f *faulty, i int, victim, ioKind string, at time.Duration) {
	mark := strconv.Itoa(100000 + os.Getpid()*100 + i) // seconds to sleep: nobody else sleeps exactly so long
	req := request("seq 1 1000; " + fmt.Sprintf(f.daemon, mark) + "; sleep 0.02; seq 1001 2000; sleep 0.02; seq 2001 3000; exit 7")
	req.IO, req.ID = ioKind, fmt.Sprintf("fault-%d-%d", os.Getpid(), i)
	req.Grace = time.Second
	req.Size = session.Size{Rows: 24, Cols: 80}

	client, find := f.begin(req, mark)
	client.Stdin = nil
	var out bytes.Buffer
	var errs syncBuffer
	client.Stdout, client.Stderr = &out, &errs
	var reading sync.WaitGroup
	if ioKind == runs.IOTerminal {
		master := onPTY(t, client)
		defer master.Close()
		reading.Go(func() { io.Copy(&out, master) })
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	closeStdin(client, ioKind)
	told := make(chan struct{})
	go func() { client.Wait(); close(told) }()
	if victim == "early agent" {
		time.Sleep(at)
		killAgent(t)
	}
	var run runs.Run
	begun := false
	eventually(t, "the run begins, or its client is told that it does not", func() bool {
		over := isClosed(told)
		run, begun = find()
		return begun || over
	})
	time.Sleep(at) // the random moment: not a wait for anything
	switch victim {
	case "agent":
		killAgent(t)
	case "client":
		client.Process.Kill()
	case "child":
		syscall.Kill(run.PID, syscall.SIGKILL)
	case "tree":
		syscall.Kill(-run.PID, syscall.SIGKILL)
	case "supervisor":
		f.kill(t)
	}
	<-told
	reading.Wait()
	if !begun {
		if code := client.ProcessState.ExitCode(); victim != "early agent" || code != 125 {
			t.Errorf("no run, and the client was told %d: %s%s", code, &out, &errs)
		}
		return
	}
	ended, err := f.Wait(t.Context(), run.ID)
	if err != nil {
		t.Errorf("wait: %v", err)
		return
	}
	eventually(t, "its daemon is gone", func() bool { return len(pgrep("sleep "+mark)) == 0 })
	got := out.Bytes()
	if ioKind == runs.IOSpool {
		got, _ = os.ReadFile(ended.Output)
	}
	judge(t, victim, ioKind, ended, client.ProcessState.ExitCode(), bytes.ReplaceAll(got, []byte("\r\n"), []byte("\n")))
}

// killAgent kills the agent as it is, and returns when systemd has started another.
func killAgent(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("systemctl", "kill", "-s", "KILL", "agent").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	agentAnswers(t)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// judge says whether a run may have ended so, and its client been told so.
func judge(t *testing.T, victim, ioKind string, run runs.Run, told int, out []byte) {
	t.Helper()
	whole := pattern()
	if !bytes.HasPrefix(whole, out) && !strings.Contains(string(out), "error:") {
		t.Errorf("%d bytes of output are not the beginning of what was written", len(out))
	}
	finished := run.State == runs.StateExited && run.ExitCode == 7 && run.Signal == 0
	if finished && victim != "client" && victim != "supervisor" && victim != "early agent" && (told != 7 || len(out) != len(whole)) {
		t.Errorf("it ended by itself; its client was told %d and has %d bytes of %d", told, len(out), len(whole))
	}
	ok := finished
	switch victim {
	case "early agent": // of a detached run it may have died before it could tell the id
		ok = finished && (told == 7 && len(out) == len(whole) || told == 125 && ioKind == runs.IOSpool)
	case "client":
		ok = finished || ioKind == runs.IOPipes && run.StoppedBy == "client vanished"
	case "child", "tree":
		ok = finished || run.Signal == 9 && run.ExitCode == 137 && told == 137
	case "supervisor":
		ok = finished || run.State == runs.StateLost && run.ExitCode == 125 && (told == 125 || ioKind == runs.IOPipes)
	}
	if !ok {
		t.Errorf("after killing %s: recorded %+v, client told %d", victim, run, told)
	}
}

// A supervisor may die after a start has waited for a lock for longer than a client's patience. The start
// is asked for again all the same: it may be under way, and whoever was told that it is not would try again.
func TestSupervisorThatDiesAfterALongWait(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := &runs.Client{Socket: socket, Patience: 200 * time.Millisecond}
	go func() {
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if n == 0 {
				<-time.After(3 * c.Patience)
			} else if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				io.WriteString(conn, "HTTP/1.1 201 Created\r\nContent-Length: 13\r\n\r\n{\"id\":\"once\"}")
			}
			conn.Close()
		}
	}()
	run, err := c.Start(t.Context(), runs.Request{ID: "once", Args: []string{"true"}}, runs.Handover{})
	if err != nil || run.ID != "once" {
		t.Errorf("got %+v, %v", run, err)
	}
}
