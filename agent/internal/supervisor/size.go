package supervisor

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/session"
)

// sizeLimit is how long a new size is waited for, so that the program has it before what is typed next.
const sizeLimit = time.Second

// sizer sets the size of a run's terminal, on a thread apart, while its caller holds no lock that others need. Reason:
// the kernel locks the size while it copies it to a process that asks. One that asks with a page which never comes
// holds up whoever sets the size, in a wait that no signal ends (tty_io.c: tiocgwinsz, tty_do_resize).
type sizer struct {
	uid uint32 // the run's
	pty *command.Terminal

	mu   sync.Mutex   // never held over a call to the kernel
	next session.Size // zero: none
	busy bool         // a thread is at work, and takes what is next
}

// set sets a size. It returns after sizeLimit when the thread hangs, which counts against the run's user.
func (z *sizer) set(s session.Size) {
	z.mu.Lock()
	z.next = s
	begins := !z.busy
	z.busy = true
	z.mu.Unlock()
	if !begins {
		return
	}
	done := make(chan struct{})
	z.begin(done)
	select {
	case <-done:
	case <-time.After(sizeLimit):
		heldUp.Add(z.uid, 1)
		go func() { <-done; heldUp.Add(z.uid, -1) }() // ends with the thread
	}
}

// begin starts the thread, which closes done. Once the terminal is closed there is none, and no size any more.
func (z *sizer) begin(done chan struct{}) {
	fd := -1
	err := fdconn.Use(z.pty.Master, func(master int) (err error) {
		fd, err = unix.FcntlInt(uintptr(master), unix.F_DUPFD_CLOEXEC, 3)
		return err
	})
	if err != nil {
		z.mu.Lock()
		z.busy = false
		z.mu.Unlock()
		close(done)
		return
	}
	fdconn.Apart([]int{fd}, func() {
		defer close(done)
		defer unix.Close(fd)
		for s := z.take(); s != (session.Size{}); s = z.take() {
			_ = command.SetSize(fd, s.Rows, s.Cols)
		}
	})
}

// take returns the next size. Zero: there is none, and the next one needs another thread.
func (z *sizer) take() (s session.Size) {
	z.mu.Lock()
	defer z.mu.Unlock()
	s, z.next = z.next, session.Size{}
	z.busy = s != (session.Size{})
	return s
}
