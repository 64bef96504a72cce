package main

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/collectors"
)

// place is where the web process is.
type place struct {
	unit string // of systemd; "" when it is not known
	port uint16 // where it accepts connections behind the proxy
	path string // the same for a UNIX socket, when port is 0
}

func findWeb(a *app.App) place {
	w := a.Workers(context.Background())
	return place{unit: w.Unit, port: w.Port, path: w.Path}
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
