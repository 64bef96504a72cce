package supervisor

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

// stalledRun is a run of a user's that has ended, and whose output a process outside of it holds up.
func stalledRun(t *testing.T, d *daemon, uid uint32) (release func()) {
	t.Helper()
	req := spooled("exec sleep 1000")
	req.UID, req.GID = uid, uid
	run, err := d.Start(t.Context(), req, runs.Handover{})
	if err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(run.PID, 0)
	if err != nil {
		need(t, "pidfds: "+err.Error())
	}
	defer unix.Close(pidfd)
	out, err := unix.PidfdGetfd(pidfd, 1, 0)
	if err != nil {
		need(t, "another's descriptors: "+err.Error())
	}
	release = stall(t, out)
	unix.Close(out)
	if err := d.Signal(t.Context(), run.ID, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	return release
}

// What one user holds up is counted against that user, and said; the others' runs go on.
func TestHeldUpOutputIsItsUsersAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 s")
	}
	if os.Getuid() != 0 {
		need(t, "root")
	}
	d := start(t)
	for range maxHeldUp {
		release := stalledRun(t, d, app)
		defer release()
	}
	eventually(t, "all are counted", func() bool {
		info, err := d.Info(t.Context())
		return err == nil && info.HeldUp[app] == maxHeldUp
	})
	bad := spooled("exit 3")
	bad.UID, bad.GID = app, app
	if _, err := d.Start(t.Context(), bad, runs.Handover{}); err == nil || !strings.Contains(err.Error(), "hold up their output") {
		t.Errorf("one more of the same user: %v", err)
	}
	for _, uid := range []uint32{0, app + 1} {
		good := spooled("exit 3")
		good.UID, good.GID = uid, uid
		run, err := d.Start(t.Context(), good, runs.Handover{})
		if err == nil {
			run, err = d.Wait(t.Context(), run.ID)
		}
		if err != nil || run.ExitCode != 3 {
			t.Errorf("user %d: %+v, %v", uid, run, err)
		}
	}
}

// app is the user of the application.
const app = 64123

// A supervisor that is killed while a process holds up a run's output, or its terminal, leaves neither its socket nor
// its locks behind: the next one serves at once.
func TestKilledSupervisorLetsGo(t *testing.T) {
	for name, hold := range map[string]func(*testing.T, *daemon) func(){
		"output":   func(t *testing.T, d *daemon) func() { return stalledRun(t, d, uint32(os.Getuid())) },
		"terminal": stalledTerminal,
		"terminal of a run that goes on": func(t *testing.T, d *daemon) func() {
			_, out, end := leakedBy(t, d, func(r *runs.Request) { r.IO = runs.IOTerminal })
			t.Cleanup(end)
			return stall(t, out)
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := start(t)
			release := hold(t, d)
			hangs := func() bool { return threads(d.cmd.Process.Pid, "D") > 0 }
			eventually(t, "a thread of it hangs", func() bool {
				if strings.Contains(name, "goes on") {
					return true // in its end
				}
				info, err := d.Info(t.Context())
				return err == nil && info.HeldUp[uint32(os.Getuid())] == 1 && hangs()
			})
			d.cmd.Process.Signal(syscall.SIGKILL)
			dead := d.cmd
			awaitFree(t, d.cfg.Socket)
			if !hangs() {
				t.Error("it does not hang any more: nothing is shown")
			}
			d.restart(t)
			run, err := d.Start(t.Context(), spooled("exit 3"), runs.Handover{})
			if err == nil {
				run, err = d.Wait(t.Context(), run.ID)
			}
			if err != nil || run.ExitCode != 3 {
				t.Errorf("the next one's run: %+v, %v", run, err)
			}
			release()
			dead.Wait()
		})
	}
}

// awaitFree waits until nobody has the lock of a socket.
func awaitFree(t *testing.T, socket string) {
	t.Helper()
	f, err := os.Open(socket + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	eventually(t, "its lock is free", func() bool {
		return fdconn.Use(f, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) }) == nil
	})
}

// stalledTerminal is a run that has ended, in a terminal of which a process outside has the slave, and writes to it.
func stalledTerminal(t *testing.T, d *daemon) func() {
	t.Helper()
	_, out, end := leakedBy(t, d, func(r *runs.Request) { r.IO = runs.IOTerminal })
	release := stall(t, out)
	end()
	return release
}

// A process that holds up a terminal keeps the supervisor neither from starting others nor from its orderly end.
func TestStalledTerminalHoldsUpNobody(t *testing.T) {
	d := start(t)
	release := stalledTerminal(t, d)
	eventually(t, "it is counted", func() bool {
		info, err := d.Info(t.Context())
		return err == nil && info.Live == 0 && info.HeldUp[uint32(os.Getuid())] == 1
	})
	if _, err := d.Start(t.Context(), spooled("exit 3"), runs.Handover{}); err != nil {
		t.Error(err)
	}
	d.cmd.Process.Signal(syscall.SIGTERM)
	awaitFree(t, d.cfg.Socket)
	dead := d.cmd
	d.restart(t)
	release()
	dead.Wait()
}

