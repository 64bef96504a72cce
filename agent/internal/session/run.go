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

	Child Child // the run, where it is a child of this process: it ends with it, so "~." is the program's
}

// Child is a run that is a child of its client's process. The client's signals are its own.
type Child interface {
	Signal(syscall.Signal) error // before it returns: this process may be stopped next
	StopsAtCtrlZ() bool          // typed now; else the key is the program's
}

func (o Options) file(stream int) *os.File { return [...]*os.File{o.Stdin, o.Stdout, o.Stderr}[stream] }

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
	stopSignals := c.forwardSignals(o.Child, nil)
	c.pipes.relay(o)
	exit, err := c.receive(nil, o.Stderr)
	c.Close()     // ends a blocked write
	stopSignals() // from here on they end the client: it may be stopped in writing to its terminal
	c.pipes.finish(o)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return 125, err
	}
	return finish(exit, o.Stderr)
}

// forwardSignals passes signals on until stop is called, but for those that this process was started to ignore, as
// nohup does. raw is the terminal that a stop restores, or nil.
func (c *Conn) forwardSignals(child Child, raw *rawMode) (stop func()) {
	signals := make(chan os.Signal, 16)
	for _, s := range forwarded {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for s := range signals {
			c.signal(child, s.(syscall.Signal))
			if s == unix.SIGTSTP {
				suspend(signals, raw)
				c.signal(child, unix.SIGCONT)
			}
		}
	})
	return func() {
		signal.Stop(signals)
		close(signals)
		wg.Wait()
	}
}

func (c *Conn) signal(child Child, s syscall.Signal) {
	if child != nil {
		_ = child.Signal(s) // one that has ended needs none
		return
	}
	_ = WriteFrame(c.conn, Signal, []byte{byte(s)}) // receive reports a broken connection
}

// suspend stops this process, as its run was, so that the shell gets both back at once. Where no shell has put this
// process into a group of its own, nobody could continue it: it goes on.
func suspend(signals <-chan os.Signal, raw *rawMode) {
	if session, err := unix.Getsid(0); err != nil || session == unix.Getpgrp() {
		return
	}
	raw.leave()
	_ = unix.Kill(unix.Getpid(), unix.SIGSTOP)
	for s := range signals {
		if s == unix.SIGCONT {
			break
		}
	}
	raw.enter()
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
