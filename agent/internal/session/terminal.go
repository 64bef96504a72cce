package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// detachLimit is how long the other side may take to detach: it may be blocked in a write to a program
// that does not read. Then closing the connection detaches.
const detachLimit = time.Second

// runTerminal puts the terminal in raw mode, relays, and restores it on return, panic and signal, with
// the modes that the program switched (alternate screen, mouse). After kill -9 of the client the user
// types "reset"; the run goes on and "agent attach" finds it, unless it is this process's child: then its
// terminal hangs up.
func (c *Conn) runTerminal(ctx context.Context, o Options) (code int, err error) {
	raw, err := makeRaw(o.Stdin)
	if err != nil {
		return 125, err
	}
	defer raw.restore()
	if o.Child != nil {
		defer c.forwardSignals(o.Child, raw)()
	} else {
		var cancel context.CancelFunc
		ctx, cancel = signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT)
		defer cancel()
	}
	stop := context.AfterFunc(ctx, func() { c.conn.Close() })
	defer stop()
	defer c.followSize(raw)()

	// Not waited for: a read of a terminal cannot be interrupted on every system. It ends with the
	// process, or with the next key, when it writes to a closed connection.
	left := make(chan struct{})
	go c.sendInput(o, raw, left)

	screen := &restoringScreen{w: o.Stdout}
	exit, err := c.receive(screen, crlf{o.Stderr})
	screen.undo()
	raw.restore()
	if err == nil {
		return finish(exit, o.Stderr)
	}
	select {
	case <-ctx.Done(): // a signal or the caller: the run goes on without us
	case <-left:
	default:
		return 125, err
	}
	return finish(Exit{Run: c.Hello.Run, Detached: true}, o.Stderr)
}

// followSize sends the size now and whenever it changes, until stop is called.
func (c *Conn) followSize(raw *rawMode) (stop func()) {
	c.sendSize(raw.fd)
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, unix.SIGWINCH)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range changed {
			c.sendSize(raw.fd)
		}
	})
	return func() {
		signal.Stop(changed)
		close(changed)
		wg.Wait()
	}
}

// restoringScreen is the user's terminal, and follows the modes that the program sets.
type restoringScreen struct {
	w      io.Writer
	screen Screen
}

func (s *restoringScreen) Write(p []byte) (int, error) {
	s.screen.Feed(p, nil)
	return s.w.Write(p)
}

func (s *restoringScreen) undo() { _, _ = s.w.Write(s.screen.Undo()) }

func (c *Conn) sendSize(fd int) {
	if w, h, err := term.GetSize(fd); err == nil && w > 0 && h > 0 {
		_ = WriteFrame(c.conn, Resize, AppendSize(nil, Size{Rows: uint16(h), Cols: uint16(w)}))
	}
}

const ctrlZ = 0x1a

// sendInput sends the user's input. It closes left when the user detaches.
func (c *Conn) sendInput(o Options, raw *rawMode, left chan<- struct{}) {
	defer raw.restoreOnPanic()
	esc := escape{off: o.Child != nil}
	buf := make([]byte, 4<<10)
	for {
		n, err := o.Stdin.Read(buf)
		if o.Child != nil && bytes.IndexByte(buf[:n], ctrlZ) >= 0 && o.Child.StopsAtCtrlZ() {
			_ = unix.Kill(unix.Getpid(), unix.SIGTSTP) // as from the terminal, were it not in raw mode
			continue
		}
		data, detach := esc.filter(buf[:n])
		if len(data) > 0 && WriteFrame(c.conn, Input, data) != nil {
			return
		}
		if detach {
			close(left)
			time.AfterFunc(detachLimit, func() { c.conn.Close() })
			_ = WriteFrame(c.conn, Detach, nil)
			return
		}
		if err == io.EOF {
			_ = WriteFrame(c.conn, EOF, nil)
			return
		}
		if err != nil {
			return
		}
	}
}

// escape finds "~." after a newline, as ssh does, to leave a session whose program does not react. "~~"
// sends one tilde.
type escape struct {
	off   bool
	inLn  bool // the line is not empty
	tilde bool // a tilde at the start of a line is pending
}

func (e *escape) filter(in []byte) (out []byte, detach bool) {
	if e.off {
		return in, false
	}
	out = make([]byte, 0, len(in)+1)
	for _, b := range in {
		if e.tilde {
			e.tilde, e.inLn = false, true
			switch b {
			case '.':
				return out, true
			case '~':
			default:
				out = append(out, '~')
			}
		} else if b == '~' && !e.inLn {
			e.tilde = true
			continue
		}
		e.inLn = b != '\r' && b != '\n'
		out = append(out, b)
	}
	return out, false
}

// rawMode is a terminal in raw mode; restore may be called any number of times.
type rawMode struct {
	fd int

	mu    sync.Mutex
	state *term.State // to restore; nil: it is
	done  bool
}

func makeRaw(f *os.File) (*rawMode, error) {
	fd := int(f.Fd()) // standard input is in blocking mode already, and stays so
	if !term.IsTerminal(fd) {
		return nil, errors.New("standard input is not a terminal: leave -t out, or use -T")
	}
	state, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("set up terminal: %w", err)
	}
	return &rawMode{fd: fd, state: state}, nil
}

// leave restores the terminal until enter is called.
func (r *rawMode) leave() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != nil {
		_ = term.Restore(r.fd, r.state)
		r.state = nil
	}
}

func (r *rawMode) enter() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == nil && !r.done {
		r.state, _ = term.MakeRaw(r.fd)
	}
}

func (r *rawMode) restore() {
	r.leave()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = true
}

// restoreOnPanic is for goroutines, whose panics run only their own defers.
func (r *rawMode) restoreOnPanic() {
	if p := recover(); p != nil {
		r.restore()
		panic(p)
	}
}

// crlf writes text to a terminal in raw mode, on new lines.
type crlf struct{ w io.Writer }

func (c crlf) Write(p []byte) (int, error) {
	out := []byte("\r\n")
	for _, b := range p {
		if b == '\n' {
			out = append(out, '\r')
		}
		out = append(out, b)
	}
	_, err := c.w.Write(out)
	return len(p), err
}
