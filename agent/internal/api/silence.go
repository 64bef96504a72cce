package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/fdconn"
)

// Lasting are the routes that answer when a run starts, ends or goes on, however long that takes.
var Lasting = map[string]bool{
	"GET /v1/runs/{id}/wait":   true,
	"GET /v1/runs/{id}/output": true,
	"POST /v1/runs/{id}/stop":  true,
	"POST /v1/cron/{id}/run":   true,
	"POST /v1/drain/jobs":      true,
}

// Ping is the route that answers at once, with nothing, to whoever may connect.
const Ping = "GET /v1/ping"

// limits are how long a client waits for the first byte of an answer: it pings after quiet, and gives up when the ping
// is not answered within its limit. An agent that answers has until busy, since a status waits for the application.
type limits struct{ quiet, ping, busy time.Duration }

var usual = limits{quiet: 2 * time.Second, ping: time.Second, busy: 30 * time.Second}

// Silent is returned when an agent is there and does not answer.
type Silent struct {
	Socket string
	PID    int  // of the agent; 0: not known
	Busy   bool // it answers, but not what was asked
	After  time.Duration
}

func (e *Silent) Error() string {
	who := "the agent"
	if e.PID != 0 {
		who += fmt.Sprintf(" (process %d)", e.PID)
	}
	switch {
	case e.Busy:
		return fmt.Sprintf("%s is busy: it is up, but did not answer this within %s", who, e.After)
	case fdconn.Stopped(e.PID):
		return fmt.Sprintf("%s is hung: it was stopped by a signal, and has not answered at %s within %s",
			who, e.Socket, e.After)
	}
	return fmt.Sprintf("%s is hung: it is there, but has not answered at %s within %s", who, e.Socket, e.After)
}

// Hints says how to look at the agent and how to do without it.
func (e *Silent) Hints() []string {
	switch {
	case e.Busy:
		return []string{"try again; agent status names what it waits for, else: sudo journalctl -u agent"}
	case fdconn.Stopped(e.PID):
		return []string{fmt.Sprintf("sudo kill -CONT %d lets it go on; runs and terminals are not touched", e.PID),
			"to run anyway: sudo agent exec --direct -- …"}
	}
	return []string{"sudo systemctl restart agent; runs and terminals go on meanwhile",
		"to run anyway: sudo agent exec --direct -- …"}
}

// listen makes a request, and gives it up when the agent is silent. A lasting request goes on for as long as it takes
// once the agent has answered the ping. The returned function ends the request's context.
func listen[T any](ctx context.Context, c *Client, lasting bool, request func(context.Context) (T, error),
	abandon func(T)) (T, context.CancelFunc, error) {
	type result struct {
		answer T
		err    error
	}
	asking, cancel := context.WithCancel(ctx)
	results := make(chan result, 1)
	go func() {
		answer, err := request(asking)
		results <- result{answer, err}
	}()
	began := time.Now()
	tick := time.NewTicker(c.limits.quiet)
	defer tick.Stop()
	var silent error
	noted := false
	for silent == nil {
		select {
		case r := <-results:
			return r.answer, cancel, r.err
		case <-tick.C:
		}
		silent = c.ping(ctx, c.limits.ping)
		switch {
		case silent != nil || ctx.Err() != nil:
		case lasting:
			tick.Stop()
		case time.Since(began) >= c.limits.busy:
			silent = &Silent{Socket: c.socket, Busy: true, After: c.limits.busy}
		case c.Busy != nil && !noted:
			noted = true
			c.Busy(c.limits.quiet)
		}
	}
	select {
	case r := <-results: // it came meanwhile
		return r.answer, cancel, r.err
	default:
	}
	cancel()
	go func() { // the request ends by its context
		if r := <-results; r.err == nil {
			abandon(r.answer)
		}
	}()
	var none T
	return none, cancel, silent
}

// ping returns why the agent does not answer, on a connection of its own. An answer of any kind is one.
//
// What changes something is asked after a ping: in the queue of a hung agent it would be done long after its client has
// given up, and an exec's descriptors would keep the reader of its output waiting for as long.
func (c *Client) ping(ctx context.Context, within time.Duration) error {
	limit, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	silent := &Silent{Socket: c.socket, After: c.limits.quiet + c.limits.ping}
	conn, err := c.dial(limit)
	if err != nil && limit.Err() != nil && ctx.Err() == nil {
		return silent
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	silent.PID = conn.Peer().PID
	method, path, _ := strings.Cut(Ping, " ")
	req, err := http.NewRequestWithContext(limit, method, "http://agent"+path, nil)
	if err != nil {
		return err
	}
	defer context.AfterFunc(limit, func() { conn.Close() })()
	if req.Write(conn) != nil || conn.AwaitBytes(within) != nil {
		return silent
	}
	return nil
}

// lasting reports whether a request is one of a Lasting route.
func lasting(req *http.Request) bool {
	_, pattern := lastingRoutes.Handler(req)
	return pattern != ""
}

var lastingRoutes = func() *http.ServeMux {
	mux := http.NewServeMux()
	for pattern := range Lasting {
		mux.Handle(pattern, http.NotFoundHandler())
	}
	return mux
}()
