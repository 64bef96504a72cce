package nginxconf

import (
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Find returns the directives of this name among list and, in order, in the blocks within.
func Find(list []Directive, name string) (found []Directive) {
	for _, d := range list {
		if d.Name == name {
			found = append(found, d)
		}
		found = append(found, Find(d.Block, name)...)
	}
	return found
}

// Location is a location's matching: Kind is "" or "^~" for a prefix, "=" for exactly Path, "~" or "~*" for a regular
// expression, "@" for a name.
type Location struct {
	Directive
	Kind, Path string
}

// Locations returns the locations of a server, those within others too.
func Locations(server Directive) (list []Location) {
	for _, d := range Find(server.Block, "location") {
		list = append(list, locationOf(d))
	}
	return list
}

// locationOf reads the arguments as nginx does: with a blank after the modifier or without.
func locationOf(d Directive) Location {
	if len(d.Args) == 2 {
		return Location{d, d.Args[0], d.Args[1]}
	}
	arg := d.Arg(0)
	for _, kind := range []string{"=", "^~", "~*", "~", "@"} {
		if rest, ok := strings.CutPrefix(arg, kind); ok {
			return Location{d, kind, rest}
		}
	}
	return Location{d, "", arg}
}

// Servers are the servers of port 80.
func Servers(conf []Directive) (list []Directive) {
	for _, s := range Find(conf, "server") {
		if s.Block != nil && (listens(s, "") || !slices.ContainsFunc(s.Block, isListen)) {
			list = append(list, s)
		}
	}
	return list
}

// DefaultServer is the server that answers a load balancer on port 80, whose Host is an address: one whose name is an
// expression for such, else the one that says that it is the default, else the first.
func DefaultServer(conf []Directive) (Directive, bool) {
	list := Servers(conf)
	if i := slices.IndexFunc(list, NamesAddresses); i >= 0 {
		return list[i], true
	}
	for _, s := range list {
		if listens(s, "default_server") || listens(s, "default") {
			return s, true
		}
	}
	if len(list) == 0 {
		return Directive{}, false
	}
	return list[0], true
}

// NamesAddresses reports whether a name of the server is an expression that an address fits. One that Go cannot read
// is not.
func NamesAddresses(server Directive) bool {
	return slices.ContainsFunc(server.Block, func(d Directive) bool {
		return d.Name == "server_name" && slices.ContainsFunc(d.Args, func(name string) bool {
			text, isExpression := strings.CutPrefix(name, "~")
			re, err := regexp.Compile("(?i)" + text)
			return isExpression && err == nil && re.MatchString("172.31.16.8")
		})
	})
}

func isListen(d Directive) bool { return d.Name == "listen" }

// listens reports whether a server listens on port 80, with option unless that is "".
func listens(s Directive, option string) bool {
	return slices.ContainsFunc(s.Block, func(d Directive) bool {
		port := d.Arg(0)
		if i := strings.LastIndex(port, ":"); i >= 0 && !strings.HasSuffix(port, "]") {
			port = port[i+1:]
		} else if _, err := strconv.Atoi(port); err != nil {
			port = "80" // an address alone
		}
		unix := strings.HasPrefix(d.Arg(0), "unix:")
		return isListen(d) && !unix && port == "80" && (option == "" || slices.Contains(d.Args, option))
	})
}

// Target is where nginx sends a site's requests.
type Target struct {
	Protocol string // "http", "https", "fastcgi", "uwsgi", "scgi", "grpc"; "" where it sends them nowhere that is known
	Port     int    // on this host
	Socket   string // a UNIX socket, where Port is 0
	At       string // "FILE:LINE" of what says so
	// Doubt is why requests may go elsewhere too, or why it is not known where they go.
	Doubt string
}

// Passes follows the requests for pages that have no location of their own, those of "location /", or of an expression
// that fits any page and comes before it: through try_files and named upstreams, to where they leave nginx.
func Passes(conf []Directive, server Directive) Target {
	s := site{conf: conf, server: server}
	if t := s.follow(anyPage(server), 0); t.Protocol != "" || t.Doubt != "" {
		return t
	}
	for _, l := range Locations(server) { // PHP: location / leads to a page, which a regular expression takes
		if d, ok := First(l.Block, "fastcgi_pass"); ok {
			return s.address(d, "fastcgi", d.Arg(0))
		}
	}
	return Target{Doubt: "no location / sends requests on"}
}

// anyPage is the location of a page that no location names; without one it is the server itself.
func anyPage(server Directive) Directive {
	found := server
	for _, l := range Locations(server) {
		switch {
		case l.Path == "/" && l.Kind == "^~": // no expression is tried
			return l.Directive
		case l.Path == "/" && l.Kind == "":
			found = l.Directive
		}
	}
	for _, d := range server.Block { // the first that fits
		l := locationOf(d)
		if re, err := regexp.Compile(l.Path); d.Name == "location" && (l.Kind == "~" || l.Kind == "~*") && err == nil &&
			re.MatchString("/") && re.MatchString("/a-page/of.none") {
			return d
		}
	}
	return found
}

type site struct {
	conf   []Directive
	server Directive
}

// First returns the first directive of this name in list itself.
func First(list []Directive, name string) (Directive, bool) {
	i := slices.IndexFunc(list, func(d Directive) bool { return d.Name == name })
	if i < 0 {
		return Directive{}, false
	}
	return list[i], true
}

// follow goes from a location to where it sends requests. Of a nested "location /" that one counts.
func (s site) follow(l Directive, depth int) Target {
	if depth > 4 { // named locations that name each other
		return Target{}
	}
	for _, inner := range l.Block {
		if l.Name == "location" && inner.Name == "location" && locationOf(inner).Path == "/" {
			return s.follow(inner, depth+1)
		}
	}
	if d, ok := First(l.Block, "proxy_pass"); ok {
		scheme, rest, ok := strings.Cut(d.Arg(0), "://")
		if !ok { // all of it is in a variable
			scheme, rest = "http", d.Arg(0)
		}
		return s.address(d, strings.ToLower(scheme), rest)
	}
	for _, protocol := range []string{"fastcgi", "uwsgi", "scgi", "grpc"} {
		if d, ok := First(l.Block, protocol+"_pass"); ok {
			return s.address(d, protocol, strings.TrimPrefix(d.Arg(0), "grpc://"))
		}
	}
	for _, name := range []string{"try_files", "error_page"} {
		d, ok := First(l.Block, name)
		if last := d.Arg(-1); ok && strings.HasPrefix(last, "@") {
			return s.named(last[1:], depth)
		}
	}
	return Target{}
}

// wholeAddress is an address that has ended: what follows is the path.
var wholeAddress = regexp.MustCompile(`^[^/]+(:[0-9]+$|/)`)

func (s site) named(name string, depth int) Target {
	for _, l := range Locations(s.server) {
		if l.Kind == "@" && l.Path == name {
			return s.follow(l.Directive, depth+1)
		}
	}
	return Target{}
}

// address reads what stands after the scheme: an upstream's name, an address, a UNIX socket; and a path.
func (s site) address(d Directive, protocol, rest string) Target {
	t := Target{Protocol: protocol, At: d.At()}
	if before, _, ok := strings.Cut(rest, "$"); ok && wholeAddress.MatchString(before) { // the path alone
		rest = before
	} else if ok {
		t.Doubt = d.Name + " has a variable: " + d.Arg(0)
		return t
	}
	host := rest
	if !strings.HasPrefix(rest, "unix:") {
		host, _, _ = strings.Cut(rest, "/")
	}
	servers := s.upstream(host)
	switch {
	case servers == nil:
		t.here(host)
	case len(servers) == 0:
		t.Doubt = "upstream " + host + " has no server"
	default:
		if t.here(servers[0]); len(servers) > 1 && t.Doubt == "" {
			t.Doubt = "upstream " + host + " has " + strconv.Itoa(len(servers)) + " servers"
		}
	}
	return t
}

// upstream returns the different servers of an upstream that are in use; nil: there is none of that name.
func (s site) upstream(name string) []string {
	for _, u := range Find(s.conf, "upstream") {
		if u.Arg(0) != name {
			continue
		}
		list := []string{}
		for _, d := range u.Block {
			unused := slices.Contains(d.Args, "down") || slices.Contains(d.Args, "backup")
			if d.Name == "server" && !unused && !slices.Contains(list, d.Arg(0)) {
				list = append(list, d.Arg(0))
			}
		}
		return list
	}
	return nil
}

// here reads an address, and is in doubt about one that is not this host's.
func (t *Target) here(address string) {
	if socket, ok := strings.CutPrefix(address, "unix:"); ok {
		socket, _, _ = strings.Cut(socket, ":")
		t.Socket = path.Clean(socket)
		return
	}
	u := url.URL{Host: address}
	host, port := u.Hostname(), u.Port()
	ip, err := netip.ParseAddr(host)
	switch {
	case host != "localhost" && (err != nil || !ip.IsLoopback() && !ip.IsUnspecified()):
		t.Doubt = "requests go to " + net.JoinHostPort(host, port) + ", which is not an address of this host's own"
		return
	case port == "" && t.Protocol == "https":
		port = "443"
	case port == "":
		port = "80"
	}
	n, _ := strconv.ParseUint(port, 10, 16)
	t.Port = int(n)
}
