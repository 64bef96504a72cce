package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/runs"
)

// Server answers the local API until its context is done.
type Server struct {
	Listener *fdconn.Listener      // Run closes it
	Allowed  func(uid uint32) bool // whether a user stands in exec.allow
	Backend  Backend
	Log      *slog.Logger

	door *door
}

// Run serves until ctx is done, then lets requests in flight end for two seconds.
func (s *Server) Run(ctx context.Context) error {
	s.door = newDoor(s)
	s.Listener.Check = checkForeign
	defer s.door.turned.Wait()
	srv := &http.Server{
		Handler:           s.handler(),
		ConnContext:       s.door.connContext,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       10 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(s.door) }()
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

// handler has all of a request here, within its limits, before a route looks at it.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	for _, rt := range s.routes() {
		mux.HandleFunc(rt.pattern, func(w http.ResponseWriter, r *http.Request) { s.serve(rt, w, r) })
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{w: w, r: r}
		v, ok := r.Context().Value(visitKey{}).(*visit)
		if !ok {
			c.fail(&api.Error{Status: http.StatusForbidden, Message: "the caller is not known"})
			return
		}
		limit := int64(maxBody)
		if v.Owner {
			limit = maxOwnerBody
		} else if refusal := s.door.crowded(v.UID); refusal != nil {
			c.fail(refusal)
			return
		}
		if _, pattern := mux.Handler(r); waiting[pattern] {
			limit = maxWaitBody
		} else if end, err := v.begin(r.Context()); err != nil {
			c.fail(err) // to nobody, if the client is gone
			return
		} else {
			defer end()
		}
		if err := c.readBody(limit); err != nil {
			c.fail(err)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// Limits of a request's body, so that those of a user's maxAtWork requests stay small beside the agent's memory. The
// largest is an exec's arguments and variables: 256 kB are 2,000 paths. The kernel takes 2 MB, and so does root's.
const (
	maxBody      = 256 << 10
	maxOwnerBody = 4 << 20
	maxWaitBody  = 4 << 10
	bodyTime     = 5 * time.Second // all of it, once its request is at work
	replyTime    = 30 * time.Second
)

// readBody has the body in memory, and with it every descriptor that came along.
func (c *call) readBody(limit int64) error {
	if c.r.Body == http.NoBody {
		return nil
	}
	rc := http.NewResponseController(c.w)
	_ = rc.SetReadDeadline(time.Now().Add(bodyTime)) // a test's recorder has none
	b, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, limit))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return &api.Error{Status: http.StatusRequestEntityTooLarge, Exit: 125,
			Message: fmt.Sprintf("the request has more than %d kB, which is all that this caller may send", limit>>10),
			Hint:    "give long lists on stdin (xargs), or as root: sudo agent …"}
	}
	if err != nil {
		return &api.Error{Status: http.StatusRequestTimeout, Message: fmt.Sprintf("read request: %v", err)}
	}
	_ = rc.SetReadDeadline(time.Time{}) // not after an error: the server would wait for what is left of the body
	c.r.Body = io.NopCloser(bytes.NewReader(b))
	return nil
}

func (s *Server) serve(rt route, w http.ResponseWriter, r *http.Request) {
	v, _ := r.Context().Value(visitKey{}).(*visit)
	c := &call{v.Caller, w, r}
	// again, at each request: a user may have been taken off the list since
	if err := admit(c.Caller, rt.access, c.Owner || s.Allowed(c.UID)); err != nil {
		s.door.refusals.add(c.UID, rt.pattern)
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
	d := json.NewDecoder(c.r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return &api.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf("read request: %v", err),
			Hint: "client and agent may be of different versions: compare agent version with agent status"}
	}
	return nil
}

func (c *call) reply(v any) error {
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(replyTime)) // a client that does not read
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
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(replyTime)) // as in reply
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Connection", "close")
	c.w.WriteHeader(e.Status)
	json.NewEncoder(c.w).Encode(e)
}
