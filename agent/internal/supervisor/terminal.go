package supervisor

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

// Waits of a terminal session.
const (
	redrawPause  = 100 * time.Millisecond // between two sizes, so that the program sees both
	lateOutput   = 100 * time.Millisecond // for output of processes that keep the terminal open after the command
	deliverLimit = 30 * time.Second       // for a client that does not read
	replayLimit  = 5 * time.Second
	warnBefore   = time.Minute // of a limit; a tenth of a limit that is shorter than ten minutes
)

// terminal is a run on a pseudo terminal of ours. One goroutine reads it for the whole life of the run;
// another reads the client, while there is one.
type terminal struct {
	uid  uint32 // the run's
	pty  *command.Terminal
	look *sizer
	idle time.Duration
	hard time.Duration // the run's time limit, for its warning
	o    owner
	done chan struct{} // the reader has read everything

	// out is held while output goes to the scroll-back and the client: a new client misses none and sees none twice.
	out  sync.Mutex
	back scrollback

	attaching sync.Mutex // one new client at a time

	mu       sync.Mutex
	size     session.Size
	client   *termClient // nil: detached
	ending   bool        // the command has ended: no new clients
	unseen   bool        // and there was none: the last screen is on disk
	first    net.Conn    // until begun
	active   time.Time   // last input or output
	warned   bool
	idleTick *time.Timer
	hardTick *time.Timer
}

// termClient is one client's connection.
type termClient struct {
	conn net.Conn
	done chan struct{} // its reader has ended
}

func openTerminal(body runs.StartBody, conn net.Conn) (*terminal, error) {
	if err := refuseHeldUp(body.UID); err != nil {
		return nil, fmt.Errorf("open terminal: %w", err)
	}
	size := body.Size
	if size.Rows == 0 || size.Cols == 0 {
		size = session.Size{Rows: 24, Cols: 80}
	}
	pty, err := command.OpenTerminal(size.Rows, size.Cols, body.UID)
	if err != nil {
		return nil, err
	}
	return &terminal{
		uid: body.UID, pty: pty, look: &sizer{uid: body.UID, pty: pty},
		idle: body.Idle, hard: body.Timeout, done: make(chan struct{}),
		size: size, first: conn, active: time.Now(),
	}, nil
}

func (t *terminal) files() [3]int { return [3]int{t.pty.Slave, t.pty.Slave, t.pty.Slave} }

// close closes the terminal apart: that waits for a process that stalls in a write to it.
func (t *terminal) close() {
	master := -1
	_ = fdconn.Use(t.pty.Master, func(fd int) (err error) {
		master, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		return err
	})
	t.pty.Close()
	fdconn.CloseAll(t.uid, []int{master})
}

func (t *terminal) failed() {
	t.close()
	if t.first != nil {
		t.first.Close()
	}
}

func (t *terminal) begun(o owner) {
	t.o = o
	t.pty.CloseSlave()
	if t.first != nil {
		if session.WriteHello(atOnce(t.first), session.Hello{Run: o.name(), Terminal: true}) != nil {
			t.first.Close() // and the session is detached
		} else {
			t.serve(t.first)
		}
	}
	t.startLimits()
	go t.read() // finish waits for it
}

// read relays the terminal's output until its last user is gone or finish sets a deadline.
func (t *terminal) read() {
	defer close(t.done)
	buf := make([]byte, 8<<10)
	for {
		n, err := t.pty.Master.Read(buf)
		if n > 0 {
			t.show(buf[:n])
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.drain(buf)
		}
		if err != nil { // EIO: no process has the terminal open any more
			return
		}
	}
}

// drain reads what the kernel already holds (16 kB at most), without waiting for more: the command has
// ended, and a daemon that keeps the terminal open may print for ever.
func (t *terminal) drain(buf []byte) {
	for total := 0; total < session.MaxPayload; {
		n := 0
		_ = fdconn.Use(t.pty.Master, func(fd int) (err error) { n, err = unix.Read(fd, buf); return err })
		if n <= 0 {
			return
		}
		total += n
		t.show(buf[:n])
	}
}

// show keeps output and passes it on. A client that reads slowly slows the program, as a terminal does;
// one that is gone is dropped, and the program does not notice.
func (t *terminal) show(p []byte) {
	t.touch()
	t.out.Lock()
	defer t.out.Unlock()
	t.back.add(p)
	if c := t.current(); c != nil {
		if err := session.WriteFrame(c.conn, session.Output, p); err != nil {
			t.drop(c)
		}
	}
}

func (t *terminal) touch() {
	t.mu.Lock()
	t.active, t.warned = time.Now(), false
	t.mu.Unlock()
}

func (t *terminal) current() *termClient {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.client
}

// serve makes conn the client, unless the command has ended: nil. Its reader ends with the connection.
func (t *terminal) serve(conn net.Conn) *termClient {
	c := &termClient{conn: conn, done: make(chan struct{})}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ending {
		return nil
	}
	t.client = c
	go t.listen(c)
	return c
}

