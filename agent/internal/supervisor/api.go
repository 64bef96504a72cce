package supervisor

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"

	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/runs"
)

// routes is the whole API. One rule holds for all, at accept: the caller is root, or the user of this process.
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
		"POST /runs/{id}/lease":  s.renewLease,
		"POST /runs/{id}/attach": s.attachRun,
		"GET /events":            s.getEvents,
		"POST /retire":           s.postRetire,
		"POST /shutdown":         s.postShutdown,
	} {
		method, path, _ := strings.Cut(pattern, " ")
		mux.Handle(fmt.Sprintf("%s /v%d%s", method, runs.API, path), guard(h))
	}
	return mux
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
		HeldUp: held(),
	}
}

// held is what hangs, by the user whose process it is.
func held() map[uint32]int {
	all := heldUp.All()
	for uid, n := range fdconn.Closing.All() {
		if all == nil {
			all = map[uint32]int{}
		}
		all[uid] += n
	}
	return all
}

func (s *server) postRun(w http.ResponseWriter, r *http.Request) *runs.Refused {
	var body runs.StartBody
	if e := decode(r, &body); e != nil {
		return e
	}
	c, _ := fdconn.FromContext(r.Context())
	run, e := s.start(r.Context(), body, c.Take)
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
	f := runs.Filter{Live: q.Get("live") != "", Kind: q.Get("kind"), Name: q.Get("name"), Limit: limit}
	list, left := s.list(f)
	w.Header().Set(runs.LeftOut, strconv.Itoa(left))
	return reply(w, list)
}

func (s *server) getRun(w http.ResponseWriter, r *http.Request) *runs.Refused {
	run, _, e := s.find(r.PathValue("id"))
	if e != nil {
		return e
	}
	return reply(w, run)
}

// waitRun answers when the run's command has ended; a job's, when what that left behind has, too, as its lock has it:
// then its next run may start, on another host as well.
func (s *server) waitRun(w http.ResponseWriter, r *http.Request) *runs.Refused {
	run, l, e := s.find(r.PathValue("id"))
	if e != nil {
		return e
	}
	if l == nil {
		return reply(w, run)
	}
	ended := l.ended
	if l.member.cron {
		ended = l.gone
	}
	select {
	case <-ended:
	case <-l.gone: // perhaps without having begun
	case <-r.Context().Done():
		return nil
	}
	select {
	case <-l.ended:
		return reply(w, l.snapshot())
	default:
	}
	if run, _, e = s.find(l.id); e != nil {
		return e
	}
	return reply(w, run)
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
		s.mu.Lock()
		l = s.live[run.ID] // what the command left behind still has its grace
		s.mu.Unlock()
	}
	if l == nil {
		return hasEnded(run)
	}
	select {
	case <-l.begun: // a start that has passed its last look at its caller cannot be stopped before
		l.stop(runs.Brief(cmp.Or(body.By, "stop"), 64), body.Grace)
	case <-l.gone:
	case <-r.Context().Done():
		return nil
	}
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
	if !run.Live() || errors.Is(l.signal(syscall.Signal(body.Signal)), syscall.ESRCH) {
		return hasEnded(run)
	}
	return reply(w, l.snapshot())
}

// renewLease extends a lease that has not ended.
func (s *server) renewLease(w http.ResponseWriter, r *http.Request) *runs.Refused {
	var body runs.LeaseBody
	if e := decode(r, &body); e != nil {
		return e
	}
	if body.Lease <= 0 || body.Lease > runs.MaxLease || body.From < 0 {
		return misuse("lease of %s: expected more than 0s and at most %s", body.Lease, runs.MaxLease)
	}
	id := r.PathValue("id")
	run, _, e := s.find(id)
	if e == nil && !run.Live() {
		return hasEnded(run)
	}
	left, known := s.leases.renew(id, body.Lease, body.From)
	switch {
	case known && left > 0:
		return reply(w, runs.LeaseBody{Lease: left})
	case known:
		return &runs.Refused{Status: 409, Kind: runs.KindLapsed, Message: "the lease of run " + id + " has ended"}
	case e != nil:
		return e
	}
	return &runs.Refused{Status: 409, Kind: runs.KindNoLease, Message: "run " + id + " has no lease"}
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
	s.endAll(runs.StoppedShutdown, body.Grace)
	e := reply(w, s.info())
	s.quit(errShutdown)
	return e
}

func hasEnded(run runs.Run) *runs.Refused {
	return &runs.Refused{Status: 409, Kind: runs.KindEnded, Message: "run " + run.ID + " has ended", Run: &run}
}
