package health

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// Options says where to ask like a load balancer.
type Options struct {
	// Required.

	Checker   *Checker // which should answer
	PrivateIP string   // of the instance, as load balancers address it

	// Optional.

	Proxy  string        // nginx; default 127.0.0.1:80
	Path   string        // the health-check path to try; default the Checker's, or the earlier one that nginx sends on
	NodeIP string        // of a Network Load Balancer's node; default another address, which no application knows
	Limit  time.Duration // the load balancer's own time limit; default 5s

	// Deployed says what nginx does with a check of path.
	Deployed func(path string) Deployed
}

// Ask is one check of one kind of load balancer.
type Ask struct {
	As        string  `json:"as"`
	Host      string  `json:"host"`
	Status    int     `json:"status"` // 0: no answer
	ByAgent   bool    `json:"by_agent"`
	LatencyMS float64 `json:"latency_ms"`
	Fault     string  `json:"fault,omitempty"` // why a load balancer would not be satisfied

	network string // over which the agent was asked
}

// Report is the result for all load balancers.
type Report struct {
	Safe bool   `json:"safe"` // to point the environment's health check at Path now
	Path string `json:"path"`
	Asks []Ask  `json:"asks"`
	// Advice says what to do about a set-up that works and is not as it should be.
	Advice string `json:"advice,omitempty"`
	// Verdict shows whether the application is unhealthy or the set-up is wrong.
	Verdict Verdict `json:"verdict"`
}

// AsLoadBalancer asks through nginx exactly like an Application, Network and Classic Load Balancer,
// and reports whether the agent answers each as it needs.
//
// Hosts are those of the user guides and as observed: ALB the target's address, with the port where it
// is not the protocol's; NLB the node's address and the listener's port; CLB the instance's address.
func AsLoadBalancer(ctx context.Context, o Options) Report {
	o = o.withDefaults()
	withPort := net.JoinHostPort(o.PrivateIP, "80") // brackets an IPv6 address
	bare := strings.TrimSuffix(withPort, ":80")
	r := Report{Path: o.Path}
	r.Verdict = o.Checker.check(ctx, client{ownHost: true, host: bare})
	r.Safe = r.Verdict.State != Unknown // a 200 for an unknown state does not prove the set-up
	for _, lb := range []struct{ as, host, agent string }{
		{"ALB", bare, "ELB-HealthChecker/2.0"},
		{"ALB, with port", withPort, "ELB-HealthChecker/2.0"},
		{"NLB", net.JoinHostPort(o.NodeIP, "80"), "ELB-HealthChecker/2.0"},
		{"CLB", bare, "ELB-HealthChecker/1.0"},
	} {
		a := o.ask(ctx, lb.as, lb.host, lb.agent)
		r.Safe = r.Safe && a.Fault == ""
		if _, socket := o.Checker.listening(); a.network == "tcp" && socket.addr != "" {
			r.Advice = "nginx asks the agent at a port, which any local user can take while the agent restarts: " +
				askAt(socket.addr)
		}
		r.Asks = append(r.Asks, a)
	}
	return r
}

func (o Options) withDefaults() Options {
	if o.Proxy == "" {
		o.Proxy = "127.0.0.1:80"
	}
	if o.Path == "" {
		o.Path = o.Checker.cfg.Path
		if earlier := o.Checker.cfg.EarlierPath; o.deployed(o.Path).To == "" && earlier != "" &&
			strings.Contains(o.deployed(earlier).To, "health.sock") {
			o.Path = earlier
		}
	}
	if o.NodeIP == "" {
		o.NodeIP = "198.51.100.7" // of a network reserved for documentation
	}
	if o.Limit == 0 {
		o.Limit = 5 * time.Second
	}
	return o
}

