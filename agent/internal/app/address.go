package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/endpoint"
	"beanstalk-agent/collectors"
)

// Origin is where the application itself listens, behind nginx, without a path: the configured address, else the one
// that is found. With an error it is a guess.
func (a *App) Origin(ctx context.Context) (string, error) {
	if e, err := endpoint.Parse(a.cfg.Target); err == nil {
		return e.Origin(), nil
	}
	p := a.find(ctx)
	return p.Origin(), p.err
}

// Page is the address of the page that health checks ask, where none is configured. With an error it is a guess.
func (a *App) Page(ctx context.Context) (string, error) {
	from, err := a.Origin(ctx)
	return from + a.cfg.Page, err
}

// pumaSocket is what nginx asks on the Ruby platform, unless a Procfile says otherwise. The platform makes the
// directory, and Puma removes the socket when it ends.
const pumaSocket = "/var/run/puma/my_app.sock"

// place is where the application was found.
type place struct {
	endpoint.Endpoint
	doubt string // why it may be elsewhere, "" for no reason
	err   error  // it is a guess
}

// isSocket reports whether path is a socket. The application's user owns the directory: a link there may lead to a
// socket that only root may connect to, which the agent is.
func isSocket(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().Type() == fs.ModeSocket
}

func socketAt(path string) endpoint.Endpoint {
	return endpoint.Endpoint{Network: "unix", Address: path}
}

func portAt(port int) endpoint.Endpoint {
	return endpoint.Endpoint{Network: "tcp", Address: "127.0.0.1:" + strconv.Itoa(port)}
}

// find looks for the application: Puma's socket; else the socket to which nginx sends the site's requests; else the one
// port on which the web process's processes listen; else the port to which nginx sends them; else PORT of the
// application's environment; else what the platform said when the agent started; else 8000, the Python platform's.
//
// nginx has more than one port in its files, of websockets or of another service, and a file may be of no use. A
// process knows where it listens; but one that listens on several does not know which is the site's.
func (a *App) find(ctx context.Context) place {
	if isSocket(pumaSocket) {
		return place{Endpoint: socketAt(pumaSocket)}
	}
	ports := a.listens(ctx)
	to := a.inst.Nginx().Passes()
	speaksHTTP := to.Protocol == "" || to.Protocol == "http"
	switch {
	case to.Socket != "" && speaksHTTP:
		return place{Endpoint: socketAt(to.Socket)}
	case len(ports) == 1 && (speaksHTTP || to.Port != int(ports[0])):
		p := place{Endpoint: portAt(int(ports[0]))}
		if to.Port != 0 && to.Port != int(ports[0]) {
			p.doubt = fmt.Sprintf("the web process listens there, and nginx sends requests to port %d (%s)",
				to.Port, to.At)
		}
		return p
	case !speaksHTTP:
		return place{Endpoint: portAt(80), err: fmt.Errorf("nginx speaks %s to it (%s), not HTTP: set health.target: "+
			"http://127.0.0.1:80/PAGE, which asks through nginx", to.Protocol, to.At)}
	case to.Port != 0:
		p := place{Endpoint: portAt(to.Port), doubt: to.Doubt}
		if len(ports) > 1 && !slices.Contains(ports, uint16(to.Port)) {
			p.doubt = fmt.Sprintf("nginx sends requests there (%s), and the web process listens on %s",
				to.At, list(ports))
		}
		return p
	}
	return a.configuredPort(ctx, to.Doubt, ports)
}

// configuredPort is the port that PORT or the platform names, where neither processes nor nginx show one.
func (a *App) configuredPort(ctx context.Context, doubt string, ports []uint16) place {
	if len(ports) > 1 {
		doubt = "the web process listens on " + list(ports)
	}
	env, err := a.env.Resolve(ctx)
	if err == nil {
		v, _ := env.Lookup("PORT")
		if p, err := strconv.Atoi(v); err == nil && p > 0 && p < 1<<16 {
			return place{Endpoint: portAt(p), doubt: doubt}
		}
	}
	if p := a.Facts().AppPort; p != 0 {
		return place{Endpoint: portAt(p), doubt: doubt}
	}
	return place{Endpoint: portAt(8000), doubt: doubt, err: err}
}

func list(ports []uint16) string {
	var words []string
	for _, p := range ports[:min(len(ports), 5)] {
		words = append(words, strconv.Itoa(int(p)))
	}
	if n := len(ports) - len(words); n > 0 {
		words = append(words, fmt.Sprintf("%d more", n))
	}
	return "ports " + strings.Join(words, " and ")
}

// listens returns the ports of the web process's processes, none where they are not known.
func (a *App) listens(ctx context.Context) []uint16 {
	if a.Facts().WebUnit == "" {
		return nil
	}
	pids, err := a.inst.WebPIDs(ctx)
	if err != nil {
		return nil
	}
	a.portsMu.Lock()
	defer a.portsMu.Unlock()
	ports, err := a.ports.Of(ctx, pids) // with an error: not known, or not all
	a.portsCut.Store(errors.Is(err, collectors.ErrCut))
	return ports
}

