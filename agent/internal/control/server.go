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
	"strings"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/fdconn"
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
	conn, ok := fdconn.FromContext(r.Context())
	if !ok { // a listener of another kind does not say who calls
		writeError(w, &api.Error{Status: http.StatusForbidden, Message: "the caller is not known"})
		return
	}
	c := &call{callerOf(conn.Peer(), uint32(os.Geteuid())), w, r}
	if err := admit(c.Caller, rt.access, s.Allow); err != nil {
		s.Log.Warn("refused", "uid", c.UID, "user", c.Login, "route", rt.pattern)
		writeError(w, err)
		return
	}
	if err := s.guard(rt, c); err != nil {
		writeError(w, err)
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

// asError gives err the shape of the wire.
func asError(err error) *api.Error {
	if e, ok := errors.AsType[*api.Error](err); ok {
		return e
	}
	e := &api.Error{Status: http.StatusInternalServerError, Message: err.Error()}
	if h, ok := errors.AsType[interface {
		error
		Hints() []string
	}](err); ok {
		e.Hint = strings.Join(h.Hints(), "\n")
	}
	return e
}

func writeError(w http.ResponseWriter, err error) {
	e := asError(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Status)
	json.NewEncoder(w).Encode(e)
}
