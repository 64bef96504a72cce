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
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

const (
	defaultMaxOutput = 16 << 20        // how much of a spool is kept
	pipeMost         = 1 << 20         // a user may enlarge a pipe to this: fs.pipe-max-size in proc(5)
	spoolStep        = 32 << 10        // bytes at a time
	flushLimit       = 3 * time.Second // for what a pipe holds, on a slow disk too
	maxHeldUp        = 16              // runs of one user whose output cannot be read to its end: a thread each
)

// spool is a run whose output is kept in a file. The command is given a pipe and this process alone has the file: a
// process that was passed the descriptor can neither change what was printed nor add to it once the run is gone, nor
// hold the lock of a file that others read. The size is bounded by giving blocks in the middle back to the disk: the
// beginning and the end stay where they are.
//
// A process that was passed the descriptor can stall in a write to it, and whoever reads or closes the pipe hangs in
// the kernel until that process is ended. So a thread of its own does, apart from this process's other descriptors.
type spool struct {
	name string // of the file
	uid  uint32 // the run's
	fds  [3]int // the command's: /dev/null and twice the pipe; ours until it has begun
	max  int64
	conn net.Conn // a client that waits, or nil

	o     owner       // since it has begun
	asked chan func() // for the thread
	pipe  *os.File    // others call SetReadDeadline only, and that with waking locked
	stuck bool        // the thread hangs; of the one that calls flush and end

	// Of the thread.
	file    *os.File // appended to
	theirs  int      // its copy of the command's end, so that it is the thread that closes the last one
	reading bool
	over    bool
	gap     int64     // bytes lost since the last that the disk took
	full    time.Time // when the disk was full last, and room was asked for

	waking sync.Mutex // never held over a call that can hang
	closed bool       // the pipe is closed next, or is

	mu      sync.Mutex // never held while a file is touched; only the thread writes what follows
	printed int64      // by the command
	size    int64      // of the file
	cut     int64      // end of what was given back
	short   bool       // the end was cut off, where blocks cannot be given back
	lost    int64      // bytes that the disk did not take
	err     error      // why
}

// heldUp counts, by the run's user, threads that hang: of runs that have ended, or that set a terminal's size.
var heldUp fdconn.Tally

// refuseHeldUp is why no more runs of a user begin, or nil.
func refuseHeldUp(uid uint32) error {
	if n := heldUp.Of(uid); n >= maxHeldUp {
		return fmt.Errorf("processes of this user hold up their output or terminal in %d runs; "+
			"the supervisor's log names those that have ended", n)
	}
	return nil
}

var spoolBuffers = sync.Pool{New: func() any { return new([spoolStep]byte) }}

func openSpool(name string, uid uint32, max int64) (*spool, error) {
	if err := refuseHeldUp(uid); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	p := &spool{name: name, uid: uid, max: maxOutput(filepath.Dir(name), cmp.Or(max, defaultMaxOutput)),
		asked: make(chan func(), 8)}
	file, err := unix.Open(name, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", &os.PathError{Op: "open", Path: name, Err: err})
	}
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0) // its own: a command may change its flags
	if err != nil {
		unix.Close(file)
		return nil, fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	r, w, err := pipe(uid)
	if err != nil {
		unix.Close(file)
		unix.Close(null)
		return nil, fmt.Errorf("open spool: %w", err)
	}
	p.fds = [3]int{null, w, w}
	if p.theirs, err = unix.FcntlInt(uintptr(w), unix.F_DUPFD_CLOEXEC, 3); err != nil {
		for _, fd := range []int{file, null, r, w} {
			unix.Close(fd)
		}
		return nil, fmt.Errorf("open spool: %w", err)
	}
	ready := make(chan struct{})
	fdconn.Apart([]int{file, r, p.theirs}, func() {
		p.file, p.pipe = os.NewFile(uintptr(file), name), os.NewFile(uintptr(r), "output")
		close(ready)
		p.serve()
	})
	<-ready
	return p, nil
}

func (p *spool) files() [3]int { return p.fds }

