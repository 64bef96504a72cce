package supervisor

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

// defaultMaxOutput is how much of a spool is kept.
const defaultMaxOutput = 16 << 20

// How often a spool's size is looked at. Between two looks a run can exceed its limit by as much as it
// writes; a run that is silent costs one fstat a second.
const (
	spoolSoon = 50 * time.Millisecond
	spoolLate = time.Second
)

// spool is a run whose output goes straight into a file: no byte passes through us. Its size is bounded from
// outside, by giving the blocks in the middle back to the disk while the command goes on appending. The
// beginning and the end stay where they are.
type spool struct {
	file *os.File // appended to by the command
	fds  [3]int   // the first is ours until the command has begun
	max  int64
	conn net.Conn // a client that waits, or nil

	mu      sync.Mutex
	tick    *time.Timer // nil once finished
	pause   time.Duration
	seen    int64 // size at the last look
	cut     int64 // end of what was given back
	dropped int64 // bytes cut off the end, where blocks cannot be given back
}

func openSpool(name string, max int64) (*spool, error) {
	file, err := os.OpenFile(name, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0) // its own: a command may change its flags
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	// Regular files: Fd changes no mode that anybody shares.
	out := int(file.Fd())
	return &spool{file: file, fds: [3]int{null, out, out}, max: cmp.Or(max, defaultMaxOutput), pause: spoolSoon}, nil
}

func (p *spool) files() [3]int { return p.fds }

func (p *spool) begun(o owner) {
	unix.Close(p.fds[0])
	if p.conn != nil {
		_ = session.WriteHello(p.conn, session.Hello{Run: o.name()})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tick = time.AfterFunc(p.pause, p.look)
}

// look bounds the file, and comes again: soon while it grows, later while it does not.
func (p *spool) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tick == nil {
		return
	}
	p.pause = min(2*p.pause, spoolLate)
	if p.bound() {
		p.pause = spoolSoon
	}
	p.tick.Reset(p.pause)
}

// bound gives back what is between the head, a quarter of the limit, and the tail. It reports whether
// the file grew by much since the last time.
func (p *spool) bound() (busy bool) {
	size := p.size()
	busy = size-p.seen > p.max/16
	p.seen = size
	head := p.max / 4
	from, to := max(head, p.cut), size-(p.max-head)
	if to <= from {
		return busy
	}
	if err := punch(p.fds[1], from, to); err == nil {
		p.cut = to
	} else if size > 2*p.max {
		// No such thing on this file system. Cut the end off instead: the command appends, so it goes on
		// after the head. Bytes written between our look and the cut are lost uncounted.
		if unix.Ftruncate(p.fds[1], head) == nil {
			p.dropped += size - head
			p.seen = head
		}
	}
	return busy
}

func (p *spool) size() int64 {
	var st unix.Stat_t
	if unix.Fstat(p.fds[1], &st) != nil {
		return 0
	}
	return st.Size
}

func (p *spool) failed() {
	unix.Close(p.fds[0])
	p.file.Close()
	if p.conn != nil {
		p.conn.Close()
	}
}

func (p *spool) finish(e session.Exit) {
	p.mu.Lock()
	p.tick.Stop()
	p.tick = nil
	p.bound()
	p.mu.Unlock()
	if p.conn != nil {
		_ = session.WriteExit(p.conn, e)
		p.conn.Close()
	}
	p.file.Close()
}

func (p *spool) account(run *runs.Run) {
	p.mu.Lock()
	defer p.mu.Unlock()
	run.Output = p.file.Name()
	run.OutputBytes = p.size() + p.dropped
	run.Truncated = p.cut > 0 || p.dropped > 0 || p.size() > p.max
}
