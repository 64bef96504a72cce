package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"strconv"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

// Backend is who answers the routes: the daemon, by its features. Where a method returns any, its type is the feature's
// own, which a verb knows as well.
type Backend interface {
	Agent
	Environment
	Metrics
	Health
	Drain
	Runs() Runs
	Cron() Cron

	// Prepare checks an exec and gets all of it ready but the start. The returned function starts it; from then on the
	// supervisor answers on the client's connection, and the agent is out of the way.
	Prepare(context.Context, api.Caller, api.ExecRequest) (Prepared, error)
}

// Agent is the agent as a whole.
type Agent interface {
	Status(ctx context.Context, self bool) api.Status // self: the agent asks itself, and not the application
	Reload(context.Context) error
}

// Environment is the application's.
type Environment interface {
	Environment(ctx context.Context, names []string, values bool) (api.Environment, error)
	EnvironmentDiff(ctx context.Context, values bool) (api.EnvironmentDiff, error)
}

// Metrics is what is sent to CloudWatch and what it tells of capacity.
type Metrics interface {
	Metrics(context.Context) (any, error)
	MetricsCost(ctx context.Context, instances int) (any, error)
	Capacity(ctx context.Context, target float64) (any, error)
}

// Health is the application's.
type Health interface {
	Health(context.Context) (any, error)
	HealthHistory(context.Context) (any, error)
	HealthAsLoadBalancer(context.Context) (any, error)
}

// Drain takes the instance out of service, and holds its jobs.
type Drain interface {
	Drain(ctx context.Context, reason string, shutdown bool) error
	EndJobs(context.Context) error // when this machine shuts down
	Undrain(context.Context) error
	Departure(context.Context) (any, error) // how far a drain has come
	Hold(ctx context.Context, limit time.Duration) error
	Release(context.Context) error
}

// Prepared is an exec ready to start.
type Prepared = func(context.Context, runs.Handover) (runs.Run, error)

// Runs is the supervisor, as far as clients reach it through the agent.
type Runs interface {
	List(context.Context, runs.Filter) ([]runs.Run, error)
	Get(ctx context.Context, id string) (runs.Run, error)
	Wait(ctx context.Context, id string) (runs.Run, error)
	Stop(ctx context.Context, id string, grace time.Duration) (runs.Run, error)
	Attach(ctx context.Context, id string, size session.Size, h runs.Handover) (runs.Run, error)
	Logs(ctx context.Context, w io.Writer, id string, lines int, follow bool) error
	Follow(ctx context.Context, w io.Writer, id string, from runs.Position, begin func(at int64)) error
}

// Cron is the scheduler, as far as clients reach it.
type Cron interface {
	List(context.Context) (api.CronTable, error)
	Next(ctx context.Context, from time.Time, n int, job string) ([]api.Occurrence, error)
	Cost(ctx context.Context, instances int) (api.CronCost, error)
	History(ctx context.Context, job string) (api.CronHistory, error)
	Trigger(ctx context.Context, who api.Caller, job string, force bool) (runs.Run, error)
	Pause(ctx context.Context, who api.Caller, job string, p api.CronPause) (api.CronPaused, error)
}

type route struct {
	pattern string
	access  Access
	handle  func(*call) error
}

// waiting are the routes that are none of their caller's maxAtWork requests: those that wait for a run, and the one by
// which a client tells a busy agent from a hung one.
var waiting = func() map[string]bool {
	m := maps.Clone(api.Lasting)
	m[api.Ping] = true
	return m
}()

