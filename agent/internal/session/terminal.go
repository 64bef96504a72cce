package session

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// runTerminal puts the terminal in raw mode, relays, and restores it on every way out that lets this
// process act: return, panic, signal. After kill -9 of the client nobody can; the person types
// "stty sane", and the run, which only lost its client, is there for "agent attach".
func (c *Conn) runTerminal(ctx context.Context, o Options) (code int, err error) {
	raw, err := makeRaw(o.Stdin)
	if err != nil {
		return 125, err
	}
	defer raw.restore()
	ctx, cancel := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.conn.Close() })
	defer stop()

	c.sendSize(raw.fd)
	winch := make(chan os.Signal, 1)
	signal.Notify(winch, unix.SIGWINCH)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range winch {
			c.sendSize(raw.fd)
		}
	})
	defer wg.Wait()
	defer close(winch)
	defer signal.Stop(winch)

	// Not waited for: a read of a terminal cannot be interrupted in every system. It ends with the
	// process, or with the next key, and then writes to a closed connection.
	go c.sendInput(o)

	exit, err := c.receive(o.Stdout, crlf{o.Stderr})
	raw.restore()
	if err != nil {
		if ctx.Err() != nil { // a signal or the caller: the run goes on without us
			return finish(Exit{Run: c.Hello.Run, Detached: true}, o.Stderr)
		}
		return 125, err
	}
	return finish(exit, o.Stderr)
}

func (c *Conn) sendSize(fd int) {
	if w, h, err := term.GetSize(fd); err == nil && w > 0 && h > 0 {
		_ = WriteFrame(c.conn, Resize, AppendSize(nil, Size{Rows: uint16(h), Cols: uint16(w)}))
	}
}

func (c *Conn) sendInput(o Options) {
	esc := escape{off: o.NoEscape}
	buf := make([]byte, 4<<10)
	for {
		n, err := o.Stdin.Read(buf)
		data, detach := esc.filter(buf[:n])
		if len(data) > 0 && WriteFrame(c.conn, Input, data) != nil {
			return
		}
		if detach {
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

// escape finds "~." after a newline, as ssh does: the way out of a session whose program does not react.
// "~~" sends one tilde.
type escape struct {
	off   bool
	inLn  bool // something was typed since the last newline
	tilde bool // a tilde at the start of a line is held back
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

// rawMode is a terminal put in raw mode; restore may be called any number of times.
type rawMode struct {
	fd    int
	state *term.State
	once  sync.Once
}

func makeRaw(f *os.File) (*rawMode, error) {
	fd := int(f.Fd()) // standard input is in blocking mode already, and stays so
	state, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("set up terminal: %w", err)
	}
	return &rawMode{fd: fd, state: state}, nil
}

func (r *rawMode) restore() {
	r.once.Do(func() { _ = term.Restore(r.fd, r.state) })
}

// crlf writes words to a terminal that is in raw mode, on lines of their own.
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