func (o Options) ask(ctx context.Context, as, host, agent string) Ask {
	ctx, cancel := context.WithTimeout(ctx, o.Limit)
	defer cancel()
	a := Ask{As: as, Host: host}
	nonce := rand.Text()
	seen := o.Checker.expectNonce(nonce)
	transport := &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: maxHeader}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+o.Proxy+o.Path, nil)
	if err != nil {
		a.Fault = fmt.Sprintf("path %q cannot be asked for", o.Path)
		return a
	}
	req.Host = host
	req.Header.Set("User-Agent", agent)
	req.Header.Set(nonceHeader, nonce)
	req.Header.Set("Accept-Encoding", "gzip, compressed")
	start := time.Now()
	resp, err := transport.RoundTrip(req)
	a.LatencyMS = float64(time.Since(start).Microseconds()) / 1000
	a.network = seen()
	a.ByAgent = a.network != ""
	if err != nil {
		a.Fault = fmt.Sprintf("nginx at %s: %s", o.Proxy, o.explain(err))
		return a
	}
	io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody))
	resp.Body.Close()
	a.Status = resp.StatusCode
	a.Fault = o.fault(a)
	return a
}

func (o Options) explain(err error) string {
	switch {
	case isTimeout(err):
		return fmt.Sprintf("no answer within the load balancer's %s", o.Limit)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused: it does not run"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "it closed the connection without an answer (return 444?): " + o.cause(0)
	}
	return "no usable answer"
}

// askAt is how nginx comes to ask at the socket.
func askAt(socket string) string {
	return fmt.Sprintf("in agent-health.conf write proxy_pass http://unix:%s; and deploy", socket)
}

// fault applies the default matcher of load balancers: 200.
func (o Options) fault(a Ask) string {
	switch {
	case a.ByAgent && a.Status == http.StatusOK:
		return ""
	case a.ByAgent && o.Checker.cfg.Draining(false):
		return fmt.Sprintf("answered %s by the agent: it is draining", statusLine(a.Status))
	case a.ByAgent:
		return fmt.Sprintf("answered %s by the agent: see the verdict", statusLine(a.Status))
	}
	return fmt.Sprintf("answered %s, not by the agent: %s", statusLine(a.Status), o.cause(a.Status))
}

// Deployed is what nginx does with a check of one path, by its configuration.
type Deployed struct {
	Known  bool
	To     string // where a location of this path sends it; "" without such a location
	Before string // what may answer before any location does, "" for nothing
}

func (o Options) deployed(path string) Deployed {
	if o.Deployed == nil {
		return Deployed{}
	}
	return o.Deployed(path)
}

// cause is why the agent has not answered, by what nginx's configuration and the answer's status say.
func (o Options) cause(status int) string {
	d := o.deployed(o.Path)
	port, socket := o.Checker.listening()
	ours := d.To == "http://unix:"+socket.addr || d.To == "http://"+port.addr
	switch {
	case d.Known && d.To == "":
		return fmt.Sprintf("no location of nginx sends %s to the agent: run agent install --into in the "+
			"application's repository, which names what is in the way, and deploy", o.Path)
	case d.Known && !ours && socket.err == nil && port.err == nil:
		return fmt.Sprintf("nginx sends %s to %s, where this agent does not listen", o.Path, d.To)
	case 300 <= status && status < 400 || status == 0 || d.Before != "":
		return o.beforeTheAgent(d)
	case socket.err != nil:
		return "it does not listen: " + socket.err.Error()
	case port.err != nil && socket.addr != "":
		return fmt.Sprintf("an nginx snippet from before asks at a port (%v): %s", port.err, askAt(socket.addr))
	case port.err != nil:
		return "it does not listen: " + port.err.Error()
	case status == 401 || status == 403 || status == 429 || status == 503:
		return fmt.Sprintf("a password, a list of addresses or a limit of nginx's own answers (%d): the agent's "+
			"present location has none; delete agent-health.conf, run agent install --into again, and deploy", status)
	case socket.addr != "":
		return "nginx could not ask it: its workers have to be the user nginx or www-data, and it is to be " +
			"reloaded after a change; else run agent install --into in the application's repository, and deploy"
	}
	return "run agent install --into in the application's repository, and deploy"
}

// beforeTheAgent names what answers in nginx before any location is looked for.
func (o Options) beforeTheAgent(d Deployed) string {
	if d.Before == "" {
		return "nginx's own configuration redirects or refuses it first: exempt " + o.Path
	}
	return fmt.Sprintf("nginx's configuration redirects or answers it first, at %s: exempt %s, or move that into "+
		"location /", d.Before, o.Path)
}
