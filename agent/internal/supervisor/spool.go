package supervisor

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

const (
	defaultMaxOutput = 16 << 20        // how much of a spool is kept
	pipeMost         = 1 << 20         // a user may enlarge a pipe to this: fs.pipe-max-size in proc(5)
	spoolStep        = 32 << 10        // bytes at a time
	flushLimit       = 3 * time.Second // for what a pipe holds, on a slow disk too
	maxStalled       = 64              // pipes of ended runs that cannot be read to their end: a thread each
)

// spool is a run whose output is kept in a file. The command is given a pipe and this process alone has the file: a
// process that was passed the descriptor can neither change what was printed nor add to it once the run is gone, nor
// hold the lock of a file that others read. The size is bounded by giving blocks in the middle back to the disk: the
// beginning and the end stay where they are.
type spool struct {
	file *os.File // appended to
	pipe *os.File // what the command prints
	fds  [3]int   // the command's: /dev/null and twice the pipe; ours until it has begun
	max  int64
	conn net.Conn // a client that waits, or nil

	o     owner // since it has begun
	stuck bool  // somebody hangs in reading the pipe; of the one that calls flush and end

	turn sync.Mutex // held by the one that reads the pipe, and guards:
	gap  int64      // bytes lost since the last that the disk took
	full time.Time  // when the disk was full last, and room was asked for

	mu      sync.Mutex // never held while a file is touched; only the one whose turn it is writes what follows
	printed int64      // by the command
	size    int64      // of the file
	cut     int64      // end of what was given back
	short   bool       // the end was cut off, where blocks cannot be given back
	lost    int64      // bytes that the disk did not take
	err     error      // why
}

// stalled counts pipes that are read no more because the reader hangs in the kernel.
var stalled atomic.Int32

var spoolBuffers = sync.Pool{New: func() any { return new([spoolStep]byte) }}

func openSpool(name string, max int64) (*spool, error) {
	if stalled.Load() >= maxStalled {
		return nil, fmt.Errorf("open spool: processes outside of %d ended runs hold up their output; "+
			"the supervisor's log names the runs", maxStalled)
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0) // its own: a command may change its flags
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	r, w, err := pipe()
	if err == nil {
		err = unix.SetNonblock(r, true) // the command's end is a description of its own and stays as it is
	}
	if err != nil {
		file.Close()
		unix.Close(null)
		return nil, fmt.Errorf("open spool: %w", err)
	}
	return &spool{file: file, pipe: os.NewFile(uintptr(r), "output"), fds: [3]int{null, w, w},
		max: maxOutput(filepath.Dir(name), cmp.Or(max, defaultMaxOutput))}, nil
}

func (p *spool) files() [3]int { return p.fds }

func (p *spool) begun(o owner) {
	unix.Close(p.fds[0])
	if p.conn != nil {
		_ = session.WriteHello(atOnce(p.conn), session.Hello{Run: o.name()})
	}
	p.o = o
	go p.read() // ends with the last process that can print, or with end
}

func (p *spool) failed() {
	unix.Close(p.fds[0])
	unix.Close(p.fds[1])
	p.file.Close()
	p.pipe.Close()
	if p.conn != nil {
		p.conn.Close()
	}
}

// read moves what the command prints into the file. It closes our copy of the command's end, or the pipe would not end
// with the command: here, since a command that stalls in its first write holds that up.
func (p *spool) read() {
	quietly(func() { unix.Close(p.fds[1]) })
	raw, err := p.pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) (ended bool) { // false waits for more, so only when there is none
		for n := 1; n > 0 && !ended; {
			quietly(func() { n, ended = p.take(int(fd)) })
			runtime.Gosched() // one run that prints for ever must not keep the others from an answer
		}
		return ended
	})
}

// take moves some of what the pipe holds. None, and not ended: it is empty.
func (p *spool) take(fd int) (moved int, ended bool) {
	p.turn.Lock()
	defer p.turn.Unlock()
	buf := spoolBuffers.Get().(*[spoolStep]byte)
	defer spoolBuffers.Put(buf)
	for {
		n, err := unix.Read(fd, buf[:])
		if n > 0 {
			p.keep(buf[:n])
			p.bound(p.max / 16)
		}
		if err != unix.EINTR {
			return max(n, 0), n <= 0 && err != unix.EAGAIN
		}
	}
}

// keep appends b to the file. The command never waits for a full disk, nor hears of it: what is lost is counted, and
// said in its place.
func (p *spool) keep(b []byte) {
	words := 0
	if p.gap > 0 {
		n, err := fmt.Fprintf(p.file, "\n[agent: %d bytes lost here: %v]\n", p.gap, cause(p.err))
		if words = n; err == nil {
			p.gap = 0
		}
	}
	n, err := p.file.Write(b)
	if err != nil && time.Since(p.full) > time.Second {
		p.full = time.Now()
		p.o.makeRoom()
		var more int
		more, err = p.file.Write(b[n:])
		n += more
	}
	p.gap += int64(len(b) - n)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.printed += int64(len(b))
	p.size += int64(words + n)
	if err != nil {
		p.lost, p.err = p.lost+int64(len(b)-n), err
	}
}

// bound gives back what is between the head, a quarter of the limit, and the tail, if that is more than slack.
func (p *spool) bound(slack int64) {
	head := p.max / 4
	from, to := max(head, p.cut), p.size-(p.max-head)
	if to-from <= slack {
		return
	}
	err := punch(int(p.file.Fd()), from, to) // a regular file: Fd changes no mode that anybody shares
	short := err != nil && p.size > 2*p.max && p.file.Truncate(head) == nil
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		p.cut = to
	case short: // no such thing on this file system: what follows comes after the head
		p.size, p.short = head, true
	}
}

// empty moves all that the pipe holds. There may be more at once, of a process that prints for ever.
func (p *spool) empty(fd int) {
	for total := 0; total < pipeMost; {
		n, _ := p.take(fd)
		if n == 0 {
			return
		}
		total += n
	}
}

// flush moves what the pipe holds, which is all that a command has printed that has ended. It reports whether it could.
func (p *spool) flush() bool { return p.within(func() {}) }

// end moves what the pipe still holds, and closes it: nothing is added any more. It reports whether it could.
func (p *spool) end() bool {
	return p.within(func() {
		p.pipe.Close() // waits for read
		p.file.Close()
	})
}

// within empties the pipe, then calls f. A process that the descriptor was passed to can stall in a write to it, and
// whoever reads or closes the pipe hangs in the kernel until that process is ended: within then returns without.
func (p *spool) within(f func()) bool {
	done := make(chan struct{})
	go quietly(func() {
		defer close(done)
		if raw, err := p.pipe.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { p.empty(int(fd)) })
		}
		p.turn.Lock()
		p.bound(0)
		p.turn.Unlock()
		f()
	})
	select {
	case <-done:
		return true
	case <-time.After(flushLimit):
	}
	if !p.stuck {
		p.stuck = true
		stalled.Add(1)
		go func() { <-done; stalled.Add(-1) }()
	}
	return false
}

func (p *spool) finish(e session.Exit) {
	if p.conn != nil {
		_ = session.WriteExit(atOnce(p.conn), e)
		p.conn.Close()
	}
}

func (p *spool) account(run *runs.Run) {
	p.mu.Lock()
	defer p.mu.Unlock()
	run.Output, run.OutputBytes = p.file.Name(), p.printed
	run.Truncated = p.cut > 0 || p.short || p.lost > 0 || p.size > p.max
}

// notKept returns how many bytes the disk did not take, and why.
func (p *spool) notKept() (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost, p.err
}

// cause is an error without the file's name.
func cause(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}