// routes is the whole API: what may be asked, by whom, and who answers.
func (s *Server) routes() []route {
	b := s.Backend
	return []route{
		{api.Ping, Callers, func(c *call) error { return c.done() }},
		{"GET /v1/status", Callers, func(c *call) error {
			return c.reply(b.Status(c.ctx(), c.r.URL.Query().Has("self")))
		}},

		{"POST /v1/runs", Callers, s.exec}, // another user than the application's: Owner, see Prepare
		{"GET /v1/runs", Callers, s.runs},
		{"GET /v1/runs/{id}", Callers, func(c *call) error { return c.one(b.Runs().Get(c.ctx(), c.id())) }},
		{"GET /v1/runs/{id}/wait", Callers, func(c *call) error { return c.one(b.Runs().Wait(c.ctx(), c.id())) }},
		{"POST /v1/runs/{id}/stop", Callers, s.stop},    // of a run whose user root chose: Owner, see mayControl
		{"GET /v1/runs/{id}/output", Callers, s.output}, // so, and of another's terminal, see maySee
		{"POST /v1/runs/{id}/attach", Callers, s.attach},

		{"GET /v1/cron", Callers, func(c *call) error { return answer(c)(b.Cron().List(c.ctx())) }},
		{"GET /v1/cron/next", Callers, s.next},
		{"GET /v1/cron/cost", Callers, func(c *call) error {
			return answer(c)(b.Cron().Cost(c.ctx(), c.instances()))
		}},
		{"GET /v1/cron/history", Callers, func(c *call) error {
			return answer(c)(b.Cron().History(c.ctx(), c.r.URL.Query().Get("job")))
		}},
		{"POST /v1/cron/{id}/run", Callers, func(c *call) error {
			return c.one(b.Cron().Trigger(c.ctx(), c.Caller, c.id(), c.r.URL.Query().Has("force")))
		}},
		{"POST /v1/cron/{id}/pause", Callers, func(c *call) error { return s.pause(c, true) }},
		{"POST /v1/cron/{id}/resume", Callers, func(c *call) error { return s.pause(c, false) }},

		{"GET /v1/env", Callers, func(c *call) error {
			q := c.r.URL.Query()
			return answer(c)(b.Environment(c.ctx(), q["name"], q.Has("values")))
		}},
		{"GET /v1/env/diff", Callers, func(c *call) error {
			return answer(c)(b.EnvironmentDiff(c.ctx(), c.r.URL.Query().Has("values")))
		}},

		{"GET /v1/metrics", Callers, func(c *call) error { return answer(c)(b.Metrics(c.ctx())) }},
		{"GET /v1/metrics/cost", Callers, func(c *call) error {
			return answer(c)(b.MetricsCost(c.ctx(), c.instances()))
		}},
		{"GET /v1/capacity", Callers, func(c *call) error {
			target, _ := strconv.ParseFloat(c.r.URL.Query().Get("target"), 64)
			return answer(c)(b.Capacity(c.ctx(), target))
		}},
		{"GET /v1/health/as-load-balancer", Callers, func(c *call) error {
			return answer(c)(b.HealthAsLoadBalancer(c.ctx()))
		}},
		{"GET /v1/health", Callers, func(c *call) error { return answer(c)(b.Health(c.ctx())) }},
		{"GET /v1/drain", Callers, func(c *call) error { return answer(c)(b.Departure(c.ctx())) }},
		{"GET /v1/health/history", Callers, func(c *call) error { return answer(c)(b.HealthHistory(c.ctx())) }},

		// What changes the instance for everybody is root's.
		{"POST /v1/drain", Owner, func(c *call) error {
			q := c.r.URL.Query()
			return c.did(b.Drain(c.ctx(), q.Get("reason"), q.Has("shutdown")))
		}},
		{"POST /v1/drain/jobs", Owner, func(c *call) error { return c.did(b.EndJobs(c.ctx())) }},
		{"POST /v1/undrain", Owner, func(c *call) error { return c.did(b.Undrain(c.ctx())) }},
		{"POST /v1/reload", Owner, func(c *call) error { return c.did(b.Reload(c.ctx())) }},
		{"POST /v1/hold", Owner, s.hold},
		{"POST /v1/release", Owner, func(c *call) error { return c.did(b.Release(c.ctx())) }},
	}
}

func badRequest(format string, a ...any) *api.Error {
	return &api.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf(format, a...)}
}

func (c *call) ctx() context.Context { return c.r.Context() }
func (c *call) id() string           { return c.r.PathValue("id") }

// instances is how many an environment is thought to have; with more than a million the sums would overflow.
func (c *call) instances() int {
	n, _ := strconv.Atoi(c.r.URL.Query().Get("instances"))
	return min(max(n, 1), 1e6)
}

func (c *call) filter() runs.Filter {
	q := c.r.URL.Query()
	n, _ := strconv.Atoi(q.Get("n"))
	if n <= 0 || n > api.MaxRuns {
		n = api.MaxRuns
	}
	return runs.Filter{Kind: q.Get("kind"), Name: q.Get("name"), Live: !q.Has("all"), Limit: n}
}

// answer replies with what a function returned, or with its error.
func answer(c *call) func(v any, err error) error {
	return func(v any, err error) error {
		if err != nil {
			return err
		}
		return c.reply(v)
	}
}

func (c *call) did(err error) error {
	if err != nil {
		return err
	}
	return c.done()
}

