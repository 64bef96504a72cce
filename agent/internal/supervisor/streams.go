package supervisor

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

// streams is a run's standard streams: piped, terminal or spool.
type streams interface {
	files() [3]int         // for the command
	begun(owner)           // the command runs
	failed()               // it does not: close everything, without an answer
	finish(e session.Exit) // its end is recorded: deliver the rest of the output, then the exit, and close everything
	account(run *runs.Run) // fill in what is known of the output
}

// owner is the run, as its streams see it.
type owner interface {
	name() string
	signal(syscall.Signal) error
	stop(by string, grace time.Duration)
	vanished()
	saveScreen(text []byte)
	makeRoom() // the disk is full
}

// connect makes a run's streams of what was handed over; output is the file of a spool. It owns the files: on
// refusal they are closed.
func connect(body runs.StartBody, output string, files []int) (io streams, refusal *runs.Refused) {
	defer func() {
		if refusal != nil {
			fdconn.CloseAll(body.Caller.UID, files)
		}
	}()
	want := 0
	if body.HasConn {
		want++
	}
	if body.IO == runs.IOPipes {
		want += 3
	}
	if len(files) != want {
		return nil, misuse("%d descriptors came with the request, expected %d", len(files), want)
	}
	if body.HasConn && hungUp(files[0]) {
		return nil, callerGone()
	}
	if e := refuseTerminals(body, files); e != nil {
		return nil, e
	}
	var conn net.Conn
	if body.HasConn {
		c, err := connOf(files[0])
		if files = files[1:]; err != nil {
			return nil, misuse("take over the client's connection: %v", err)
		}
		conn = c
	}
	io, err := streamsFor(body, output, conn, files)
	if err != nil {
		if conn != nil {
			conn.Close()
		}
		return nil, &runs.Refused{Status: 500, Message: err.Error()}
	}
	return io, nil
}

// refuseTerminals refuses a start of another user than the caller that would give the command the caller's terminal: it
// could read what is typed there later. A client replaces its terminals by pipes: this rule does not depend on that.
func refuseTerminals(body runs.StartBody, files []int) *runs.Refused {
	if body.UID == body.Caller.UID || !slices.ContainsFunc(files, session.IsTerminal) {
		return nil
	}
	e := denied("a command of user %s is not given a terminal of user %s",
		userName(body.UID, body.User), userName(body.Caller.UID, body.Caller.Login))
	e.Hint = "this client is older than the agent, and would hand it over: compare agent version with agent status"
	return e
}

func streamsFor(body runs.StartBody, output string, conn net.Conn, files []int) (streams, error) {
	switch body.IO {
	case runs.IOPipes:
		return &piped{fds: [3]int(files), from: body.Caller.UID, conn: conn}, nil
	case runs.IOTerminal:
		return openTerminal(body, conn)
	default:
		p, err := openSpool(output, body.UID, body.MaxOutput)
		if err != nil {
			return nil, err
		}
		p.conn = conn
		return p, nil
	}
}

// connOf makes a connection of a descriptor that was handed over. It is consumed in any case. Nothing is read
// of it with which descriptors come.
func connOf(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "client")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("it is no unix socket")
	}
	client, err := fdconn.NewConn(u)
	if err != nil {
		return nil, err
	}
	client.BytesOnly()
	return client, nil
}

// atOnce is for what a client is sent when a run begins or ends: its socket has room for that, or the client reads
// nothing and is given up. A run does not wait for its client.
func atOnce(conn net.Conn) io.Writer { return fdconn.Now{Socket: conn.(syscall.Conn)} }

// hungUp reports whether the other end of a connection is closed.
func hungUp(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0 && p[0].Revents&unix.POLLHUP != 0
}
