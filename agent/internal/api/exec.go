package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"

	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/session"
)

// Exec starts a command and returns its session. In the mode Pipes the command
// gets the files, which stay the caller's; in Terminal none are sent.
func (c *Client) Exec(ctx context.Context, req ExecRequest, files ...*os.File) (*session.Conn, error) {
	if req.Mode != Pipes {
		files = nil
	}
	return c.open(ctx, "/v1/runs", req, files)
}

// Attach takes up the terminal of a run.
func (c *Client) Attach(ctx context.Context, id string, size session.Size) (*session.Conn, error) {
	return c.open(ctx, Path("runs", id, "attach"), size, nil)
}

func (c *Client) open(ctx context.Context, path string, in any, files []*os.File) (*session.Conn, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if err := c.ping(ctx, c.limits.quiet+c.limits.ping); err != nil {
		return nil, err
	}
	s, end, err := listen(ctx, c, false, func(ctx context.Context) (s *session.Conn, err error) {
		conn, err := c.dial(ctx)
		if err != nil {
			return nil, err
		}
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		err = withFDs(files, nil, func(nums []int) error {
			s, err = session.Open(conn.UnixConn, req, nums...)
			return err
		})
		return s, err
	}, func(s *session.Conn) { s.Close() })
	end()
	return s, err
}

// withFDs calls f with the descriptors of files. They are not taken with (*os.File).Fd, which would switch them to
// blocking mode: their descriptions are also the shell's that the person types into.
func withFDs(files []*os.File, nums []int, f func([]int) error) error {
	if len(files) == 0 {
		return f(nums)
	}
	return fdconn.Use(files[0], func(fd int) error {
		return withFDs(files[1:], append(nums, fd), f)
	})
}
