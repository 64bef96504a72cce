package cloudwatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"beanstalk-agent/collectors"
	"beanstalk-agent/packaging/testbed/cloudwatchfake"
	"beanstalk-agent/packaging/testbed/planted"
)

// world is the fake, reached by the unmodified SDK client through pipes instead of sockets, so that a synctest bubble
// can hold all of it: hours pass in milliseconds, and every byte on the wire is real.
type world struct {
	t    *testing.T
	fake *cloudwatchfake.Server
	down atomic.Bool // nothing can be dialled
	gone atomic.Bool // no credentials

	config Config
	logs   logs
	added  map[point]float64 // what must arrive: samples by series and minute
}

type point struct {
	name string
	at   time.Time
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, fake: &cloudwatchfake.Server{}, added: map[point]float64{}}
	l := make(pipeListener)
	server := &http.Server{Handler: w.fake}
	go server.Serve(l)
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if w.down.Load() {
			return nil, errors.New("network is unreachable")
		}
		ours, theirs := net.Pipe()
		select {
		case l <- theirs:
			return ours, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	t.Cleanup(func() { close(l); server.Close(); transport.CloseIdleConnections() })
	w.config = config()
	w.config.Send, w.config.SpoolDir, w.config.Logger = On, t.TempDir(), slog.New(&w.logs)
	w.logs.seen = t.Output()
	w.config.Connect = func(context.Context) (aws.Config, error) {
		if w.gone.Load() {
			return aws.Config{}, errors.New("no AWS credentials: this is a laptop")
		}
		return aws.Config{
			Region: "eu-west-1", BaseEndpoint: aws.String("http://monitoring.test"), RequestMinCompressSizeBytes: 10240,
			Credentials: credentials.NewStaticCredentialsProvider("AKID", planted.Value, planted.Value),
			Retryer:     func() aws.Retryer { return aws.NopRetryer{} },
			HTTPClient:  &http.Client{Transport: transport},
		}, nil
	}
	return w
}

// start runs a publisher until stop is called, which returns when Run has.
func (w *world) start() (p *Publisher, stop func()) {
	p = newPublisher(w.t, w.config)
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	return p, func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("run: %v", err)
		}
	}
}

// sample adds ten series every five seconds for d, each value different.
func (w *world) sample(p *Publisher, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(5 * time.Second) {
		b := collectors.Batch{At: time.Now()}
		for i := range 10 {
			s := sample(fmt.Sprintf("m%d", i), float64(time.Now().Unix()))
			b.Samples = append(b.Samples, s)
			w.added[point{s.Name, b.At.UTC().Truncate(time.Minute)}]++
		}
		p.Add(b)
	}
}

// arrived returns what the fake has of the sampled series, in samples.
func (w *world) arrived() map[point]float64 {
	got := map[point]float64{}
	for _, p := range w.fake.Points() {
		if strings.HasPrefix(p.Name, "m") && len(p.Name) == 2 {
			for _, c := range p.Counts {
				got[point{p.Name, p.Time}] += c
			}
		}
	}
	return got
}

// check compares what arrived with what was added: each at least once, and no more extra than counted.
func (w *world) check(p *Publisher) {
	w.t.Helper()
	got, extra := w.arrived(), 0
	for k, n := range w.added {
		times := got[k] / n
		if times < 1 || times != math.Trunc(times) {
			w.t.Errorf("%s at %v: %v of %v samples arrived", k.name, k.at, got[k], n)
			return
		}
		extra += int(times) - 1
	}
	s := p.Status()
	if extra > int(s.PossibleDuplicates) {
		w.t.Errorf("%d datums arrived twice, %d possible duplicates counted", extra, s.PossibleDuplicates)
	}
	if s.Dropped != 0 || s.Spooled != 0 {
		w.t.Errorf("dropped %d by %v, %d still spooled", s.Dropped, s.DroppedBy, s.Spooled)
	}
}

func (w *world) count(name string) (sum float64) {
	for _, p := range w.fake.Points() {
		if p.Name == name {
			for i, v := range p.Values {
				sum += v * p.Counts[i]
			}
		}
	}
	return sum
}

// pipeListener accepts the other ends of pipes; closing it ends Accept.
type pipeListener chan net.Conn

func (l pipeListener) Accept() (net.Conn, error) {
	c, ok := <-l
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l pipeListener) Close() error   { return nil }
func (l pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// logs keeps what was logged.
type logs struct {
	seen io.Writer

	mu    sync.Mutex
	lines []string
}

func (l *logs) Enabled(context.Context, slog.Level) bool { return true }
func (l *logs) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logs) WithGroup(string) slog.Handler            { return l }
func (l *logs) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	fmt.Fprintln(l.seen, line)
	return nil
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

func (l *logs) count(s string) int { return strings.Count(l.String(), s) }
