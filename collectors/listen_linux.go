package collectors

import (
	"context"
	"fmt"
	"os"
	"time"
)

// Listen reads the accept queue of one listening socket: by socket diagnostics at every tick, or from /proc/net once a
// minute where those are not to be had, without the limit and the connections in flight then.
type Listen struct {
	cfg    ListenConfig
	label  []Label
	socket *listenSocket
	next   time.Time // when to count connections
	out    []Sample
}

// NewListen returns a Listen; it opens nothing before its first Collect.
func NewListen(cfg ListenConfig) *Listen {
	cfg.complete()
	if cfg.Proc == nil {
		cfg.Proc = os.DirFS("/proc")
	}
	return &Listen{cfg: cfg, label: groupLabel(cfg.Name),
		socket: newListenSocket(cfg.Port, cfg.UnixPath, cfg.Counts, cfg.Proc)}
}

// Name is "listen", and the group's name.
func (l *Listen) Name() string { return l.cfg.collector() }

// Close gives back the netlink socket.
func (l *Listen) Close() error {
	l.socket.close()
	return nil
}

// Collect reads the queue. Without a listener it is ErrNoData: no client can be
// waiting, and a backlog of 0 would look healthy.
func (l *Listen) Collect(context.Context) ([]Sample, error) {
	l.out = l.out[:0]
	if l.cfg.Port == 0 && l.cfg.UnixPath == "" {
		return nil, fmt.Errorf("%w: the application's port or socket is not known", ErrNoData)
	}
	now := time.Now()
	switch err := l.socket.look(now); {
	case err == errPause:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read backlog: %w", err)
	}
	q := &l.socket.found
	if len(q.inodes) == 0 {
		return nil, l.noListener()
	}
	l.out = append(l.out, Sample{"listen_backlog", Count, float64(q.backlog), l.label})
	if q.limit > 0 {
		l.out = append(l.out, Sample{"listen_backlog_limit", Count, float64(q.limit), l.label})
	}
	return l.out, l.connections(now)
}

func (l *Listen) connections(now time.Time) error {
	if l.cfg.Connections < 0 || now.Before(l.next) || l.socket.noDiag != nil {
		return nil
	}
	l.next = now.Add(l.cfg.Connections - time.Second) // ticks are never quite a multiple apart
	n, err := l.socket.inFlight()
	if err != nil {
		return fmt.Errorf("count connections: %w", err)
	}
	l.out = append(l.out, Sample{"listen_connections", Count, float64(n), l.label})
	return nil
}

func (l *Listen) noListener() error {
	if l.cfg.Port != 0 {
		return fmt.Errorf("%w: no listener on port %d", ErrNoData, l.cfg.Port)
	}
	return fmt.Errorf("%w: no listener on %q", ErrNoData, l.cfg.UnixPath)
}
