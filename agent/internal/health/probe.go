package health

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"

	"beanstalk-agent/agent/internal/endpoint"
	"beanstalk-agent/agent/internal/fdconn"
)

const (
	agentName = "beanstalk-agent-health" // the probe's User-Agent, for the application's log

	maxHeader = 16 << 10 // of an answer; more than any framework sends
	maxBody   = 512      // of an answer; only read for hints, never shown or kept
)

// prober sends requests over new connections: a kept-alive one would hide an application that no longer accepts any.
type prober struct {
	target    endpoint.Endpoint
	method    string
	headers   http.Header
	expect    []StatusRange
	timeout   time.Duration
	transport *http.Transport
}

func newProber(t endpoint.Endpoint, c Config) *prober {
	expect, _ := ParseExpect(c.Expect) // checked by New
	p := &prober{target: t, method: c.Method, headers: http.Header{}, expect: expect, timeout: c.Timeout}
	p.headers.Set("User-Agent", agentName)
	for name, value := range c.Headers {
		p.headers.Set(name, value)
	}
	dialer := &net.Dialer{}
	p.transport = &http.Transport{
		// No Proxy: the agent's own environment must not send a loopback probe elsewhere.
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, t.Network, t.Address)
			if u, ok := conn.(*net.UnixConn); ok && err == nil {
				return withoutDescriptors(u)
			}
			return conn, err
		},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		ReadBufferSize:         2 << 10,
		WriteBufferSize:        1 << 10,
	}
	return p
}

// withoutDescriptors has an answer that brings file descriptors fail: a plain read would close them on this thread, for
// as long as whoever sent them likes.
func withoutDescriptors(u *net.UnixConn) (net.Conn, error) {
	c, err := fdconn.NewConn(u)
	if err != nil {
		return nil, err
	}
	c.BytesOnly()
	return c, nil
}

// ask sends one probe with the Host of to, and its name as User-Agent unless empty, and waits for the answer
// until the time limit or ctx ends.
func (p *prober) ask(ctx context.Context, to client) Result {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	start := time.Now()
	r := p.roundTrip(ctx, to)
	r.At = time.Now()
	r.LatencyMS = float64(r.At.Sub(start).Microseconds()) / 1000
	r.Host, r.Target = to.host, p.target.Shown()
	return r
}

func (p *prober) roundTrip(ctx context.Context, to client) Result {
	req, err := http.NewRequestWithContext(ctx, p.method, "http://application"+p.target.Path, nil)
	if err != nil {
		return Result{Reason: "the health target's path cannot be sent"}
	}
	req.Host = to.host
	req.Header = p.headers.Clone()
	if to.agent != "" {
		req.Header.Set("User-Agent", to.agent)
	}
	resp, err := p.transport.RoundTrip(req) // RoundTrip: no redirect is followed
	if err != nil {
		return Result{Reason: p.explainError(err)}
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 { // 101: the body is the connection itself, which ctx does not end any more
		return Result{Status: resp.StatusCode, Reason: p.explainAnswer(resp, to, nil)}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	r := Result{Status: resp.StatusCode, Healthy: expected(p.expect, resp.StatusCode)}
	switch {
	case r.Healthy && err != nil:
		r.Healthy = false
		r.Reason = http.StatusText(resp.StatusCode) + ", but " + p.explainError(err)
	case r.Healthy:
		r.Reason = statusLine(resp.StatusCode)
	default:
		r.Reason = p.explainAnswer(resp, to, body)
	}
	return r
}
