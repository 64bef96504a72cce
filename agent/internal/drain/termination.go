package drain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"
)

// Termination is a notice that AWS is about to take the instance away.
type Termination struct {
	By     string    // "spot" or "autoscaling"
	Reason string    // one line for people
	At     time.Time // when; zero: not said
}

// TerminationWatch asks the instance metadata (IMDSv2) every five seconds, as AWS advises for spot
// notices, and hands each notice on once.
//
// It polls by itself instead of through the SDK because it asks 34,000 times a day: one kept
// connection and one token for hours.
type TerminationWatch struct {
	// Required.

	OnNotice func(Termination) // called from Run's goroutine
	Log      *slog.Logger

	// Optional.

	Endpoint string        // default http://169.254.169.254
	Interval time.Duration // default 5s

	token   string
	tokenAt time.Time
	client  *http.Client
	told    map[string]bool
}

const (
	metadataEndpoint = "http://169.254.169.254"
	tokenLife        = 6 * time.Hour    // the longest there is
	maxAbsentPause   = 5 * time.Minute  // where there never was an answer
	maxFailPause     = 60 * time.Second // where there was one before
)

// Run watches for termination notices until ctx is done, and drains at each.
func (d *Drain) Run(ctx context.Context) error {
	w := &TerminationWatch{Log: d.log, Endpoint: d.cfg.Endpoint, OnNotice: func(t Termination) { d.start(t.By, t.Reason) }}
	return w.Run(ctx)
}

// Run watches until ctx is done. Off EC2, where nothing answers, it asks ever more rarely, in the
// end once in five minutes; that is not an error.
func (w *TerminationWatch) Run(ctx context.Context) error {
	if w.OnNotice == nil || w.Log == nil {
		return errors.New("drain: TerminationWatch needs OnNotice and Log")
	}
	w.init()
	defer w.client.CloseIdleConnections()
	return w.run(ctx)
}

func (w *TerminationWatch) run(ctx context.Context) error {
	pause, answered, quiet := w.Interval, false, false
	for ctx.Err() == nil {
		err := w.poll(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			if !answered || quiet {
				w.Log.Info("watching for termination notices")
			}
			pause, answered, quiet = w.Interval, true, false
		default:
			if !quiet {
				w.Log.Info("termination notices are not watched: the instance metadata does not answer", "err", err)
			}
			quiet = true
			pause = min(2*pause, longestPause(answered))
		}
		sleep(ctx, pause)
	}
	return nil
}

func longestPause(answered bool) time.Duration {
	if answered {
		return maxFailPause
	}
	return maxAbsentPause
}

func (w *TerminationWatch) init() {
	if w.Endpoint == "" {
		w.Endpoint = metadataEndpoint
	}
	w.Endpoint = strings.TrimSuffix(w.Endpoint, "/")
	if w.Interval == 0 {
		w.Interval = 5 * time.Second
	}
	w.told = map[string]bool{}
	w.client = &http.Client{
		Timeout: 2 * time.Second,
		Transport: &http.Transport{ // no proxy: the address is link-local
			DialContext:         (&net.Dialer{Timeout: 500 * time.Millisecond}).DialContext,
			MaxIdleConnsPerHost: 1,
			IdleConnTimeout:     30 * time.Second,
		},
	}
}

// poll asks for both kinds of notice. No notice is no error.
func (w *TerminationWatch) poll(ctx context.Context) error {
	if err := w.renewToken(ctx); err != nil {
		return err
	}
	state, err := w.get(ctx, "autoscaling/target-lifecycle-state")
	// Only Terminated is a notice. Standby and Detached are no end: Beanstalk detaches the healthy
	// instances of an immutable deployment to attach them to another group, and Auto Scaling takes
	// an instance out of its target groups by itself in either case.
	if state == "Terminated" {
		w.tell(state, Termination{By: "autoscaling", Reason: "Auto Scaling terminates this instance"})
	}
	action, spotErr := w.get(ctx, "spot/instance-action")
	if action != "" {
		w.tell(action, spotNotice(action))
	}
	return errors.Join(err, spotErr)
}

// spotNotice reads {"action":"terminate","time":"2026-11-22T08:22:00Z"}. What it cannot read is a
// notice all the same: the address answers only when there is one.
func spotNotice(body string) Termination {
	var notice struct {
		Action string
		Time   time.Time
	}
	if json.Unmarshal([]byte(body), &notice) != nil || notice.Action == "" {
		return Termination{By: "spot", Reason: "EC2 takes this spot instance back"}
	}
	return Termination{By: "spot", At: notice.Time,
		Reason: fmt.Sprintf("EC2 takes this spot instance back: %.20q at %s", notice.Action, notice.Time.UTC().Format(time.RFC3339))}
}

func (w *TerminationWatch) tell(said string, n Termination) {
	key := n.By + " " + said
	if w.told[key] {
		return
	}
	w.told[key] = true
	w.Log.Warn("termination notice", "by", n.By, "reason", n.Reason)
	w.OnNotice(n)
}

func (w *TerminationWatch) renewToken(ctx context.Context) error {
	if w.token != "" && time.Since(w.tokenAt) < tokenLife/2 {
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, w.Endpoint+"/latest/api/token", nil)
	if err != nil {
		return err
	}
	req.Header.Set("X-aws-ec2-metadata-token-ttl-seconds", fmt.Sprint(int(tokenLife.Seconds())))
	status, body, err := w.do(req)
	if err != nil {
		return err
	}
	if status != http.StatusOK || body == "" {
		return fmt.Errorf("get a metadata token: %s", http.StatusText(status))
	}
	w.token, w.tokenAt = body, time.Now()
	return nil
}

// get returns "" for what is not there.
func (w *TerminationWatch) get(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.Endpoint+"/latest/meta-data/"+path, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("X-aws-ec2-metadata-token", w.token)
	status, body, err := w.do(req)
	switch {
	case err != nil:
		return "", err
	case status == http.StatusOK:
		return strings.TrimSpace(body), nil
	case status == http.StatusNotFound:
		return "", nil
	case status == http.StatusUnauthorized:
		w.token = "" // asked for anew at the next poll
	}
	return "", fmt.Errorf("get %s: %s", path, http.StatusText(status))
}

func (w *TerminationWatch) do(req *http.Request) (status int, body string, err error) {
	resp, err := w.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	return resp.StatusCode, string(b), err
}
