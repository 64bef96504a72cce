package session

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/fdconn"
)

// pipes are what a run gets in place of those standard streams of its client that are terminals. Through a
// terminal the run could read what is typed after its end, switch echo off and show a false prompt; and it could
// pass the descriptor to a process that stays.
type pipes struct {
	theirs []int     // the run's ends, until they are handed over
	typed  int       // our end of its stdin; 0: it has the client's own
	shown  []*output // of its stdout and stderr; one where both are the same terminal
	over   atomic.Bool
}

// output is our end of a pipe that the run writes to.
type output struct {
	stream int // 1 or 2
	pipe   *os.File
	done   chan struct{} // all that follow has copied is copied
}

// IsTerminal reports whether fd is a terminal, also one that has hung up. It asks no file system: one that a user has
// mounted may never answer. And it asks nothing that the kernel locks, as a terminal's size and modes are: whoever has
// the terminal may hold up the answer.
func IsTerminal(fd int) bool {
	if !isDevice(fd) {
		return false
	}
	err := askTerminal(fd)
	return err == nil || err == unix.EIO
}

// standIn returns files with a pipe in place of each terminal.
func (p *pipes) standIn(files []int) ([]int, error) {
	theirs := slices.Clone(files)
	for i, fd := range files {
		switch {
		case !IsTerminal(fd):
		case i == 2 && theirs[1] != files[1] && sameDevice(fd, files[1]):
			theirs[2] = theirs[1] // one pipe, so that what is shown keeps its order
		default:
			end, err := p.open(i)
			if err != nil {
				return nil, fmt.Errorf("make a pipe in place of a terminal: %w", err)
			}
			theirs[i] = end
		}
	}
	return theirs, nil
}

// open makes the pipe of one stream and returns the run's end, which is in blocking mode, as programs expect.
func (p *pipes) open(stream int) (theirs int, err error) {
	var ends [2]int
	syscall.ForkLock.RLock()
	err = syscall.Pipe(ends[:])
	if err == nil {
		syscall.CloseOnExec(ends[0])
		syscall.CloseOnExec(ends[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return 0, err
	}
	ours, theirs := ends[0], ends[1]
	if stream == 0 {
		ours, theirs = theirs, ours
		onePage(ours)
	}
	p.theirs = append(p.theirs, theirs)
	if stream == 0 {
		p.typed = ours
		return theirs, nil
	}
	err = unix.SetNonblock(ours, true) // for deadlines
	p.shown = append(p.shown, &output{stream, os.NewFile(uintptr(ours), "run"), make(chan struct{})})
	return theirs, err
}

func sameDevice(a, b int) bool {
	var x, y unix.Stat_t
	return unix.Fstat(a, &x) == nil && unix.Fstat(b, &y) == nil && x.Rdev == y.Rdev
}

// handedOver closes the run's ends: as long as we held them, no end of its output would be seen.
func (p *pipes) handedOver() {
	for _, fd := range p.theirs {
		unix.Close(fd)
	}
	p.theirs = nil
}

// abandon closes what relay was not given.
func (p *pipes) abandon() {
	p.handedOver()
	if p.typed > 0 {
		unix.Close(p.typed)
		p.typed = 0
	}
	for _, o := range p.shown {
		o.pipe.Close()
	}
	p.shown = nil
}

// relay copies between the client's terminals and the run's pipes until finish.
func (p *pipes) relay(o Options) {
	if p.typed > 0 {
		// Not waited for: it may be waiting for a key. It reads none after finish.
		go p.typing(int(o.Stdin.Fd()), p.typed) // a terminal at stdin is in blocking mode already
	}
	for _, out := range p.shown {
		go out.follow(o.file(out.stream)) // finish waits for it
	}
}

// follow copies to the terminal until the last writer is gone, or finish sets a deadline.
func (o *output) follow(terminal io.Writer) {
	defer close(o.done)
	if _, err := io.Copy(terminal, o.pipe); !errors.Is(err, os.ErrDeadlineExceeded) {
		o.pipe.Close() // if the terminal is gone, the run learns it as from any pipe that nobody reads
	}
}

// finish is called when the run has ended. It shows what was written until now, and no more: what the run left behind
// may write for ever.
func (p *pipes) finish(o Options) {
	p.over.Store(true)
	for _, out := range p.shown {
		written := 0
		_ = fdconn.Use(out.pipe, func(fd int) (err error) { written, err = unix.IoctlGetInt(fd, fionread); return err })
		_ = out.pipe.SetReadDeadline(time.Now())
		<-out.done
		buf := make([]byte, 32<<10)
		for written > 0 {
			n := 0
			_ = fdconn.Use(out.pipe, func(fd int) (err error) {
				n, err = unix.Read(fd, buf[:min(len(buf), written)])
				return err
			})
			if n <= 0 {
				break
			}
			written -= n
			_, _ = o.file(out.stream).Write(buf[:n])
		}
		out.pipe.Close()
	}
}

// look is how often the terminal's state is looked at while nothing is typed.
const look = 100 * time.Millisecond

// typing hands what is typed to the run, a line at a time, and reads the next one only when the run has taken the one
// before: what it does not want stays for the shell. It ends with the run's stdin, at Ctrl-D, and after finish.
func (p *pipes) typing(terminal, run int) {
	defer unix.Close(run)
	line := make([]byte, 4<<10)
	for !p.over.Load() {
		taken, err := ready(run, unix.POLLOUT)
		if err != nil {
			return
		}
		if !taken {
			continue
		}
		if !ours(terminal) {
			time.Sleep(look)
			continue
		}
		typed, err := ready(terminal, unix.POLLIN)
		if !typed && err == nil || p.over.Load() || !ours(terminal) {
			continue
		}
		n, err := unix.Read(terminal, line)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if n <= 0 {
			return
		}
		if _, err := unix.Write(run, line[:n]); err != nil {
			return
		}
	}
}

// ready waits for an event of fd, for look at most. An error says that the other side is gone.
func ready(fd int, events int16) (bool, error) {
	p := []unix.PollFd{{Fd: int32(fd), Events: events}}
	if _, err := unix.Poll(p, int(look.Milliseconds())); err != nil && err != unix.EINTR {
		return false, err
	}
	if p[0].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0 {
		return true, io.EOF
	}
	return p[0].Revents&events != 0, nil
}

// ours reports whether what is typed is for us: this process is in the terminal's foreground, and no other has
// switched line editing or echo off, as a pager of the same pipeline does, or a program that asks for a password.
func ours(terminal int) bool {
	group, err := unix.IoctlGetInt(terminal, unix.TIOCGPGRP)
	if err == nil && group != unix.Getpgrp() {
		return false
	}
	return lineMode(terminal)
}
