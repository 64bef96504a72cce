// Package endpoint says where the application is asked: an address, a path there, and the Host it is asked with.
//
// Contract: what Parse and CheckHost accept can be sent as it is; their errors repeat no password.
package endpoint

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// Endpoint is where the application answers: its own port or unix socket, and a path there.
type Endpoint struct {
	Network string // "tcp" or "unix"
	Address string // host:port, or the socket's path
	Path    string // path and query as sent, beginning with "/"
}

// Parse reads "http://HOST:PORT/PATH" or "unix:/SOCKET:/PATH".
//
// https is refused: the application's own port on the instance speaks http, and a certificate does
// not fit a loopback address.
func Parse(s string) (Endpoint, error) {
	if rest, ok := strings.CutPrefix(s, "unix:"); ok {
		return parseUnix(s, rest)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return Endpoint{}, fmt.Errorf("health target %q: not an address: "+
			"want http://127.0.0.1:8000/health or unix:/path.sock:/health", s)
	case u.Scheme != "http":
		return Endpoint{}, fmt.Errorf("health target %q: "+
			"want http://… or unix:/path.sock:/…, for the application's own port", s)
	case u.User != nil:
		return Endpoint{}, errors.New(
			"health target: a user and password do not belong in the address; set health.headers")
	case u.Hostname() == "":
		return Endpoint{}, fmt.Errorf("health target %q: has no host: want http://127.0.0.1:8000/health", s)
	case u.Fragment != "" || strings.Contains(s, "#"):
		return Endpoint{}, fmt.Errorf("health target %q: a fragment (#…) is never sent", s)
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return Endpoint{}, fmt.Errorf("health target %q: port %q is not between 1 and 65535", s, port)
	}
	e := Endpoint{Network: "tcp", Address: net.JoinHostPort(u.Hostname(), port), Path: u.RequestURI()}
	return e, checkPath(s, e.Path)
}

func parseUnix(s, rest string) (Endpoint, error) {
	socket, p, ok := strings.Cut(rest, ":")
	if !ok {
		p = "/"
	}
	e := Endpoint{Network: "unix", Address: socket, Path: p}
	switch {
	case !path.IsAbs(socket) || path.Clean(socket) == "/":
		return Endpoint{}, fmt.Errorf("health target %q: the socket needs an absolute path: "+
			"want unix:/path.sock:/health", s)
	case len(socket) > 107: // sockaddr_un holds 108 bytes, the last one zero
		return Endpoint{}, fmt.Errorf("health target %q: the socket's path is longer than 107 bytes", s)
	case strings.ContainsRune(socket, 0):
		return Endpoint{}, fmt.Errorf("health target %q: the socket's path holds a zero byte", s)
	}
	return e, checkPath(s, e.Path)
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

// Page is the path without its query, which may be secret.
func (e Endpoint) Page() string {
	p, _, _ := strings.Cut(e.Path, "?")
	return p
}

// Shown is the endpoint in the form Parse reads, without its query.
func (e Endpoint) Shown() string { return e.Origin() + e.Page() }

// Origin is the endpoint without its path.
func (e Endpoint) Origin() string {
	if e.Network == "unix" {
		return "unix:" + e.Address + ":"
	}
	return "http://" + e.Address
}

// Port is a TCP endpoint's port, 0 for a socket.
func (e Endpoint) Port() uint16 {
	_, port, _ := net.SplitHostPort(e.Address)
	n, _ := strconv.ParseUint(port, 10, 16)
	return uint16(n)
}

// DefaultHost is the Host that a client without configuration would send.
func (e Endpoint) DefaultHost() string {
	if e.Network == "unix" {
		return "localhost"
	}
	return e.Address
}

// CheckHost reports why host cannot be sent as a Host header. Lower case letters, digits, dots,
// hyphens, underscores, an optional port and a bracketed IPv6 address are what servers accept.
func CheckHost(host string) error {
	if host == "" || len(host) > 255 {
		return fmt.Errorf("health host: want a host name of 1 to 255 bytes, got %d", len(host))
	}
	for i := range len(host) {
		c := host[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && !strings.ContainsRune(".-_:[]", rune(c)) {
			return fmt.Errorf("health host: %q cannot be part of a host name: "+
				"want a name such as www.example.com, without http:// or a path", c)
		}
	}
	return nil
}