// addressLines say where the application is asked if that is in doubt.
func (a *App) addressLines(ctx context.Context) []api.Line {
	if !a.Facts().Beanstalk || a.Facts().Docker || a.cfg.Target != "" || a.Facts().WebUnit == "" {
		return nil
	}
	p := a.find(ctx)
	if p.doubt == "" && a.portsCut.Load() {
		p.doubt = "the web process has too many processes, descriptors or listeners to look at all of them"
	}
	if p.doubt == "" {
		return nil
	}
	return []api.Line{api.NewLine("host", api.Note, "set health.target if the application is asked at the wrong place",
		"the application is asked at %s: %s", strings.TrimPrefix(p.Origin(), "http://"), p.doubt)}
}

// Host is the Host that the application accepts: the configured one, with ${NAME} from its environment. "": none is
// configured, or the variable holds no host.
func (a *App) Host(ctx context.Context) (string, error) {
	if !strings.Contains(a.cfg.Host, "${") {
		return a.cfg.Host, nil
	}
	env, err := a.env.Resolve(ctx)
	if err != nil {
		return "", err
	}
	lookup := func(name string) string { v, _ := env.Lookup(name); return v }
	return firstHost(replaceReferences(a.cfg.Host, lookup)), nil
}

// hostVariables are those from which public applications' settings take the name of their site.
var hostVariables = []string{"ALLOWED_HOSTS", "DJANGO_ALLOWED_HOSTS", "APP_HOST", "APP_DOMAIN", "APP_URL",
	"SERVER_NAME", "DOMAIN"}

// Names are hosts by which the application may be known: of variables that frameworks' settings read, and of nginx.
func (a *App) Names(ctx context.Context) (names []string) {
	add := func(value string) {
		value = strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(value, "https://"), "http://"), "/")
		if h := firstHost(value); strings.Contains(h, ".") && !slices.Contains(names, h) {
			names = append(names, h)
		}
	}
	if env, err := a.env.Resolve(ctx); err == nil {
		for _, name := range hostVariables {
			v, _ := env.Lookup(name)
			add(v)
		}
	}
	for _, name := range a.inst.Nginx().ServerNames() {
		add(name)
	}
	return names
}

// firstHost is the first entry that is one host of a list such as ALLOWED_HOSTS, in the forms that settings read from
// the environment have: a,b or a b or ["a", "b"]. A pattern (.example.com, *) is none.
func firstHost(list string) string {
	for _, h := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(", \t\n;", r) }) {
		h = strings.Trim(h, `"'()`)
		if !strings.Contains(h, ":") { // no IPv6 address
			h = strings.Trim(h, `[]"'`)
		}
		if h != "" && !strings.HasPrefix(h, ".") && endpoint.CheckHost(h) == nil {
			return h
		}
	}
	return ""
}

// Workers is where the web process accepts connections behind the proxy.
type Workers struct {
	Unit string // of systemd; "" when it is not known
	Port uint16
	Path string // of a UNIX socket, when Port is 0
}

// accepts is where the application accepts connections: the configured address, unless that leads through nginx, else
// the one that is found; for PHP that is PHP-FPM's socket. A wrong guess does no harm: no process listens there, or the
// application does.
func (a *App) accepts(ctx context.Context) endpoint.Endpoint {
	if e, err := endpoint.Parse(a.cfg.Target); err == nil && e.Port() != 80 {
		return e
	}
	p := a.find(ctx)
	switch to := a.inst.Nginx().Passes(); {
	case p.err != nil && to.Socket != "":
		return socketAt(to.Socket)
	case p.err != nil && to.Port != 0:
		return portAt(to.Port)
	}
	return p.Endpoint
}

// Workers follows the application from one deployment to the next.
func (a *App) Workers(ctx context.Context) Workers {
	w := Workers{Unit: a.Facts().WebUnit}
	e := a.accepts(ctx)
	if e.Network == "unix" {
		w.Path = e.Address
		return w
	}
	w.Port = e.Port()
	return w
}

// Connections counts the connections that the application has accepted; -1 where the kernel does not say.
func (a *App) Connections(ctx context.Context) int {
	where := collectors.ListenConfig{Connections: time.Nanosecond}
	e := a.accepts(ctx)
	if where.Port = e.Port(); e.Network == "unix" {
		where.UnixPath, where.Port = e.Address, 0
	}
	listen := collectors.NewListen(where)
	defer listen.Close()
	samples, err := listen.Collect(ctx)
	for _, s := range samples {
		if s.Name == "listen_connections" {
			return int(s.Value)
		}
	}
	if errors.Is(err, collectors.ErrNoData) {
		return 0 // no listener
	}
	return -1
}
