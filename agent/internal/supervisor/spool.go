package supervisor

import (
	"cmp"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/session"
)

// defaultMaxOutput is how much of a spool is kept.
const defaultMaxOutput = 16 << 20

// spool is a run whose output goes straight into a file: nobody is in the data path.
type spool struct {
	file *os.File // appended to by the command
	null *os.File
	fds  [3]int
	max  int64
	conn net.Conn // a client that waits, or nil
}

func openSpool(name string, max int64) (*spool, error) {
	file, err := os.OpenFile(name, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		file.Close()
		return nil, err
	}
	// Regular files: Fd changes no mode that anybody shares.
	out := int(file.Fd())
	return &spool{file: file, null: null, fds: [3]int{int(null.Fd()), out, out}, max: cmp.Or(max, defaultMaxOutput)}, nil
}

func (p *spool) files() [3]int { return p.fds }

func (p *spool) begun(l *live) {
	p.null.Close()
	if p.conn != nil {
		_ = session.WriteHello(p.conn, session.Hello{Run: l.id})
	}
}

func (p *spool) failed() {
	p.null.Close()
	p.file.Close()
	if p.conn != nil {
		p.conn.Close()
	}
}

func (p *spool) finish(e session.Exit) {
	if p.conn != nil {
		_ = session.WriteExit(p.conn, e)
		p.conn.Close()
	}
	p.file.Close()
}

func (p *spool) account(run *Run) {
	var st unix.Stat_t
	if unix.Fstat(p.fds[1], &st) == nil {
		run.OutputBytes = st.Size
		run.Truncated = st.Size > p.max
	}
}
