package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"syscall"

	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/runs"
)

// maxBody bounds a request: an environment and an argv together stay below 2 MiB in the kernel.
const maxBody = 8 << 20

// routes is the whole API. Who may call is one rule for all: root, or the user this process is.
func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]func(http.ResponseWriter, *http.Request) *runs.Refused{
		"GET /info":              s.getInfo,
		"POST /runs":             s.postRun,
		"GET /runs":              s.getRuns,
		"GET /runs/{id}":         s.getRun,
		"GET /runs/{id}/wait":    s.waitRun,
		"POST /runs/{id}/stop":   s.stopRun,
		"POST /runs/{id}/signal": s.signalRun,
		"POST /runs/{id}/attach": s.attachRun,
		"GET /events":            s.getEvents,
		"POST /retire":           s.postRetire,
		"POST /shutdown":         s.postShutdown,
	} {
		mux.Handle(versioned(pattern), guard(h))
	}
	return mux
}

func versioned(pattern string) string {
	for i := range pattern {
		if pattern[i] == ' ' {
			return fmt.Sprintf("%s /v%d%s", pattern[:i], runs.API, pattern[i+1:])
		}
	}
	return pattern
}

// guard lets in who may call, and closes descriptors that nobody took.
func guard(h func(http.ResponseWriter, *http.Request) *runs.Refused) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := fdconn.FromContext(r.Context())
		if !ok {
			http.Error(w, "not a connection of ours", http.StatusInternalServerError)
			return
		}
		defer func() { closeFiles(c.Take()) }()
		if uid := c.Peer().UID; uid != 0 && uid != uint32(os.Geteuid()) {
			fail(w, denied("user %d may not use the supervisor", uid))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if e := h(w, r); e != nil {
			fail(w, e)
		}
	})
}

func fail(w http.ResponseWriter, e *runs.Refused) {
	if e.Status == 0 {
		e.Status = http.StatusInternalServerError
	}
	if e.Code == 0 {
		e.Code = 125
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Status)
	json.NewEncoder(w).Encode(e)
}

func reply(w http.ResponseWriter, v any) *runs.Refused {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
	return nil
}

// decode reads a body that has no field unknown to us: one that is, may be a limit we would not keep.
func decode(r *http.Request, v any) *runs.Refused {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil && !errors.Is(err, io.EOF) {
		return &runs.Refused{Status: 400, Message: fmt.Sprintf("read request: %v", err), Hint: "the agent may be newer than the supervisor: systemctl status agent-runs"}
	}
	io.Copy(io.Discard, r.Body) // to the end, so that every descriptor has arrived
	return nil
}

func (s *server) getInfo(w http.ResponseWriter, r *http.Request) *runs.Refused {
	return reply(w, s.info())
}

func (s *server) info() runs.Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	return runs.Info{
		API: runs.API, Version: s.cfg.Version, PID: os.Getpid(), Started: s.started, Live: len(s.live),
		Place: s.place.String(), Retiring: s.retiring, LastSeq: s.store.lastSeq(),
	}
}

func (s *server) postRun(w http.ResponseWriter, r *http.Request) *runs.Refused {
	var body runs.StartBody
	if e := decode(r, &body); e != nil {
		return e
	}
	c, _ := fdconn.FromContext(r.Context())
	run, e := s.start(r.Context(), body, c.Take())
	if e != nil {
		return e
	}
	w.WriteHeader(http.StatusCreated)
	reply(w, run)
	if !r.URL.Query().Has("wait") {
		return nil
	}
	if http.NewResponseController(w).Flush() != nil {
		return nil
	}
	r.SetPathValue("id", run.ID)
	return s.waitRun(w, r)
}

func (s *server) getRuns(w http.ResponseWriter, r *http.Request) *runs.Refused {
	q := r.URL.Query()
	limit, _ := strconv.Atoi(q.Get("limit"))
	return reply(w, s.runs(runs.Filter{Live: q.Get("live") != "", Kind: q.Get("kind"), Name: q.Get("name"), Limit: limit}))
}

func (s *server) getRun(w http.ResponseWriter, r *http.Request) *runs.Refused {
	run, _, e := s.find(r.PathValue("id"))
	if e != nil {
		return e
	}
	return reply(w, run)
}

func (s *server) waitRun(w http.ResponseWriter, r *http.Request) *runs.Refused {
	run, l, e := s.find(r.PathValue("id"))
	if e != nil || l == nil {
		if e == nil {
			return reply(w, run)
		}
		return e
	}
	select {
	case <-l.ended:
		return reply(w, l.snapshot())
	case <-l.gone: // perhaps without having begun
		if run, _, e = s.find(l.id); e != nil {
			return e
		}
		return reply(w, run)
	case <-r.Context().Done():
		return nil
	}
}

func (s *server) stopRun(w http.ResponseWriter, r *http.Request) *runs.Refused {
	var body runs.StopBody
	if e := decode(r, &body); e != nil {
		return e
	}
	run, l, e := s.find(r.PathValue("id"))
	if e != nil {
		return e
	}
	if l == nil {
		return &runs.Refused{Status: 409, Kind: runs.KindEnded, Message: "run " + run.ID + " has ended", Run: &run}
	}
	by := body.By
	if by == "" {
		by = "stop"
	}
	l.stop(by, body.Grace)
	select {
	case <-l.gone:
		return reply(w, l.snapshot())
	case <-r.Context().Done():
		return nil
	}
}

func (s *server) signalRun(w http.ResponseWriter, r *http.Request) *runs.Refused {
	var body runs.SignalBody
	if e := decode(r, &body); e != nil {
		return e
	}
	run, l, e := s.find(r.PathValue("id"))
	if e != nil {
		return e
	}
	if body.Signal <= 0 || body.Signal > 64 {
		return misuse("signal %d: expected 1 to 64", body.Signal)
	}
	if l == nil || errors.Is(l.signal(syscall.Signal(body.Signal)), syscall.ESRCH) {
		return &runs.Refused{Status: 409, Kind: runs.KindEnded, Message: "run " + run.ID + " has ended", Run: &run}
	}
	return reply(w, l.snapshot())
}

func (s *server) postRetire(w http.ResponseWriter, r *http.Request) *runs.Refused {
	s.mu.Lock()
	s.retiring = true
	s.mu.Unlock()
	e := reply(w, s.info())
	s.announce()
	return e
}

func (s *server) postShutdown(w http.ResponseWriter, r *http.Request) *runs.Refused {
	var body runs.StopBody
	if e := decode(r, &body); e != nil {
		return e
	}
	s.endAll("shutdown", body.Grace)
	e := reply(w, s.info())
	s.quit(errShutdown)
	return e
}
