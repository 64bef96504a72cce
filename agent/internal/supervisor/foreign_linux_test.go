package supervisor

import (
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
	"beanstalk-agent/packaging/testbed/hung"
)

// A client that sends files whose close is never answered, on the connection of its session, ends its own run. Others
// start, and a supervisor that is killed then leaves neither its lock nor its socket.
func TestFilesSentOnASessionHoldUpNobody(t *testing.T) {
	for mode, change := range map[string]func(*runs.Request){
		"pipes":    func(*runs.Request) {},
		"terminal": func(r *runs.Request) { r.IO = runs.IOTerminal },
		"spool":    func(r *runs.Request) { r.IO = runs.IOSpool },
	} {
		t.Run(mode, func(t *testing.T) {
			d := start(t) // before the file is: a child would have to close it
			file := hung.Unclosed(t)
			req := request("exec sleep 1000")
			change(&req)
			var files []int
			if null := devNull(t); req.IO == runs.IOPipes {
				files = []int{null, null, null}
			}
			ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			near, far := connOfTest(t, ends[0]), connOfTest(t, ends[1])
			run, err := d.Start(t.Context(), req, runs.Handover{Conn: far, Files: files})
			if err != nil {
				t.Fatal(err)
			}
			far.Close()
			fd, err := unix.Open(file, unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			err = fdconn.Send(near, []byte{byte(session.Signal)}, fd, fd, fd)
			unix.Close(fd)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "the client is taken for gone", func() bool {
				run, err := d.Get(t.Context(), run.ID)
				return err == nil && (!run.Live() || mode != "pipes")
			})
			for range 3 {
				other := make(chan error, 1)
				go func() {
					r, err := d.Start(t.Context(), spooled("exit 3"), runs.Handover{})
					if err == nil {
						_, err = d.Wait(t.Context(), r.ID)
					}
					other <- err
				}()
				select {
				case err := <-other:
					if err != nil {
						t.Error("another's run: ", err)
					}
				case <-time.After(20 * time.Second):
					t.Error("another's run does not start")
				}
			}
			d.cmd.Process.Signal(syscall.SIGKILL)
			awaitFree(t, d.cfg.Socket)
			dead := d.cmd
			d.restart(t)
			near.Close()
			dead.Wait()
		})
	}
}

func connOfTest(t *testing.T, fd int) *net.UnixConn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.UnixConn)
}
