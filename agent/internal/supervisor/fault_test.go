//go:build linux

package supervisor

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var faults = flag.Int("faults", 12, "how many random faults TestFaults and TestInsideFaults cause; the full suite is 500")

// faulty is a supervisor that faults are caused to.
type faulty struct {
	*Client
	daemon  string             // shell words that leave a process behind, sleeping for as long as is appended
	kill    func(t *testing.T) // kills the supervisor and returns once another one answers
	pid     func() int
	victims []string
}

func TestFaults(t *testing.T) {
	d := start(t)
	d.Patience = 10 * time.Second
	d.causeFaults(t, &faulty{
		Client:  d.Client,
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
	d := &daemon{Client: c}
	d.causeFaults(t, &faulty{
		Client: c,
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

// causeFaults kills somebody at a random moment of a run, again and again. After each: the exit code is
// right, the output is whole, or the beginning of it where the command itself was killed, no process is
// left; and after all of them no descriptor and no thread.
func (d *daemon) causeFaults(t *testing.T, f *faulty) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	before := 0
	for i := range *faults {
		victim := f.victims[rnd.IntN(len(f.victims))]
		ios := []string{IOPipes, IOSpool, IOTerminal}
		io := ios[rnd.IntN(len(ios))]
		d.causeFault(t, f, i, victim, io, time.Duration(rnd.IntN(60))*time.Millisecond)
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

func (d *daemon) causeFault(t *testing.T, f *faulty, i int, victim, ioKind string, at time.Duration) {
	mark := strconv.Itoa(100000 + os.Getpid()*100 + i) // seconds to sleep: nobody else sleeps exactly so long
	req := request("seq 1 1000; " + fmt.Sprintf(f.daemon, mark) + "; sleep 0.02; seq 1001 2000; sleep 0.02; seq 2001 3000; exit 7")
	req.IO, req.ID = ioKind, fmt.Sprintf("fault-%d-%d", os.Getpid(), i)
	req.Grace = time.Second
	req.Size = Size{Rows: 24, Cols: 80}

	client := d.client(req)
	client.Stdin = nil
	var out bytes.Buffer
	var errs syncBuffer
	client.Stdout, client.Stderr = &out, &errs
	var reading sync.WaitGroup
	if ioKind == IOTerminal {
		master := onPTY(t, client)
		defer master.Close()
		reading.Go(func() { io.Copy(&out, master) })
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	closeStdin(client, ioKind)
	var run Run
	eventually(t, "the run begins", func() (ok bool) {
		var err error
		run, err = f.Get(t.Context(), req.ID)
		return err == nil && run.PID != 0
	})
	time.Sleep(at) // the random moment: not a wait for anything
	switch victim {
	case "client":
		client.Process.Kill()
	case "child":
		syscall.Kill(run.PID, syscall.SIGKILL)
	case "tree":
		syscall.Kill(-run.PID, syscall.SIGKILL)
	case "supervisor":
		f.kill(t)
	}
	client.Wait()
	reading.Wait()
	ended, err := f.Wait(t.Context(), req.ID)
	if err != nil {
		t.Errorf("wait: %v", err)
		return
	}
	eventually(t, "its daemon is gone", func() bool { return len(pgrep("sleep "+mark)) == 0 })
	got := out.Bytes()
	if ioKind == IOSpool {
		got, _ = os.ReadFile(ended.Output)
	}
	judge(t, victim, ioKind, ended, client.ProcessState.ExitCode(), bytes.ReplaceAll(got, []byte("\r\n"), []byte("\n")))
}

// judge says whether a run may have ended so, and its client been told so.
func judge(t *testing.T, victim, ioKind string, run Run, told int, out []byte) {
	t.Helper()
	whole := pattern()
	if !bytes.HasPrefix(whole, out) && !strings.Contains(string(out), "error:") {
		t.Errorf("%d bytes of output are not the beginning of what was written", len(out))
	}
	finished := run.State == StateExited && run.ExitCode == 7 && run.Signal == 0
	if finished && (victim == "nobody" || victim == "child" || victim == "tree") && (told != 7 || len(out) != len(whole)) {
		t.Errorf("it ended by itself; its client was told %d and has %d bytes of %d", told, len(out), len(whole))
	}
	ok := finished
	switch victim {
	case "client":
		ok = finished || ioKind == IOPipes && run.StoppedBy == "client vanished"
	case "child", "tree":
		ok = finished || run.Signal == 9 && run.ExitCode == 137 && told == 137
	case "supervisor":
		ok = finished || run.State == StateLost && run.ExitCode == 125 && (told == 125 || ioKind == IOPipes)
	}
	if !ok {
		t.Errorf("after killing %s: recorded %+v, client told %d", victim, run, told)
	}
}
