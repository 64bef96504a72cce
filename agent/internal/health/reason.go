package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"

	"beanstalk-agent/agent/internal/endpoint"
	"beanstalk-agent/agent/internal/fdconn"
)

// statusLine is "404 Not Found", or the bare number for a status without a name.
func statusLine(status int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status)))
}

// oneLine joins what several faults of an environment say, which is a line each.
func oneLine(reason string) string { return strings.ReplaceAll(reason, "\n", "; ") }

// explainError says why there was no answer. Unlike net/http's errors it never quotes the application's bytes.
func (p *prober) explainError(err error) string {
	place := p.target.Address
	op, _ := errors.AsType[*net.OpError](err)
	dialing := op != nil && op.Op == "dial"
	switch {
	case isTimeout(err) && dialing:
		return fmt.Sprintf("no connection to %s within %s: the application accepts none (is its backlog full?)",
			place, p.timeout)
	case isTimeout(err):
		return fmt.Sprintf("no answer within %s: %s accepts connections but does not answer", p.timeout, place)
	case errors.Is(err, context.Canceled):
		return "the probe was interrupted"
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("connection refused on %s: the application does not listen there", place)
	case dialing && errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("no socket at %s: the application does not listen there", place)
	case dialing && errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("permission denied on %s: the agent may not connect to it", place)
	case dialing:
		return fmt.Sprintf("no connection to %s: %v", place, op.Err)
	case errors.Is(err, fdconn.ErrFiles):
		return fmt.Sprintf("%s sends file descriptors with its answer: that is refused", place)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Sprintf("%s closed the connection before its answer was whole", place)
	}
	return fmt.Sprintf("the answer of %s is not HTTP/1.1 as expected (does the port speak something else?)", place)
}

func isTimeout(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

// explainAnswer says what an unexpected answer means. It uses the body to recognise a framework's
// refusal of the Host, and never quotes it.
func (p *prober) explainAnswer(resp *http.Response, to client, body []byte) string {
	status, host := resp.StatusCode, to.host
	blocked := bytes.Contains(body, []byte("Blocked host")) // Rails: 403 with this text
	switch {
	case status < 200 || status > 599:
		return fmt.Sprintf("%d is not a final HTTP status", status)
	case 300 <= status && status < 400 && resp.Header.Get("Location") != "":
		return p.explainRedirect(status, host, resp.Header.Get("Location"))
	case status == 508:
		return "508: the agent asked itself: health.target leads through nginx to the agent's own path"
	case to.ownHost && maybeHost(status) && !blocked:
		return fmt.Sprintf("%s: perhaps because of Host %q, which nobody has set (set health.host or HEALTH_HOST to a "+
			"name that it accepts); else %s", statusLine(status), host, p.explainPage(status))
	case status == 400 || blocked:
		return fmt.Sprintf("%d: the application refuses Host %q (ALLOWED_HOSTS?): set health.host to a name it accepts",
			status, host)
	case status == 401, status == 403, status == 404, status == 405:
		return statusLine(status) + ": " + p.explainPage(status)
	case status == 421:
		return fmt.Sprintf("421: the application does not answer for Host %q: set health.host", host)
	case status == 429:
		return "429: the application limits the rate of requests: exempt the health path"
	case status >= 500:
		return statusLine(status) + ": the application failed"
	}
	return statusLine(status) + " is not an expected status"
}

// maybeHost reports whether a framework refuses a Host so: Django, Symfony and ASP.NET with 400, Rails with 403,
// applications with a site for each name with 404, HTTP itself with 421.
func maybeHost(status int) bool {
	return status == 400 || status == 403 || status == 404 || status == 421
}

// explainPage says what an answer means if it is about the page.
func (p *prober) explainPage(status int) string {
	switch status {
	case 401, 403:
		return p.target.Page() + " wants a login: give the health check a page without one"
	case 404:
		return "the application has no page at " + p.target.Page() + ": set the path of health.target"
	case 405:
		return p.target.Page() + " does not allow " + p.method
	}
	return "the application refuses the request"
}

// explainRedirect explains the common redirects of a health check.
func (p *prober) explainRedirect(status int, host, location string) string {
	u, err := url.Parse(location)
	if err != nil {
		return fmt.Sprintf("%d to an address that cannot be read", status)
	}
	to := shown(u)
	sentHTTPS := strings.EqualFold(p.headers.Get("X-Forwarded-Proto"), "https")
	sameHost := u.Host == "" || sameHostname(u.Host, host)
	asked := p.target.Page()
	switch {
	case u.Scheme == "https" && sameHost && u.Path == asked && !sentHTTPS:
		return fmt.Sprintf("%d to %s: the application wants X-Forwarded-Proto: https: set it in health.headers",
			status, to)
	case u.Scheme == "https" && sameHost && u.Path == asked:
		return fmt.Sprintf("%d to %s although X-Forwarded-Proto: https was sent: the application does not trust it "+
			"(Django: SECURE_PROXY_SSL_HEADER; or exempt the path from the redirect)", status, to)
	case sameHost && u.Path == asked+"/":
		return fmt.Sprintf("%d to %s: the path needs its final slash: set health.target to %s/",
			status, to, p.target.Shown())
	// CheckHost: %C2%9B, for one, is a control character of terminals
	case !sameHost && u.Path == asked && endpoint.CheckHost(u.Hostname()) == nil:
		return fmt.Sprintf("%d to %s: the application wants another Host: set health.host to %s",
			status, to, u.Hostname())
	case strings.Contains(strings.ToLower(u.Path), "login") || strings.Contains(strings.ToLower(u.Path), "sign"):
		return fmt.Sprintf("%d to %s: %s wants a login: give the health check a page without one", status, to, asked)
	}
	return fmt.Sprintf("%d to %s: redirects are not followed: set health.target to a page that answers itself",
		status, to)
}

// shown is a redirect's address without user, query and fragment, which may be secret, and of limited length.
func shown(u *url.URL) string {
	s := (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
	if len(s) > 120 {
		s = s[:120] + "…"
	}
	return s
}

func sameHostname(a, b string) bool {
	bare := func(h string) string {
		if host, _, err := net.SplitHostPort(h); err == nil {
			h = host
		}
		return strings.Trim(h, "[]")
	}
	return strings.EqualFold(bare(a), bare(b))
}
