package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/runs"
)

// Server answers the local API until its context is done.
type Server struct {
	Listener net.Listener // of fdconn; Run closes it
	Allow    []string     // exec.allow: user names or numbers
	Backend  Backend
	Log      *slog.Logger
}

// Run serves until ctx is done, then lets requests in flight end for two seconds.
func (s *Server) Run(ctx context.Context) error {
	srv := &http.Server{
		Handler:           s.handler(),
		ConnContext:       fdconn.ConnContext,
		ReadHeaderTimeout: 5 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(s.Listener) }()
	select {
	case err := <-ended: // a deaf agent must not live on
		return err
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if srv.Shutdown(limit) != nil {
		srv.Close()
	}
	<-ended
	return nil
}

// call is one request and who makes it.
type call struct {
	api.Caller
	w http.ResponseWriter
	r *http.Request
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	for _, rt := range s.routes() {
		mux.HandleFunc(rt.pattern, func(w http.ResponseWriter, r *http.Request) { s.serve(rt, w, r) })
	}
	return mux
}

func (s *Server) serve(rt route, w http.ResponseWriter, r *http.Request) {
	c := &call{w: w, r: r}
	conn, ok := fdconn.FromContext(r.Context())
	if !ok { // a listener of another kind does not say who calls
		c.fail(&api.Error{Status: http.StatusForbidden, Message: "the caller is not known"})
		return
	}
	c.Caller = callerOf(conn.Peer(), uint32(os.Geteuid()))
	if err := admit(c.Caller, rt.access, s.Allow); err != nil {
		s.Log.Warn("refused", "uid", c.UID, "user", c.Login, "route", rt.pattern)
		c.fail(err)
		return
	}
	if err := s.guard(rt, c); err != nil {
		c.fail(err)
	}
}

// guard turns a panic into an error and a line in the log; net/http would log it at debug level.
func (s *Server) guard(rt route, c *call) (err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			panic(p)
		default:
			s.Log.Error("request failed", "route", rt.pattern, "err", fmt.Errorf("panic: %v", p),
				"stack", string(debug.Stack()))
			err = &api.Error{Status: http.StatusInternalServerError,
				Message: "the agent failed to answer this: its log says why"}
		}
	}()
	return rt.handle(c)
}

// decode reads the request's body into v; a field that v does not have is refused.
func (c *call) decode(v any) error {
	d := json.NewDecoder(http.MaxBytesReader(c.w, c.r.Body, 4<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return &api.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf("read request: %v", err),
			Hint: "client and agent may be of different versions: compare agent version with agent status"}
	}
	return nil
}

func (c *call) reply(v any) error {
	c.w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(c.w).Encode(v)
}

func (c *call) done() error {
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// asError gives err the shape of the wire. A refusal of the supervisor is about the run in the request's path.
func (c *call) asError(err error) *api.Error {
	if e, ok := errors.AsType[*api.Error](err); ok {
		return e
	}
	if errors.Is(err, runs.ErrUnknown) {
		return &api.Error{Status: http.StatusNotFound, Message: fmt.Sprintf("there is no run %q", c.id()),
			Hint: "agent ps --all lists them"}
	}
	if r, ok := errors.AsType[*runs.Refused](err); ok {
		return &api.Error{Status: http.StatusConflict, Message: r.Message, Hint: r.Hint, Exit: r.Code}
	}
	return &api.Error{Status: http.StatusInternalServerError, Message: err.Error()}
}

func (c *call) fail(err error) {
	e := c.asError(err)
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(e.Status)
	json.NewEncoder(c.w).Encode(e)
}
