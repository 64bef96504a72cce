package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Options is the client's side of a session.
type Options struct {
	Stdin, Stdout, Stderr *os.File // required; with a terminal Stdin is put in raw mode while Run runs

	NoEscape bool // leave "~." to the program, as for binary input
}

// ErrLost reports that the connection ended without an Exit: the supervisor died or was killed.
var ErrLost = errors.New("the connection to the run was lost; whether it goes on is shown by: agent ps")

// Run relays the session until the run ends, the user detaches, or ctx is done, and returns the exit
// code for the client. It closes the session. With an error the code is 125.
func (c *Conn) Run(ctx context.Context, o Options) (code int, err error) {
	defer c.Close()
	switch {
	case c.Hello.Ended: // there is no input: no terminal is needed
		exit, err := c.receive(o.Stdout, o.Stderr)
		if err != nil {
			return 125, err
		}
		return finish(exit, o.Stderr)
	case c.Hello.Terminal:
		return c.runTerminal(ctx, o)
	}
	return c.runPiped(ctx, o)
}

// forwarded are the signals that the client passes to a run without a terminal. The run's side sends
// those of a terminal, HUP and TERM to the run's process group, as a terminal would; the others to the
// command itself, since by default they end a process that does not expect them.
var forwarded = []os.Signal{
	unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM,
	unix.SIGWINCH, unix.SIGTSTP, unix.SIGCONT,
}

func (c *Conn) runPiped(ctx context.Context, o Options) (int, error) {
	stop := context.AfterFunc(ctx, func() { c.conn.Close() })
	defer stop()
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, forwarded...)
	var wg sync.WaitGroup
	wg.Go(func() {
		for s := range signals {
			c.forward(s.(syscall.Signal))
		}
	})
	defer wg.Wait()
	defer c.Close() // ends a blocked write
	defer close(signals)
	defer signal.Stop(signals)
	exit, err := c.receive(nil, o.Stderr)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return 125, err
	}
	return finish(exit, o.Stderr)
}

// forward sends s to the run. Ctrl-Z stops the run first and then the client, so that the shell gets
// both back at once, and "fg" wakes both.
func (c *Conn) forward(s syscall.Signal) {
	_ = WriteFrame(c.conn, Signal, []byte{byte(s)}) // receive reports a broken connection
	if s == unix.SIGTSTP {
		_ = unix.Kill(unix.Getpid(), unix.SIGSTOP)
	}
}

// receive reads frames until the exit. out gets the terminal's output.
func (c *Conn) receive(out io.Writer, stderr io.Writer) (Exit, error) {
	r := Reader{R: c.reader}
	for {
		t, p, err := r.Next()
		if err != nil {
			return Exit{}, fmt.Errorf("%w (%v)", ErrLost, err)
		}
		switch t {
		case Output:
			if out != nil {
				if _, err := out.Write(p); err != nil {
					return Exit{}, fmt.Errorf("write to terminal: %w", err)
				}
			}
		case Notice:
			fmt.Fprintf(stderr, "%s\n", p)
		case Exited:
			return ParseExit(p)
		}
	}
}

func finish(e Exit, stderr io.Writer) (int, error) {
	if e.Message != "" {
		fmt.Fprintf(stderr, "%s\n", e.Message)
	}
	if e.Detached {
		fmt.Fprintf(stderr, "detached; agent attach %s\n", e.Run)
		return 0, nil
	}
	return e.Code, nil
}
