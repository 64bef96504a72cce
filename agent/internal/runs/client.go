package runs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/session"
)

// SystemSocket is where agent-runs.service serves.
const SystemSocket = "/run/agent-runs/supervisor.sock"

// Client talks to the supervisor. The zero value with Socket set is ready; it holds no connection between
// calls and may be used by several goroutines.
type Client struct {
	Socket string // required

	// Patience is how long a call waits for a supervisor that does not answer, or is about to end: one that
	// is being replaced is back in some hundred milliseconds. 0: not at all.
	Patience time.Duration
}

// Handover is what goes to the supervisor with a start or an attach. On success the supervisor owns its
// own copies; on error it has closed them without a word, and the client's connection is still the
// caller's to answer. The caller closes its own in both cases, without shutting anything down.
type Handover struct {
	Conn  syscall.Conn // the client's connection, hijacked, or nil
	Files []int        // stdin, stdout and stderr, for IOPipes
}

// Start starts a run. When it returns without error the command runs and, with a handed over connection,
// the client has its Hello. An error may be a *Refused. When the supervisor ends before it answers, the next
// one is asked for the same id, so that the command runs once.
func (c *Client) Start(ctx context.Context, req Request, h Handover) (run Run, err error) {
	if req = req.leased(); req.ID == "" {
		req.ID = NewID()
	}
	err = c.start(ctx, req.ID, func() error {
		return c.send(ctx, "/runs", StartBody{Request: req, HasConn: h.Conn != nil}, h, &run)
	}, &run)
	return run, err
}

// Begin starts a run as Start does, and gets its end on the same connection, which is half the cost of asking for it on
// another. ended waits for that as Wait does and may be called again after an error. It must be called, or ctx end.
func (c *Client) Begin(ctx context.Context, req Request) (run Run, ended func() (Run, error), err error) {
	req = req.leased()
	ended = func() (Run, error) { return c.Wait(ctx, req.ID) }
	err = c.start(ctx, req.ID, func() error {
		resp, err := c.do(ctx, "POST", "/runs?wait=1", StartBody{Request: req})
		if err != nil {
			return err
		}
		answers := json.NewDecoder(resp.Body)
		if err := answers.Decode(&run); err != nil {
			resp.Body.Close()
			return fmt.Errorf("read the supervisor's answer: %w", err)
		}
		ended = func() (Run, error) {
			defer resp.Body.Close()
			var run Run
			if err := answers.Decode(&run); err != nil || run.ID != req.ID { // it died, or is older than this
				return c.Wait(ctx, req.ID)
			}
			return run, nil
		}
		return nil
	}, &run)
	return run, ended, err
}

// start asks for a run until there is an answer. One that exists when it is asked for again is ours.
func (c *Client) start(ctx context.Context, id string, ask func() error, run *Run) error {
	again := false
	return c.patiently(ctx, func() error {
		err := ask()
		if again && errors.Is(err, ErrExists) {
			*run, err = c.Get(ctx, id)
		}
		again = true
		return err
	})
}

