package api

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/session"
)

// hurried is a client that loses its patience at once.
func hurried(t *testing.T, handler http.Handler) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	if handler != nil {
		srv := &http.Server{Handler: handler}
		go srv.Serve(ln)
		t.Cleanup(func() { srv.Close() })
	}
	c := NewClient(socket)
	c.limits = limits{quiet: 20 * time.Millisecond, ping: 5 * time.Second, busy: 100 * time.Millisecond}
	if handler == nil {
		c.limits.ping = 20 * time.Millisecond
	}
	return c
}

// An agent that accepts nothing, as one that SIGSTOP holds, is hung, whatever is asked of it.
func TestHungAgentIsGivenUp(t *testing.T) {
	c := hurried(t, nil)
	asks := map[string]func() error{
		"a status": func() error { return c.Get(t.Context(), "/v1/status", nil) },
		"an exec": func() error {
			_, err := c.Exec(t.Context(), ExecRequest{Mode: Terminal})
			return err
		},
		"an attach": func() error {
			_, err := c.Attach(t.Context(), "id", session.Size{})
			return err
		},
		"an output": func() error { return c.Follow(t.Context(), "id", 0, time.Hour, io.Discard) },
		"a wait": func() error {
			return c.Wait(t.Context(), time.Hour, func(ctx context.Context) error {
				return c.Get(ctx, Path("runs", "id", "wait"), nil)
			})
		},
	}
	for name, ask := range asks {
		err := ask()
		if s, ok := errors.AsType[*Silent](err); !ok || s.Busy || !strings.Contains(err.Error(), "is hung") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An agent that answers the ping is busy: said, waited for, and given up at last; a run is waited for without an end.
func TestBusyAgentIsTold(t *testing.T) {
	done := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc(Ping, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /v1/status", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("GET /v1/runs/{id}/wait", func(w http.ResponseWriter, r *http.Request) {
		<-done
		io.WriteString(w, "{}")
	})
	c := hurried(t, mux)
	said := 0
	c.Busy = func(time.Duration) { said++ }
	err := c.Get(t.Context(), "/v1/status", nil)
	if s, ok := errors.AsType[*Silent](err); !ok || !s.Busy || said != 1 || !strings.Contains(err.Error(), "is busy") {
		t.Errorf("said %d times: %v", said, err)
	}
	time.AfterFunc(10*c.limits.busy, func() { close(done) })
	var r struct{}
	if err := c.Get(t.Context(), Path("runs", "id", "wait"), &r); err != nil || said != 1 {
		t.Errorf("a wait of a run, said %d times: %v", said, err)
	}
}

// An agent of before the ping refuses it, which is an answer.
func TestOlderAgentIsNotHung(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	err := hurried(t, mux).Get(t.Context(), "/v1/status", nil)
	if s, ok := errors.AsType[*Silent](err); !ok || !s.Busy {
		t.Errorf("%v", err)
	}
}
