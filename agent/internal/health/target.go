package health

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// Target is where the application answers: its own port or unix socket, and a path there.
type Target struct {
	Network string // "tcp" or "unix"
	Address string // host:port, or the socket's path
	Path    string // path and query as sent, beginning with "/"
}

// ParseTarget reads "http://HOST:PORT/PATH" or "unix:/SOCKET:/PATH".
//
// https is refused: the application's own port on the instance speaks http, and a certificate
// check against a loopback address would fail for a reason that is not the application's.
func ParseTarget(s string) (Target, error) {
	if rest, ok := strings.CutPrefix(s, "unix:"); ok {
		return parseUnixTarget(s, rest)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return Target{}, fmt.Errorf("health target %q: not an address: want http://127.0.0.1:8000/health or unix:/path.sock:/health", s)
	case u.Scheme != "http":
		return Target{}, fmt.Errorf("health target %q: want http://… or unix:/path.sock:/…, for the application's own port", s)
	case u.User != nil:
		return Target{}, errors.New("health target: a user and password do not belong in the address; set health.headers")
	case u.Hostname() == "":
		return Target{}, fmt.Errorf("health target %q: has no host: want http://127.0.0.1:8000/health", s)
	case u.Fragment != "" || strings.Contains(s, "#"):
		return Target{}, fmt.Errorf("health target %q: a fragment (#…) is never sent", s)
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return Target{}, fmt.Errorf("health target %q: port %q is not between 1 and 65535", s, port)
	}
	t := Target{Network: "tcp", Address: net.JoinHostPort(u.Hostname(), port), Path: u.RequestURI()}
	return t, checkPath(s, t.Path)
}

func parseUnixTarget(s, rest string) (Target, error) {
	socket, p, ok := strings.Cut(rest, ":")
	if !ok {
		p = "/"
	}
	t := Target{Network: "unix", Address: socket, Path: p}
	switch {
	case !path.IsAbs(socket) || path.Clean(socket) == "/":
		return Target{}, fmt.Errorf("health target %q: the socket needs an absolute path: want unix:/path.sock:/health", s)
	case len(socket) > 107: // sockaddr_un holds 108 bytes, the last one zero
		return Target{}, fmt.Errorf("health target %q: the socket's path is longer than 107 bytes", s)
	case strings.ContainsRune(socket, 0):
		return Target{}, fmt.Errorf("health target %q: the socket's path holds a zero byte", s)
	}
	return t, checkPath(s, t.Path)
}

// checkPath reports why p cannot be sent on a request line as it is.
func checkPath(target, p string) error {
	if !strings.HasPrefix(p, "/") {
		return fmt.Errorf("health target %q: path %q does not begin with /", target, p)
	}
	for _, r := range p {
		if r <= ' ' || r >= 0x7f || r == '#' {
			return fmt.Errorf("health target %q: %q in the path has to be percent-encoded", target, r)
		}
	}
	if _, err := url.ParseRequestURI(p); err != nil {
		return fmt.Errorf("health target %q: path %q is not valid", target, p)
	}
	return nil
}

// String gives the form ParseTarget reads.
func (t Target) String() string { return t.Origin() + t.Path }

// page is the path without its query, which may be secret; withoutQuery is String likewise.
func (t Target) page() string {
	p, _, _ := strings.Cut(t.Path, "?")
	return p
}

func (t Target) withoutQuery() string { return t.Origin() + t.page() }

// Origin is the target without its path: what a path is to be put behind.
func (t Target) Origin() string {
	if t.Network == "unix" {
		return "unix:" + t.Address + ":"
	}
	return "http://" + t.Address
}

// place is the target as an operator names it: its port or socket, without the path.
func (t Target) place() string { return t.Address }

// Port is a TCP target's port, 0 for a socket.
func (t Target) Port() uint16 {
	_, port, _ := net.SplitHostPort(t.Address)
	n, _ := strconv.ParseUint(port, 10, 16)
	return uint16(n)
}

// hostOfItsOwn is the Host that a client without configuration would send.
func (t Target) hostOfItsOwn() string {
	if t.Network == "unix" {
		return "localhost"
	}
	return t.Address
}