// patiently calls f until it has an answer, for Patience. A supervisor that died while it was asked is given
// that long from its death: a start may have waited for a lock for hours before.
func (c *Client) patiently(ctx context.Context, f func() error) error {
	end := time.Now().Add(c.Patience)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		err := f()
		if pause == 5*time.Millisecond && !noListener(err) {
			end = time.Now().Add(c.Patience)
		}
		_, refused := errors.AsType[*Refused](err)
		if err == nil || refused && !errors.Is(err, ErrClosing) || time.Now().Add(pause).After(end) {
			return err
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// Attach gives a terminal session a client, in place of one it may have.
func (c *Client) Attach(ctx context.Context, id string, size session.Size, h Handover) (run Run, err error) {
	err = c.send(ctx, "/runs/"+url.PathEscape(id)+"/attach", AttachBody{Size: size}, h, &run)
	return run, err
}

// send posts body with the descriptors of h.
func (c *Client) send(ctx context.Context, path string, body any, h Handover, out any) error {
	if h.Conn == nil {
		return c.call(ctx, "POST", path, body, out, h.Files...)
	}
	return fdconn.Use(h.Conn, func(fd int) error {
		return c.call(ctx, "POST", path, body, out, append([]int{fd}, h.Files...)...)
	})
}

// maxAnswer is far more than a supervisor answers that bounds what it keeps. One that is older does not.
const maxAnswer = 16 << 20

// List returns runs, newest first, without their arguments.
func (c *Client) List(ctx context.Context, f Filter) (runs []Run, err error) {
	q := url.Values{}
	if f.Live {
		q.Set("live", "1")
	}
	for k, v := range map[string]string{"kind": f.Kind, "name": f.Name} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	left := 0
	err = c.call(ctx, "GET", "/runs?"+q.Encode(), nil, func(resp *http.Response) (err error) {
		left, _ = strconv.Atoi(resp.Header.Get(LeftOut))
		runs, err = readList(resp.Body, &left)
		return err
	})
	if f.LeftOut != nil {
		*f.LeftOut = left
	}
	return runs, err
}

// readList reads one run after the other: an older supervisor's have all their arguments. What is beyond maxAnswer
// counts as one more that is left out.
func readList(r io.Reader, left *int) (list []Run, err error) {
	body := &io.LimitedReader{R: r, N: maxAnswer}
	d := json.NewDecoder(body)
	for _, err = d.Token(); err == nil && d.More(); {
		var run Run
		if err = d.Decode(&run); err == nil {
			run.Args, run.AllArgs = nil, AllArgs{}
			list = append(list, run)
		}
	}
	if body.N == 0 {
		*left++
		return list, nil
	}
	return list, err
}

// Get returns one run. The id may be shortened to a beginning that is unique.
func (c *Client) Get(ctx context.Context, id string) (run Run, err error) {
	err = c.call(ctx, "GET", "/runs/"+url.PathEscape(id), nil, &run)
	return run, err
}

// Wait returns the run once its command has ended; a job's, once what that left behind has, too. It goes on waiting
// through a replacement of the supervisor for as long as Patience allows.
func (c *Client) Wait(ctx context.Context, id string) (run Run, err error) {
	err = c.call(ctx, "GET", "/runs/"+url.PathEscape(id)+"/wait", nil, &run)
	return run, err
}

// Stop ends a run: TERM to every process, grace (0: the run's own), KILL. It returns once all are gone.
func (c *Client) Stop(ctx context.Context, id string, grace time.Duration) (run Run, err error) {
	err = c.call(ctx, "POST", "/runs/"+url.PathEscape(id)+"/stop", StopBody{Grace: grace}, &run)
	return run, err
}

// Interrupt ends a run as Stop does, for a reason that is no wish of a person: Stopped….
func (c *Client) Interrupt(ctx context.Context, id, by string) (run Run, err error) {
	err = c.call(ctx, "POST", "/runs/"+url.PathEscape(id)+"/stop", StopBody{By: by}, &run)
	return run, err
}

// Signal sends a signal to the command, or to its process group where a terminal would.
func (c *Client) Signal(ctx context.Context, id string, sig syscall.Signal) error {
	return c.call(ctx, "POST", "/runs/"+url.PathEscape(id)+"/signal", SignalBody{Signal: int(sig)}, nil)
}

// Info asks the supervisor about itself.
func (c *Client) Info(ctx context.Context) (info Info, err error) {
	err = c.call(ctx, "GET", "/info", nil, &info)
	return info, err
}

// Retire has the supervisor end as soon as no run is left, at once if there is none, so that a newer one
// takes its place.
func (c *Client) Retire(ctx context.Context) (info Info, err error) {
	err = c.call(ctx, "POST", "/retire", struct{}{}, &info)
	return info, err
}

// Shutdown ends all runs (TERM, grace, KILL) and then the supervisor. It returns when the runs are ended.
func (c *Client) Shutdown(ctx context.Context, grace time.Duration) error {
	return c.call(ctx, "POST", "/shutdown", StopBody{Grace: grace}, nil)
}

// Events yields what happened after the event numbered after, oldest first, then what happens, until ctx
// is done or the consumer stops. While it runs the supervisor knows that it has an agent. It ends with
// one error: the context's, or that the connection was lost, and the caller begins anew.
func (c *Client) Events(ctx context.Context, after uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		resp, err := c.do(ctx, "GET", "/events?after="+strconv.FormatUint(after, 10), nil)
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer resp.Body.Close()
		for d := json.NewDecoder(resp.Body); ; {
			var e Event
			if err := d.Decode(&e); err != nil {
				if ctx.Err() != nil {
					err = context.Cause(ctx)
				}
				yield(Event{}, fmt.Errorf("read events: %w", err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// call makes one request and decodes its answer into out, or has out, a function, read it. A GET is repeated while no
// supervisor answers.
func (c *Client) call(ctx context.Context, method, path string, body, out any, files ...int) error {
	once := func() error { return c.once(ctx, method, path, body, out, files...) }
	if method == "GET" {
		return c.patiently(ctx, once)
	}
	return once()
}

func (c *Client) once(ctx context.Context, method, path string, body, out any, files ...int) error {
	resp, err := c.do(ctx, method, path, body, files...)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch read := out.(type) {
	case nil:
	case func(*http.Response) error:
		err = read(resp)
	default:
		err = json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out)
	}
	if err != nil {
		return fmt.Errorf("read the supervisor's answer: %w", err)
	}
	return nil
}

// do sends one request on a connection of its own, which ends with the response's body or ctx.
func (c *Client) do(ctx context.Context, method, path string, body any, files ...int) (*http.Response, error) {
	req, err := newRequest(method, path, body)
	if err != nil {
		return nil, err
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("reach the supervisor at %q: %w", c.Socket, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	resp, err := roundTrip(conn, req, files)
	if err == nil && resp.StatusCode >= 300 {
		err = refused(resp)
	}
	if err != nil {
		stop()
		conn.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	resp.Body = &connBody{ReadCloser: resp.Body, conn: conn, stop: stop}
	return resp, nil
}

func newRequest(method, path string, body any) (*http.Request, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, fmt.Sprintf("http://supervisor/v%d%s", API, path), r)
	if err == nil {
		req.Header.Set("Connection", "close")
	}
	return req, err
}

func roundTrip(conn *fdconn.Conn, req *http.Request, files []int) (*http.Response, error) {
	var b bytes.Buffer
	if err := req.Write(&b); err != nil {
		return nil, err
	}
	if err := fdconn.Send(conn.UnixConn, b.Bytes(), files...); err != nil {
		return nil, fmt.Errorf("ask the supervisor: %w", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return nil, fmt.Errorf("wait for the supervisor's answer: %w", err)
	}
	return resp, nil
}

// connBody closes its connection with itself.
type connBody struct {
	io.ReadCloser
	conn *fdconn.Conn
	stop func() bool
}

func (b *connBody) Close() error {
	b.stop()
	return b.conn.Close() // the body's own Close would read the rest first
}

// dial connects, trying again for Patience while no supervisor listens.
func (c *Client) dial(ctx context.Context) (*fdconn.Conn, error) {
	end := time.Now().Add(c.Patience)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		conn, err := fdconn.Dial(ctx, c.Socket)
		if err == nil || time.Now().Add(pause).After(end) || !noListener(err) {
			return conn, err
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// sleep returns early, with the cause, when ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func noListener(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && (errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED))
}
