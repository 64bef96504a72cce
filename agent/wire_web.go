package main

import (
	"context"
	"io"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/collectors"
)

// place is where the web process is.
type place struct {
	unit string // of systemd; "" when it is not known
	port uint16 // where it accepts connections behind the proxy
	path string // the same for a UNIX socket, when port is 0
}

// findWeb follows health.target, unless that leads through nginx.
func findWeb(cfg config.Config, inst *platform.Instance, env *appenv.Resolver) place {
	at := place{unit: inst.Facts().WebUnit}
	from, _ := origin(context.Background(), cfg, inst, env) // a guess does no harm: nobody listens there, or the application
	if path, ok := strings.CutPrefix(from, "unix:"); ok {
		at.path = strings.TrimSuffix(path, ":")
		return at
	}
	if u, err := url.Parse(from); err == nil {
		if n, err := strconv.ParseUint(u.Port(), 10, 16); err == nil && n != 80 {
			at.port = uint16(n)
			return at
		}
	}
	port, _ := appPort(context.Background(), inst, env)
	at.port = uint16(port)
	return at
}

// placeEvery is how often it is asked where the web process is beside the ends of
// deployments: the agent is older than the first, and one may change the port.
const placeEvery = time.Minute

// following is a collector of the web process, made anew when that is elsewhere.
type following struct {
	name     string
	find     func() place
	make     func(place) collectors.Collector
	deployed *atomic.Uint64 // counts what may have moved it

	seen uint64
	next time.Time
	at   place
	now  collectors.Collector
}

func (f *following) Name() string { return f.name }

func (f *following) Collect(ctx context.Context) ([]collectors.Sample, error) {
	if t, n := time.Now(), f.deployed.Load(); n != f.seen || !t.Before(f.next) {
		f.seen, f.next = n, t.Add(placeEvery)
		if at := f.find(); f.now == nil || at != f.at {
			f.Close()
			f.at, f.now = at, f.make(at)
		}
	}
	return f.now.Collect(ctx)
}

// Close closes the present collector.
func (f *following) Close() error {
	if c, ok := f.now.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
