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

// attachRun gives a terminal session a client. One that has ended, too: who comes at that very moment, or
// hours after a connection dropped in the middle of a migration, sees the last output and gets the exit code.
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
		return &runs.Refused{Status: 409, Kind: runs.KindNoAttach, Message: "run " + run.ID + " has no terminal", Hint: "agent logs -f " + run.ID, Run: &run}
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
		closeFiles(files)
		return nil, misuse("%d descriptors came with the request, expected the client's connection", len(files))
	}
	conn, err := connOf(files[0])
	if err != nil {
		return nil, misuse("take over the client's connection: %v", err)
	}
	return conn, nil
}

func (s *server) attachTo(id string, conn net.Conn, size runs.Size) error {
	if t := s.terminal(id); t != nil {
		if late, err := t.attach(conn, size); !late {
			return err
		}
		<-t.l.ended
		return attachEnded(conn, t.l.snapshot(), t.last())
	}
	run, l, e := s.find(id) // again: it may have ended since
	switch {
	case e != nil:
		return errors.New(e.Message)
	case l != nil:
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
	if err := session.WriteHello(conn, session.Hello{Run: run.ID, Terminal: true, Attached: true, Ended: true}); err != nil {
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

// terminal returns a run's terminal from its beginning until its last output is delivered or on disk: longer
// than there is a command.
func (s *server) terminal(id string) *terminal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown[id]
}

// show notes a run's terminal, nil when it is done with.
func (s *server) show(id string, t *terminal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t == nil {
		delete(s.shown, id)
		return
	}
	s.shown[id] = t
}
