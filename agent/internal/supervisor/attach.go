package supervisor

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

// attachRun gives a terminal session a client. One that has ended, too: a client that comes at that moment, or
// hours after its connection dropped in the middle of a migration, sees the last output and gets the exit code.
func (s *server) attachRun(w http.ResponseWriter, r *http.Request) *runs.Refused {
	var body runs.AttachBody
	if e := decode(r, &body); e != nil {
		return e
	}
	run, _, e := s.find(r.PathValue("id"))
	if e != nil {
		return e
	}
	if run.IO != runs.IOTerminal {
		return &runs.Refused{Status: 409, Kind: runs.KindNoAttach, Run: &run,
			Message: "run " + run.ID + " has no terminal", Hint: "agent logs -f " + run.ID}
	}
	conn, e := clientOf(r)
	if e != nil {
		return e
	}
	if err := s.attachTo(run.ID, conn, body.Size); err != nil {
		conn.Close()
		return &runs.Refused{Status: 409, Message: err.Error(), Run: &run}
	}
	if run, _, e = s.find(run.ID); e != nil {
		return e
	}
	return reply(w, run)
}

// clientOf is the client's connection that came with a request.
func clientOf(r *http.Request) (net.Conn, *runs.Refused) {
	c, _ := fdconn.FromContext(r.Context())
	files := c.Take()
	if len(files) != 1 {
		fdconn.CloseAll(c.Peer().UID, files)
		return nil, misuse("%d descriptors came with the request, expected the client's connection", len(files))
	}
	conn, err := connOf(files[0])
	if err != nil {
		return nil, misuse("take over the client's connection: %v", err)
	}
	return conn, nil
}

func (s *server) attachTo(id string, conn net.Conn, size session.Size) error {
	if l, t := s.shownTerminal(id); t != nil {
		if late, err := t.attach(conn, size); !late {
			return err
		}
		<-l.ended
		return attachEnded(conn, l.snapshot(), t.last())
	}
	run, _, e := s.find(id) // again: it may have ended since
	switch {
	case e != nil:
		return errors.New(e.Message)
	case run.Live():
		return fmt.Errorf("run %s is only just starting: try again", id)
	}
	var last []byte
	if run.Output != "" {
		var err error
		if last, err = os.ReadFile(run.Output); err != nil {
			return fmt.Errorf("read what its terminal showed last: %w", err)
		}
	}
	return attachEnded(conn, run, last)
}

// attachEnded shows a client what the terminal of a run showed last, and its exit.
func attachEnded(conn net.Conn, run runs.Run, last []byte) error {
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(replayLimit))
	hello := session.Hello{Run: run.ID, Terminal: true, Attached: true, Ended: true}
	if err := session.WriteHello(conn, hello); err != nil {
		return fmt.Errorf("greet client: %w", err)
	}
	if err := replay(conn, last); err != nil {
		return err
	}
	e := exitOf(run)
	if e.Message == "" {
		e.Message = "run " + run.ID + " ended at " + run.Ended.UTC().Format("15:04:05") + " UTC"
	}
	return session.WriteExit(conn, e)
}

// attach gives the session a new client: it sees the scroll-back, then what follows, and the program is
// made to redraw. The client before it is detached. late reports that the command has ended: nothing was sent to
// the new client yet, and a client before it that does not read no longer delays the last output.
func (t *terminal) attach(conn net.Conn, size session.Size) (late bool, err error) {
	t.attaching.Lock()
	defer t.attaching.Unlock()
	if old := t.current(); old != nil {
		t.detach(old, "attached elsewhere")
		t.pty.Master.SetWriteDeadline(time.Now()) // it may be stuck in typing to a program that does not read
		<-old.done
		t.pty.Master.SetWriteDeadline(time.Time{})
	}
	t.out.Lock()
	defer t.out.Unlock()
	_ = conn.SetWriteDeadline(time.Now().Add(replayLimit))
	c := t.serve(conn)
	if c == nil {
		return true, nil
	}
	if err := t.catchUp(c); err != nil {
		t.drop(c)
		return false, err
	}
	t.redraw(size)
	return false, nil
}

// catchUp greets a client and shows it the scroll-back.
func (t *terminal) catchUp(c *termClient) error {
	if err := session.WriteHello(c.conn, session.Hello{Run: t.o.name(), Terminal: true, Attached: true}); err != nil {
		return fmt.Errorf("greet client: %w", err)
	}
	if err := replay(c.conn, t.back.replay()); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ending { // else it has the limit of the end
		_ = c.conn.SetWriteDeadline(time.Time{})
	}
	return nil
}

// replay sends p as output, in frames.
func replay(conn net.Conn, p []byte) error {
	for len(p) > 0 {
		n := min(len(p), 32<<10)
		if err := session.WriteFrame(conn, session.Output, p[:n]); err != nil {
			return fmt.Errorf("replay to client: %w", err)
		}
		p = p[n:]
	}
	return nil
}

// redraw makes the size change for real: programs ignore a WINCH that finds the size they know.
func (t *terminal) redraw(s session.Size) {
	t.mu.Lock()
	if s.Rows == 0 || s.Cols == 0 {
		s = t.size
	}
	known := s == t.size
	t.size = s
	t.mu.Unlock()
	if known && s.Rows > 1 {
		t.look.set(session.Size{Rows: s.Rows - 1, Cols: s.Cols})
	}
	time.AfterFunc(redrawPause, func() {
		t.mu.Lock()
		now := t.size // whatever it is by then
		t.mu.Unlock()
		t.look.set(now)
	})
}