func (s *Server) runs(c *call) error {
	left, f := 0, c.filter()
	f.LeftOut = &left
	list, err := s.Backend.Runs().List(c.ctx(), f)
	if err != nil {
		return err
	}
	c.w.Header().Set(runs.LeftOut, strconv.Itoa(left))
	return c.reply(redact(c.Caller, list...))
}

// one replies with a run.
func (c *call) one(run runs.Run, err error) error {
	if err != nil {
		return err
	}
	return c.reply(redact(c.Caller, run)[0])
}

// runFor returns the run of the request's path, if the caller may do this with it.
func (s *Server) runFor(c *call, may func(api.Caller, runs.Run) error) (runs.Run, error) {
	run, err := s.Backend.Runs().Get(c.ctx(), c.id())
	if err != nil {
		return run, err
	}
	return run, may(c.Caller, run)
}

func (s *Server) stop(c *call) error {
	var req api.StopRequest
	if err := c.decode(&req); err != nil {
		return err
	}
	if err := runs.CheckGrace(c.Caller.UID, req.Grace); err != nil {
		return badRequest("%v", err)
	}
	run, err := s.runFor(c, mayControl)
	if err != nil {
		return err
	}
	return c.one(s.Backend.Runs().Stop(c.ctx(), run.ID, req.Grace))
}

func (s *Server) pause(c *call, paused bool) error {
	p := api.CronPause{Paused: paused, Here: c.r.URL.Query().Has("here")}
	return answer(c)(s.Backend.Cron().Pause(c.ctx(), c.Caller, c.id(), p))
}

// maxHold is how long all jobs may be held: a hold that was forgotten ends by itself.
const maxHold = 7 * 24 * time.Hour

func (s *Server) hold(c *call) error {
	limit, err := time.ParseDuration(c.r.URL.Query().Get("limit"))
	if err != nil {
		return badRequest("limit: %v", err)
	}
	if limit <= 0 || limit > maxHold {
		e := badRequest("limit: expected more than 0 and at most %s, have %s", maxHold, limit)
		e.Hint = "agent cron pause NAME keeps one job from starting for as long as you like"
		return e
	}
	return c.did(s.Backend.Hold(c.ctx(), limit))
}

func (s *Server) next(c *call) error {
	q := c.r.URL.Query()
	from := time.Now()
	if t := q.Get("from"); t != "" {
		var err error
		if from, err = time.Parse(time.RFC3339, t); err != nil {
			return badRequest("from: %v", err)
		}
	}
	n, err := strconv.Atoi(q.Get("n"))
	if err != nil || n < 1 || n > api.MaxNext { // without a number they would never end
		return badRequest("n: expected 1 to %d, have %q", api.MaxNext, q.Get("n"))
	}
	return answer(c)(s.Backend.Cron().Next(c.ctx(), from, n, q.Get("job")))
}

// output streams a run's output; with ?follow until the run ends. An error before the first byte is answered as one;
// after it the connection is broken off, so that the client does not take a part for the whole.
func (s *Server) output(c *call) error {
	q := c.r.URL.Query()
	lines, _ := strconv.Atoi(q.Get("lines"))
	run, err := s.runFor(c, maySee)
	if err != nil {
		return err
	}
	w := &flusher{w: c.w, rc: http.NewResponseController(c.w)}
	if q.Has("at") { // a client that goes on where it stopped reading
		at, _ := strconv.ParseInt(q.Get("at"), 10, 64)
		err = s.Backend.Runs().Follow(c.ctx(), w, run.ID, runs.Position{At: at, Lines: lines}, func(at int64) {
			c.w.Header().Set(api.OutputAt, strconv.FormatInt(at, 10))
		})
	} else {
		err = s.Backend.Runs().Logs(c.ctx(), w, run.ID, lines, q.Has("follow"))
	}
	switch {
	case err != nil && w.begun:
		panic(http.ErrAbortHandler)
	case errors.Is(err, fs.ErrNotExist):
		return &api.Error{Status: http.StatusNotFound, Message: fmt.Sprintf("run %q has no output here", run.ID),
			Hint: "an exec's output went to its own stdout; a job's is kept until the disk is full"}
	}
	return err
}

type flusher struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	begun bool
}

func (f *flusher) Write(b []byte) (int, error) {
	if !f.begun {
		f.begun = true
		f.w.Header().Set("Content-Type", "application/octet-stream")
	}
	n, err := f.w.Write(b)
	if err == nil {
		err = f.rc.Flush()
	}
	return n, err
}
