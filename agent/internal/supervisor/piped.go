package supervisor

import (
	"net"
	"syscall"

	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

// piped is a run on the client's own descriptors: no byte passes through us. The connection, if any,
// carries signals one way and the exit the other; its end is how a vanished client is noticed.
type piped struct {
	fds  [3]int
	from uint32   // the caller
	conn net.Conn // nil: no client waits
}

func (p *piped) files() [3]int { return p.fds }

func (p *piped) begun(o owner) {
	fdconn.CloseAll(p.from, p.fds[:]) // or the readers of the client's stdout would never see its end
	if p.conn == nil {
		return
	}
	if session.WriteHello(atOnce(p.conn), session.Hello{Run: o.name()}) != nil {
		p.conn.Close() // which listen notices
	}
	go p.listen(o) // ends when finish closes the connection
}

func (p *piped) listen(o owner) {
	for r := (session.Reader{R: p.conn}); ; {
		t, payload, err := r.Next()
		if err != nil {
			o.vanished() // does nothing once the run has ended
			return
		}
		if t == session.Signal && len(payload) == 1 {
			_ = o.signal(syscall.Signal(payload[0]))
		}
	}
}

func (p *piped) failed() {
	fdconn.CloseAll(p.from, p.fds[:])
	if p.conn != nil {
		p.conn.Close()
	}
}

func (p *piped) finish(e session.Exit) {
	if p.conn != nil {
		_ = session.WriteExit(atOnce(p.conn), e)
		p.conn.Close()
	}
}

func (p *piped) account(*runs.Run) {}