func (p *spool) begun(o owner) {
	if p.conn != nil {
		_ = session.WriteHello(atOnce(p.conn), session.Hello{Run: o.name()})
	}
	p.o = o
	p.ask(func() { p.reading = true })
	p.handedOver()
}

// handedOver closes our copies of the command's descriptors, or the pipe would not end with the command.
func (p *spool) handedOver() {
	unix.Close(p.fds[0])
	unix.Close(p.fds[1]) // the thread has another
	p.ask(func() { unix.Close(p.theirs) })
}

func (p *spool) failed() {
	p.ask(func() { p.over = true })
	p.handedOver()
	if p.conn != nil {
		p.conn.Close()
	}
}

// ask has the thread call f, if it does not hang.
func (p *spool) ask(f func()) {
	select {
	case p.asked <- f:
		p.wake()
	default: // it hangs: what it was asked before is not done either
	}
}

// wake has the thread look what it was asked.
func (p *spool) wake() {
	p.waking.Lock()
	defer p.waking.Unlock()
	if !p.closed {
		_ = p.pipe.SetReadDeadline(time.Now())
	}
}

// closePipe is the thread's. An os.File is closed by whoever is the last to use it: one that wakes the thread at that
// moment would close the number on another thread, where it is a descriptor of another run's.
func (p *spool) closePipe() {
	p.waking.Lock()
	p.closed = true
	p.waking.Unlock()
	p.pipe.Close()
}

// serve is the thread: it moves what the command prints into the file, and does what it is asked, until the end.
func (p *spool) serve() {
	defer p.closePipe()
	defer p.file.Close()
	raw, err := p.pipe.SyscallConn()
	for {
		_ = p.pipe.SetReadDeadline(time.Time{}) // before it looks what it was asked: what comes later sets another
		for asked := true; asked; {
			select {
			case f := <-p.asked:
				f()
			default:
				asked = false
			}
		}
		switch {
		case p.over:
			return
		case !p.reading || err != nil:
			(<-p.asked)()
		default:
			ended := raw.Read(func(fd uintptr) (ended bool) { // false waits for more, so only when there is none
				for total, n := 0, 1; n > 0 && !ended; total += n {
					n, ended = p.take(int(fd))
					if total > pipeMost { // one run that prints for ever must not keep the others from an answer
						total = 0
						runtime.Gosched() // dear on a thread of one's own
					}
				}
				return ended
			})
			p.reading = errors.Is(ended, os.ErrDeadlineExceeded)
		}
	}
}

// take moves some of what the pipe holds. None, and not ended: it is empty.
func (p *spool) take(fd int) (moved int, ended bool) {
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
		roomMade := make(chan struct{})
		go func() { p.o.makeRoom(); close(roomMade) }() // not on this thread, which lacks this process's descriptors
		<-roomMade
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
func (p *spool) empty() {
	_ = fdconn.Use(p.pipe, func(fd int) error {
		for total := 0; total < pipeMost; {
			n, _ := p.take(fd)
			if n == 0 {
				break
			}
			total += n
		}
		return nil
	})
	p.bound(0)
}

// flush moves what the pipe holds, which is all that a command has printed that has ended. It reports whether it could.
func (p *spool) flush() bool { return p.within(func() {}) }

// end moves what the pipe still holds, and closes it: nothing is added any more. It reports whether it could.
func (p *spool) end() bool {
	return p.within(func() {
		p.over = true
		p.file.Close()
		p.closePipe()
	})
}

// within empties the pipe, then calls f. It returns without when the thread hangs, which counts against the run's user.
func (p *spool) within(f func()) bool {
	done := make(chan struct{})
	p.ask(func() {
		defer close(done)
		p.empty()
		f()
	})
	select {
	case <-done:
		return true
	case <-time.After(flushLimit):
	}
	if !p.stuck {
		p.stuck = true
		heldUp.Add(p.uid, 1)
		go func() { <-done; heldUp.Add(p.uid, -1) }()
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
	run.Output, run.OutputBytes = p.name, p.printed
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
