package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

// runClient is the supervisor's client, with errors that a person can act on. The agent reads output from the files
// themselves: no process is in the data path.
type runClient struct{ *runs.Client }

func (s runClient) Logs(ctx context.Context, w io.Writer, id string, lines int, follow bool) error {
	return s.noOutput(id, s.Client.Logs(ctx, w, id, lines, follow))
}

func (s runClient) noOutput(id string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &api.Error{Status: http.StatusNotFound, Message: fmt.Sprintf("run %q has no output here", id),
			Hint: "the output of an exec went to its own stdout; a detached run and a job have a file"}
	}
	return notFound(id, err)
}

func (s runClient) Follow(ctx context.Context, w io.Writer, id string, from runs.Position, begin func(int64)) error {
	return s.noOutput(id, s.Client.Follow(ctx, w, id, from, begin))
}

func (s runClient) Get(ctx context.Context, id string) (runs.Run, error) {
	r, err := s.Client.Get(ctx, id)
	return r, notFound(id, err)
}

func (s runClient) Wait(ctx context.Context, id string) (runs.Run, error) {
	r, err := s.Client.Wait(ctx, id)
	return r, notFound(id, err)
}

func (s runClient) Stop(ctx context.Context, id string, grace time.Duration) (runs.Run, error) {
	r, err := s.Client.Stop(ctx, id, grace)
	return r, notFound(id, err)
}

func (s runClient) Attach(ctx context.Context, id string, size session.Size, h runs.Handover) (runs.Run, error) {
	r, err := s.Client.Attach(ctx, id, size, h)
	return r, notFound(id, err)
}

func notFound(id string, err error) error {
	if errors.Is(err, runs.ErrUnknown) {
		return &api.Error{Status: http.StatusNotFound, Message: fmt.Sprintf("there is no run %q", id),
			Hint: "agent ps --all lists them"}
	}
	if r, ok := errors.AsType[*runs.Refused](err); ok {
		return &api.Error{Status: http.StatusConflict, Message: r.Message, Hint: r.Hint, Exit: r.Code}
	}
	return err
}
