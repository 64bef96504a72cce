package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"beanstalk-agent/agent/internal/fdconn"
)

// Path joins a route's segments, each escaped.
func Path(segments ...string) string {
	p := "/v1"
	for _, s := range segments {
		p += "/" + url.PathEscape(s)
	}
	return p
}

// Client asks the agent that listens at a socket. It is safe for concurrent use.
type Client struct {
	// Optional. Busy is called once for a request that an agent which is up has not answered within so long.
	Busy func(within time.Duration)

	socket string
	http   http.Client
	limits limits
}

// NewClient returns a client of the agent at socket; nothing is dialled yet.
func NewClient(socket string) *Client {
	c := &Client{socket: socket, limits: usual}
	c.http.Transport = &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) }}
	return c
}

func (c *Client) dial(ctx context.Context) (*fdconn.Conn, error) {
	conn, err := fdconn.Dial(ctx, c.socket)
	if s, ok := errors.AsType[*fdconn.Stranger](err); ok {
		return nil, &Error{Message: s.Error(), Exit: 125,
			Hint: "nothing was sent; only root or you may run the agent that you ask: see --socket and AGENT_SOCKET"}
	}
	if errors.Is(err, syscall.EACCES) {
		return nil, notAllowed(c.socket)
	}
	if errors.Is(err, syscall.EAGAIN) { // more wait to be accepted than the kernel keeps
		return nil, &Silent{Socket: c.socket, After: c.limits.quiet + c.limits.ping}
	}
	if err != nil {
		var cause error = err
		if errno, ok := errors.AsType[syscall.Errno](err); ok {
			cause = errno
		}
		return nil, &Unreachable{c.socket, cause}
	}
	return conn, nil
}

// Get asks for path and decodes the answer into out.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	_, err := c.GetList(ctx, path, out)
	return err
}

// GetList is Get, and returns the answer's header.
func (c *Client) GetList(ctx context.Context, path string, out any) (http.Header, error) {
	return c.roundTrip(ctx, http.MethodGet, path, nil, out)
}

// Post sends in to path and decodes the answer into out; either may be nil.
func (c *Client) Post(ctx context.Context, path string, in, out any) error {
	_, err := c.roundTrip(ctx, http.MethodPost, path, in, out)
	return err
}

// Stream asks for path and returns the body, which the caller closes.
func (c *Client) Stream(ctx context.Context, path string) (io.ReadCloser, error) {
	resp, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

func (c *Client) roundTrip(ctx context.Context, method, path string, in, out any) (http.Header, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if out != nil && resp.StatusCode != http.StatusNoContent {
		if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
			return nil, fmt.Errorf("read the agent's answer: %w", err)
		}
	}
	return resp.Header, nil
}

func (c *Client) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, body)
	if err != nil {
		return nil, err
	}
	if method != http.MethodGet {
		if err := c.ping(ctx, c.limits.quiet+c.limits.ping); err != nil {
			return nil, err
		}
	}
	resp, end, err := listen(ctx, c, lasting(req),
		func(ctx context.Context) (*http.Response, error) { return c.http.Do(req.WithContext(ctx)) },
		func(r *http.Response) { r.Body.Close() })
	if err != nil {
		end()
		if u, ok := errors.AsType[*Unreachable](err); ok {
			return nil, u
		}
		if s, ok := errors.AsType[*Silent](err); ok {
			return nil, s
		}
		if e, ok := errors.AsType[*Error](err); ok {
			return nil, e
		}
		return nil, fmt.Errorf("ask the agent: %w", errors.Unwrap(err))
	}
	resp.Body = &endingBody{resp.Body, end}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return resp, nil
}

// endingBody ends its request's context when it is closed.
type endingBody struct {
	io.ReadCloser
	end context.CancelFunc
}

func (b *endingBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

// readError turns a refusal into its Error.
func readError(resp *http.Response) error {
	e := &Error{Status: resp.StatusCode}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if json.Unmarshal(b, e) != nil || e.Message == "" {
		e.Message = fmt.Sprintf("the agent answered %s", resp.Status)
		if resp.StatusCode == http.StatusNotFound {
			e.Hint = "the running agent may be older than this command: compare agent version with agent status"
		}
	}
	return e
}

// pause is what Wait leaves between two attempts.
const pause = 200 * time.Millisecond

// Wait repeats ask while the agent cannot be reached, so that a verb that waits for a run gets its result although the
// agent restarts meanwhile. It gives up when the agent was away for longer than patience at a stretch: an ask that
// lasted was answered. An agent that is silent at the first ask is not waited for.
func (c *Client) Wait(ctx context.Context, patience time.Duration, ask func(context.Context) error) error {
	away := time.Now()
	for answered := false; ; {
		began := time.Now()
		err := ask(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if _, refused := errors.AsType[*Error](err); refused {
			return err
		}
		_, silent := errors.AsType[*Silent](err)
		if silent && !answered {
			return err
		}
		if now := time.Now(); !silent && now.Sub(began) > pause {
			away, answered = now, true
		} else if now.Sub(away) > patience {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