// The kernel locks a terminal's size while it copies it to a process that asks: one that asks with a page which never
// comes hung a new size, and with that the list of runs, every start and the supervisor's orderly end.
func TestStalledSizeHoldsUpNobody(t *testing.T) {
	d := start(t)
	run, out, end := leakedBy(t, d, func(r *runs.Request) { r.IO = runs.IOTerminal })
	defer end()
	release := stallIn(t, out, unix.SYS_IOCTL, "size")
	d.terminal(t, d.attach(run.ID), 40, 90) // which sets its size
	asked := make(chan bool, 1)
	go func() { asked <- session.IsTerminal(out) }()
	eventually(t, "it is known for a terminal all the same", func() bool { return len(asked) == 1 && <-asked })
	answered := make(chan error, 1)
	eventually(t, "the new size hangs, and is counted", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		info, err := d.Info(ctx)
		return err == nil && info.Live == 1 && info.HeldUp[uint32(os.Getuid())] == 1
	})
	go func() {
		_, err := d.List(t.Context(), runs.Filter{})
		if err == nil {
			_, err = d.Start(t.Context(), spooled("exit 3"), runs.Handover{})
		}
		answered <- err
	}()
	eventually(t, "others are answered", func() bool { return len(answered) == 1 && <-answered == nil })
	d.cmd.Process.Signal(syscall.SIGTERM)
	awaitFree(t, d.cfg.Socket)
	dead := d.cmd
	d.restart(t)
	release()
	dead.Wait()
}

// Sockets that linger, handed to the supervisor itself as a command's streams, hold none of its threads.
func TestLingeringStreamsHoldNoThread(t *testing.T) {
	d := start(t)
	bad := argv("/nonexistent")
	bad.IO = runs.IOPipes
	for range 8 {
		var files []int
		for range 3 {
			files = append(files, lingering(t))
		}
		if _, err := d.Start(t.Context(), bad, runs.Handover{Files: files}); err == nil {
			t.Fatal("a program that is not there was started")
		}
		fdconn.CloseAll(0, files) // the supervisor's may be the last, or not
	}
	eventually(t, "no close is under way", func() bool {
		info, err := d.Info(t.Context())
		return err == nil && len(info.HeldUp) == 0
	})
}

// Whoever has sixteen descriptors here that cannot be closed hands in no more.
func TestNothingMoreIsTakenFromWhoHoldsUpCloses(t *testing.T) {
	const caller = 64124
	fdconn.Closing.Add(caller, fdconn.MaxClosing)
	defer fdconn.Closing.Add(caller, -fdconn.MaxClosing)
	if e := crowded(0, caller); e == nil || e.Status != 429 {
		t.Errorf("got %+v", e)
	}
	if e := crowded(0, caller+1); e != nil {
		t.Errorf("another: %+v", e)
	}
}

// The run's user may open its output by name, and nobody else.
func TestOutputCanBeOpenedByName(t *testing.T) {
	if os.Getuid() != 0 {
		need(t, "root")
	}
	d := start(t)
	req := spooled("echo one > /dev/stdout; echo two > /dev/stderr; echo three | tee /proc/self/fd/2 >/dev/null")
	req.UID, req.GID = app, app
	run, err := d.Start(t.Context(), req, runs.Handover{})
	if err == nil {
		run, err = d.Wait(t.Context(), run.ID)
	}
	if err != nil || run.ExitCode != 0 {
		t.Fatalf("%+v, %v", run, err)
	}
	if b, _ := os.ReadFile(run.Output); string(b) != "one\ntwo\nthree\n" {
		t.Errorf("printed %q", b)
	}
}

// threads counts a process's threads in one of these states.
func threads(pid int, states string) (n int) {
	dir := fmt.Sprintf("/proc/%d/task", pid)
	list, _ := os.ReadDir(dir)
	for _, e := range list {
		b, _ := os.ReadFile(dir + "/" + e.Name() + "/stat")
		_, after, _ := strings.Cut(string(b), ") ")
		if after != "" && strings.Contains(states, after[:1]) {
			n++
		}
	}
	return n
}

// lingering is a socket whose close waits for an hour.
func lingering(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	near.(*net.TCPConn).SetLinger(3600)
	near.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	for err == nil {
		_, err = near.Write(make([]byte, 1<<20))
	}
	var fd int
	fdconn.Use(near.(syscall.Conn), func(n int) error { fd = dup(t, n); return nil })
	return fd
}

// BenchmarkOutput is of 100 MB.
func BenchmarkOutput(b *testing.B) {
	d := start(b)
	for b.Loop() {
		run, err := d.Start(b.Context(), spooled("head -c 100000000 /dev/zero"), runs.Handover{})
		if err == nil {
			_, err = d.Wait(b.Context(), run.ID)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.cmd.Process.Pid))
	var user, system float64 // ticks of 10 ms
	fmt.Sscan(strings.Join(strings.Fields(string(text))[13:15], " "), &user, &system)
	b.ReportMetric(10*(user+system)/float64(b.N), "cpu-ms/op")
}

// The thread of a run's output does not close its pipe while somebody wakes it: he would be the last to use it, and close
// what has the number on his own thread.
func TestWhoWakesAThreadClosesNothing(t *testing.T) {
	p, err := openSpool(filepath.Join(t.TempDir(), "output"), uint32(os.Getuid()), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range p.fds[:2] {
		defer unix.Close(fd)
	}
	p.waking.Lock() // as wake does
	closing := make(chan struct{})
	p.asked <- func() { close(closing); p.over = true }
	<-closing
	for range 100_000 { // its thread would have closed it long before
		if hungUpOf(p.fds[1]) {
			t.Fatal("the pipe is closed")
		}
	}
	p.waking.Unlock()
	eventually(t, "it is closed then", func() bool { return hungUpOf(p.fds[1]) })
	p.wake() // touches it no more
}

// hungUpOf reports whether nobody reads a pipe any more.
func hungUpOf(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0 && p[0].Revents&unix.POLLERR != 0
}