func (t *terminal) drop(c *termClient) {
	t.forget(c)
	c.conn.Close()
}

func (t *terminal) forget(c *termClient) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.client == c {
		t.client = nil
	}
}

// detach removes the client, then sends it an Exit message. Output written after removal is not delivered.
// A client that does not read is given a second.
func (t *terminal) detach(c *termClient, words string) {
	t.forget(c)
	_ = c.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_ = session.WriteExit(c.conn, session.Exit{Run: t.o.name(), Detached: true, Message: words})
	c.conn.Close()
}

// listen obeys a client until it detaches or is gone; the run goes on.
func (t *terminal) listen(c *termClient) {
	defer close(c.done)
	for r := (session.Reader{R: c.conn}); ; {
		kind, p, err := r.Next()
		if err != nil {
			t.drop(c)
			return
		}
		if kind == session.Detach {
			t.detach(c, "")
			return
		}
		t.obey(kind, p)
	}
}

func (t *terminal) obey(kind session.Type, p []byte) {
	switch kind {
	case session.Input:
		t.touch()
		_, _ = t.pty.Master.Write(p) // an error means that the run ends, which others notice
	case session.EOF:
		_, _ = t.pty.Master.Write([]byte{4}) // ^D: closing the terminal would hang it up
	case session.Resize:
		if s, ok := session.ParseSize(p); ok && s.Rows > 0 && s.Cols > 0 {
			t.resize(s)
		}
	case session.Signal:
		if len(p) == 1 {
			_ = t.o.signal(syscall.Signal(p[0]))
		}
	}
}

func (t *terminal) resize(s session.Size) {
	t.mu.Lock()
	t.size = s
	t.mu.Unlock()
	t.look.set(s)
}

// end stops accepting clients, and saves output that no client is there to read: the run is reported as ended
// only then. It does not wait for a client, which may not read.
func (t *terminal) end() {
	t.stopLimits()
	_ = t.pty.Master.SetReadDeadline(time.Now().Add(lateOutput))
	t.mu.Lock()
	t.ending = true
	t.unseen = t.client == nil
	if !t.unseen {
		_ = t.client.conn.SetWriteDeadline(time.Now().Add(deliverLimit))
	}
	t.mu.Unlock()
	if t.unseen {
		t.o.saveScreen(t.last())
	}
}

// last waits for the last output and returns what the terminal showed last.
func (t *terminal) last() []byte {
	<-t.done
	return t.back.last()
}

// finish delivers the last output and then the exit. Output that the client did not take is saved, too.
func (t *terminal) finish(e session.Exit) {
	last := t.last()
	t.out.Lock() // a client may still be catching up
	c := t.current()
	seen := c != nil && session.WriteExit(c.conn, e) == nil
	t.out.Unlock()
	if !seen && !t.unseen {
		t.o.saveScreen(last)
	}
	if c != nil {
		t.drop(c)
	}
	t.close()
}

func (t *terminal) account(run *runs.Run) {
	run.Attached = t.current() != nil && run.State == runs.StateRunning
}

// startLimits watches how long the session lasts and how long nothing happens in it, so that no forgotten
// shell holds memory for months.
func (t *terminal) startLimits() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.idle > 0 {
		t.idleTick = time.AfterFunc(t.idle-warning(t.idle), t.checkIdle)
	}
	if t.hard > 0 {
		left := warning(t.hard)
		t.hardTick = time.AfterFunc(t.hard-left, func() {
			t.say(fmt.Sprintf("this session ends in %s: its time limit of %s", left, t.hard))
		})
	}
}

func (t *terminal) stopLimits() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tick := range []*time.Timer{t.idleTick, t.hardTick} {
		if tick != nil {
			tick.Stop()
		}
	}
}

func warning(limit time.Duration) time.Duration { return min(warnBefore, limit/10) }

// checkIdle warns, ends the session, or comes again when either may be due.
func (t *terminal) checkIdle() {
	t.mu.Lock()
	left := t.idle - time.Since(t.active)
	warn := left <= warning(t.idle) && !t.warned
	if warn {
		t.warned = true
	}
	next := left
	if left > warning(t.idle) {
		next = left - warning(t.idle)
	}
	if left > 0 {
		t.idleTick.Reset(next)
	}
	t.mu.Unlock()
	switch {
	case left <= 0:
		t.o.stop("idle", 0)
	case warn:
		t.say(fmt.Sprintf("this session ends in %s unless you type: it was idle", left.Round(time.Second)))
	}
}

// say prints words of ours in the terminal; they are not the program's, so they are not kept.
func (t *terminal) say(words string) {
	t.out.Lock()
	defer t.out.Unlock()
	if c := t.current(); c != nil {
		_ = session.WriteFrame(c.conn, session.Output, []byte("\a\r\n[agent: "+words+"]\r\n"))
	}
}
