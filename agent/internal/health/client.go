package health

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// client is the part of a client's request that the answer depends on: none when a Host is configured.
type client struct {
	ownHost     bool   // probe with the client's own Host
	host, agent string // without host: the target's
	origin      origin
}

// origin is what a request's Host says of its sender. Where no Host is configured it decides whose request starts a
// probe. Otherwise as many names as anybody can invent would each be one, and a load balancer's check would have to
// wait for them.
type origin int

const (
	here      origin = iota // an address of this machine, as an ALB and a CLB send, localhost, none, or ourselves
	elsewhere               // another address, as a NLB sends: its node's; a few at a time
	stranger                // a name, or a request that came through a proxy: never
)

// maxElsewhere limits the probes that may be in flight, or not older than Config.Lifetime, with others' addresses. A
// NLB has a node in each of at most six zones.
const maxElsewhere = 8

// lastFor is how long strangers are answered with the last verdict: the longest time between two checks of a load
// balancer.
const lastFor = 5 * time.Minute

// clientOf returns what is known of the sender of r. A load balancer sends an address as Host and no X-Forwarded-For;
// its User-Agent is passed on, since some applications answer that differently. Host is in one form and without a
// port: 65,536 of them are one address.
func (c *Checker) clientOf(r *http.Request) client {
	a := client{ownHost: true, origin: stranger}
	for _, lb := range []string{"ELB-HealthChecker/2.0", "ELB-HealthChecker/1.0"} {
		if r.UserAgent() == lb {
			a.agent = lb
		}
	}
	if len(r.Header["X-Forwarded-For"]) > 0 {
		return a
	}
	name := strings.ToLower(r.Host)
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	if name == "" || name == "localhost" {
		a.host, a.origin = name, here
		return a
	}
	ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]"))
	if err != nil {
		return a
	}
	ip = ip.Unmap().WithZone("")
	if a.host, a.origin = ip.String(), elsewhere; ip.Is6() {
		a.host = "[" + a.host + "]"
	}
	if c.machineHas(ip) {
		a.origin = here
	}
	return a
}

// balancer reports whether a request looks like a load balancer's check. Who reaches nginx without a load balancer in
// between can forge one.
func (a client) balancer() bool { return a.agent != "" && a.origin != stranger }

// counts reports whether the result of a probe for a shows how the application is: not if the sender chose the Host.
func (a client) counts() bool { return !a.ownHost || a.origin == here }

// lastVerdict answers a client that starts no probe: as the last load balancer was.
func (c *Checker) lastVerdict(from client) Verdict {
	if v, ok := c.lastKnown(); ok {
		return v
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	reason := fmt.Sprintf("no Host is set, and no load balancer has asked within %s", lastFor)
	return c.judgeLocked(noProbe(from, reason), from)
}

// lastKnown is the last verdict of the configured Host, or of a load balancer's own.
func (c *Checker) lastKnown() (Verdict, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range []Verdict{c.lastConfigured, c.lastHere, c.lastElsewhere} {
		if time.Since(v.At) < lastFor {
			return v, true
		}
	}
	return Verdict{}, false
}

// addresses are this machine's, read again every ten seconds: an interface may come later.
type addresses struct {
	mu   sync.Mutex
	read time.Time
	list []netip.Addr
}

func (a *addresses) have(ip netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Since(a.read) > 10*time.Second {
		a.read = time.Now()
		if nets, err := net.InterfaceAddrs(); err == nil { // else those of before
			a.list = a.list[:0]
			for _, n := range nets {
				if p, err := netip.ParsePrefix(n.String()); err == nil {
					a.list = append(a.list, p.Addr().Unmap())
				}
			}
		}
	}
	return slices.Contains(a.list, ip)
}
