package app

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/endpoint"
	"beanstalk-agent/collectors"
)

// Origin is where the application itself listens, behind nginx, without a path: the configured address; else Puma's
// socket on Beanstalk's Ruby platform; else its port. With an error it is a guess.
func (a *App) Origin(ctx context.Context) (string, error) {
	if e, err := endpoint.Parse(a.cfg.Target); err == nil {
		return e.Origin(), nil
	}
	if info, err := os.Stat(pumaSocket); err == nil && info.Mode().Type() == fs.ModeSocket {
		return endpoint.Endpoint{Network: "unix", Address: pumaSocket}.Origin(), nil
	}
	port, err := a.port(ctx)
	return "http://127.0.0.1:" + strconv.Itoa(port), err
}

// Page is the address of the page that health checks ask, where none is configured. With an error it is a guess.
func (a *App) Page(ctx context.Context) (string, error) {
	from, err := a.Origin(ctx)
	return from + a.cfg.Page, err
}

// pumaSocket is what nginx asks on the Ruby platform, unless a Procfile says otherwise. The platform makes the
// directory, and Puma removes the socket when it ends.
const pumaSocket = "/var/run/puma/my_app.sock"

// port is where nginx sends requests; else PORT of the application's environment; else what the platform said when the
// agent started; else 8000, the Python platform's. With an error PORT is not known.
func (a *App) port(ctx context.Context) (int, error) {
	if p := a.inst.ProxyPort(); p != 0 {
		return p, nil
	}
	env, err := a.env.Resolve(ctx)
	if err == nil {
		v, _ := env.Lookup("PORT")
		if p, err := strconv.Atoi(v); err == nil && p > 0 && p < 1<<16 {
			return p, nil
		}
	}
	if p := a.Facts().AppPort; p != 0 {
		return p, nil
	}
	return 8000, err
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

// Workers follows the configured address, unless that leads through nginx.
func (a *App) Workers(ctx context.Context) Workers {
	w := Workers{Unit: a.Facts().WebUnit}
	from, _ := a.Origin(ctx) // a wrong guess does no harm: no process listens there, or the application does
	if path, ok := strings.CutPrefix(from, "unix:"); ok {
		w.Path = strings.TrimSuffix(path, ":")
		return w
	}
	if u, err := url.Parse(from); err == nil {
		if n, err := strconv.ParseUint(u.Port(), 10, 16); err == nil && n != 80 {
			w.Port = uint16(n)
			return w
		}
	}
	port, _ := a.port(ctx)
	w.Port = uint16(port)
	return w
}

// Connections counts the connections that the application has accepted; -1 where the kernel does not say.
func (a *App) Connections(ctx context.Context) int {
	where := collectors.ListenConfig{Connections: time.Nanosecond}
	from, _ := a.Origin(ctx)
	e, err := endpoint.Parse(from + "/")
	switch {
	case err != nil:
		return -1
	case e.Network == "unix":
		where.UnixPath = e.Address
	default:
		where.Port = e.Port()
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
