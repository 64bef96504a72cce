package collectors

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
)

// stranger is a user that nothing of the application's runs as.
const stranger = 64123

// onlyRoots is what a group takes whose application runs as root.
func onlyRoots(uid uint32) bool { return uid == 0 }

// asStranger starts a program of another user's, which says a line when it is ready, and ends it with the test.
func asStranger(t *testing.T, name string, args ...string) (line string) {
	t.Helper()
	if os.Getuid() != 0 {
		need(t, "needs root, to be another user", errors.New("is not root"))
	}
	c := exec.Command(name, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
	return untilReady(t, c)
}

func untilReady(t *testing.T, c *exec.Cmd) (line string) {
	t.Helper()
	c.Dir = "/"
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	need(t, "start "+c.Path, err)
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	line, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// listening is a program that listens with a queue that nobody empties; it says its port.
const listening = `
import socket, sys, time
s = socket.socket(socket.AF_UNIX if "/" in sys.argv[1] else socket.AF_INET)
s.bind(sys.argv[1] if "/" in sys.argv[1] else (sys.argv[1], int(sys.argv[2])))
s.listen(100)
print(s.getsockname()[1], flush=True)
time.sleep(600)`

// Any user can give a process a command line that matches, and so raise the figures, or stand for a group that is gone.
func TestGroupByPatternCountsNoStrangers(t *testing.T) {
	mark := fmt.Sprintf("celery-worker-%d", os.Getpid())
	asStranger(t, "/bin/sh", "-c", "echo; read x </dev/zero; sleep 600; :", mark)
	match := regexp.MustCompile(mark)
	g := NewGroup(GroupConfig{Name: "jobs", Match: match, Counts: onlyRoots})
	defer g.Close()
	got, err := collect(t, g)
	if !errors.Is(err, ErrNoData) || got["group_processes"].Value != 0 {
		t.Fatalf("a stranger's process alone: got %v, %v", got["group_processes"].Value, err)
	}
	if !strings.Contains(err.Error(), strconv.Itoa(stranger)) {
		t.Errorf("the error does not name whose process is not counted: %v", err)
	}
	ours := exec.Command("/bin/sh", "-c", "sleep 600 & echo; wait", mark)
	out, _ := ours.StdoutPipe()
	ours.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := ours.Start(); err != nil {
		t.Fatal(err)
	}
	defer ours.Wait()
	defer syscall.Kill(-ours.Process.Pid, syscall.SIGKILL)
	bufio.NewReader(out).ReadString('\n')
	g = NewGroup(GroupConfig{Name: "jobs", Match: match, Counts: onlyRoots})
	defer g.Close()
	if got, err := collect(t, g); err != nil || got["group_processes"].Value != 2 {
		t.Errorf("beside the application's: got %v, %v, want its 2 processes", got["group_processes"].Value, err)
	}
	g = NewGroup(GroupConfig{Name: "jobs", Match: match})
	defer g.Close()
	if got, err := collect(t, g); err != nil || got["group_processes"].Value < 3 {
		t.Errorf("everybody's: got %v, %v, want at least 3 processes", got["group_processes"].Value, err)
	}
}

// A setuid program has the arguments that its caller chose.
func TestGroupCountsNoSetuidProgramOfAStranger(t *testing.T) {
	proc := fstest.MapFS{}
	for pid, uids := range map[int]string{10: "0\t0\t0\t0", 20: "64123\t0\t0\t0", 30: "0\t0\t0\t64123", 40: "0\t64123\t0\t0"} {
		dir := strconv.Itoa(pid)
		proc[dir+"/stat"], proc[dir+"/cmdline"] = stat(pid, 1, 1), &fstest.MapFile{Data: []byte("su -c celery")}
		proc[dir+"/status"] = &fstest.MapFile{Data: []byte("Name:\tsu\nUid:\t" + uids + "\nGid:\t0\t0\t0\t0\n")}
	}
	proc["50/stat"], proc["50/cmdline"] = stat(50, 1, 1), &fstest.MapFile{Data: []byte("celery")} // no status: gone
	g := NewGroup(GroupConfig{Name: "jobs", Match: regexp.MustCompile("celery"), Counts: onlyRoots, Proc: proc, Sys: fstest.MapFS{}})
	defer g.Close()
	got, err := collect(t, g)
	if err != nil || got["group_processes"].Value != 1 || g.Snapshot().Processes[0].PID != 10 {
		t.Errorf("got %v, %v, want process 10 alone", g.Snapshot(), err)
	}
}

// While nobody listens on a port any user may; and beside who listens at one address of it, at another.
func TestPortOfAStrangerDoesNotCount(t *testing.T) {
	for _, diag := range []bool{true, false} {
		t.Run(fmt.Sprintf("diag=%v", diag), func(t *testing.T) {
			port, err := strconv.Atoi(asStranger(t, "/usr/bin/python3", "-c", listening, "127.0.0.2", "0"))
			if err != nil {
				t.Fatal(err)
			}
			waiting, err := net.Dial("tcp", fmt.Sprintf("127.0.0.2:%d", port)) // in a queue that nobody empties
			if err != nil {
				t.Fatal(err)
			}
			defer waiting.Close()
			g := NewGroup(GroupConfig{Name: "web", Port: uint16(port), Counts: onlyRoots})
			defer g.Close()
			l := NewListen(ListenConfig{Port: uint16(port), Counts: onlyRoots})
			defer l.Close()
			if !diag {
				g.finder.socket.diag.unusable, l.socket.diag.unusable = syscall.EPERM, syscall.EPERM
			}
			got, err := collect(t, g)
			if !errors.Is(err, ErrNoData) || got["group_processes"].Value != 0 {
				t.Errorf("a stranger's listener alone: got %v, %v", got["group_processes"].Value, err)
			}
			if got, err := collect(t, l); !errors.Is(err, ErrNoData) {
				t.Errorf("its backlog: got %v, %v, want none", got, err)
			}
			ours := startPrefork(t, prefork{workers: 1, shared: 1, own: 1, port: uint16(port)}) // on 127.0.0.1
			g.finder.socket.nextProc, l.socket.nextProc = g.at, g.at
			if got, err := collect(t, g); err != nil || got["group_processes"].Value != 2 {
				t.Errorf("beside the application: got %v, %v, want its 2 processes", got["group_processes"].Value, err)
			}
			if got, err := collect(t, l); err != nil || got["listen_backlog"].Value != 0 {
				t.Errorf("backlog beside the application on %d: got %v, %v, want 0", ours.port, got["listen_backlog"].Value, err)
			}
		})
	}
}

// Where a socket's directory is anybody's its name is, too.
func TestUnixSocketOfAStrangerDoesNotCount(t *testing.T) {
	dir, err := os.MkdirTemp("", "counts")
	if err == nil {
		err = os.Chmod(dir, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "app.sock")
	asStranger(t, "/usr/bin/python3", "-c", listening, path)
	for _, diag := range []bool{true, false} {
		g := NewGroup(GroupConfig{Name: "web", UnixPath: path, Counts: onlyRoots})
		defer g.Close()
		if !diag { // which do not say whose a socket is either: its processes count
			g.finder.socket.diag.unusable = syscall.EPERM
		}
		if got, err := collect(t, g); !errors.Is(err, ErrNoData) || got["group_processes"].Value != 0 {
			t.Errorf("diag=%v: got %v, %v", diag, got["group_processes"].Value, err)
		}
	}
}
