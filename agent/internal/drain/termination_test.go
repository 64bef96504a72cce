package drain

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"beanstalk-agent/packaging/testbed/gotool"
)

// watch runs d until the test ends.
func watch(t *testing.T, d *Drain) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// metadataAt asks as little of the service at endpoint as AWS's mock needs.
func metadataAt(endpoint string) func(context.Context, string) (string, error) {
	return func(ctx context.Context, path string) (string, error) {
		token, _, err := httpDo(ctx, http.MethodPut, endpoint+"/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "300")
		if err != nil {
			return "", err
		}
		body, status, err := httpDo(ctx, http.MethodGet, endpoint+"/latest/"+path, "X-aws-ec2-metadata-token", token)
		if status == http.StatusNotFound {
			return "", nil
		}
		return body, err
	}
}

func httpDo(ctx context.Context, method, url, header, value string) (body string, status int, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return "", 0, err
	}
	req.Header.Set(header, value)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), resp.StatusCode, err
}

// TestMetadataMockDrains: AWS's own mock announces an end, load balancers are refused and jobs held.
func TestMetadataMockDrains(t *testing.T) {
	for by, args := range map[string][]string{
		"spot":        {"spot", "-a", "terminate", "-d", "2"},
		"autoscaling": {"asglifecycle", "--asg-termination-delay-sec", "2"},
	} {
		t.Run(by, func(t *testing.T) {
			d, jobs := newDrain(t, "")
			if d.Refuse(true) {
				t.Fatal("refuses load balancers before the notice")
			}
			d.interval, d.cfg.Metadata = 100*time.Millisecond, metadataAt(gotool.Metadata(t, nil, args...))
			watch(t, d)
			eventually(t, "the notice", func() bool { return d.Refuse(false) })
			if r := d.Reasons()[0]; r.By != by || r.Reason == "" {
				t.Errorf("got %+v, want by %q", r, by)
			}
			if got := jobs.held(); got != HoldForTermination {
				t.Errorf("jobs are held for %s", got)
			}
		})
	}
}

// fakeMetadata is a metadata service in memory, for what AWS's mock cannot do: fail, be absent. It proves nothing about
// the real one.
type fakeMetadata struct {
	mu     sync.Mutex
	gone   bool
	broken string // a path that is answered 500
	paths  map[string]string
	asked  int
}

func (f *fakeMetadata) get(_ context.Context, path string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if f.gone || path == f.broken {
		return "", errors.New("no answer")
	}
	return f.paths[path], nil
}

func (f *fakeMetadata) set(path, value string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.paths[path] = value
}

const (
	statePath = "meta-data/autoscaling/target-lifecycle-state"
	spotPath  = "meta-data/spot/instance-action"
)

// inBubble runs claim with a Drain that watches f at its own pace.
func inBubble(t *testing.T, f *fakeMetadata, claim func(t *testing.T, d *Drain, jobs *jobs)) {
	synctest.Test(t, func(t *testing.T) {
		d, jobs := newDrain(t, "")
		d.cfg.Metadata = f.get
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- d.Run(ctx) }()
		claim(t, d, jobs)
		cancel()
		<-ended
	})
}

// pass lets d go by and whatever is due then come to rest.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestEachNoticeCountsOnce(t *testing.T) {
	f := &fakeMetadata{paths: map[string]string{statePath: "InService"}}
	inBubble(t, f, func(t *testing.T, d *Drain, jobs *jobs) {
		pass(time.Minute)
		for _, harmless := range []string{"Standby", "Detached", "Warmed:Stopped"} {
			f.set(statePath, harmless)
			pass(time.Minute)
		}
		for _, other := range []string{"<html>Terminated</html>", "{}", `{"action":5}`, `{"error":"not found"}`} {
			f.set(statePath, other)
			f.set(spotPath, other)
			pass(time.Minute)
		}
		if r := d.Reasons(); len(r) != 0 {
			t.Errorf("no end announced, but got %+v", r)
		}
		f.set(statePath, "Terminated")
		f.set(spotPath, `{"action":"stop","time":"2000-01-01T01:00:00Z"}`)
		pass(time.Minute)
		if r := d.Reasons(); len(r) != 2 || !strings.Contains(r[1].Reason, `"stop" at 2000-01-01T01:00:00Z`) {
			t.Errorf("got %+v, want one of each kind", r)
		}
		jobs.hold(0)
		pass(time.Hour)
		if jobs.held() != 0 {
			t.Error("a notice counts again")
		}
	})
}

// TestOneFaultHidesNoOtherNotice: each kind is asked for, whatever became of the other.
func TestOneFaultHidesNoOtherNotice(t *testing.T) {
	for by, broken := range map[string]string{"spot": statePath, "autoscaling": spotPath} {
		f := &fakeMetadata{broken: broken, paths: map[string]string{statePath: "Terminated", spotPath: `{"action":"terminate"}`}}
		inBubble(t, f, func(t *testing.T, d *Drain, _ *jobs) {
			pass(time.Minute)
			if r := d.Reasons(); len(r) != 1 || r[0].By != by {
				t.Errorf("without %s: %+v", broken, r)
			}
		})
	}
}

// TestAbsentMetadataIsAskedRarely: a service that does not answer costs next to nothing, and is found when it does.
func TestAbsentMetadataIsAskedRarely(t *testing.T) {
	f := &fakeMetadata{gone: true, paths: map[string]string{statePath: "Terminated"}}
	inBubble(t, f, func(t *testing.T, d *Drain, _ *jobs) {
		pass(24 * time.Hour)
		f.mu.Lock()
		if f.asked > 2*300 {
			t.Errorf("asked %d times in a day", f.asked)
		}
		f.gone = false
		f.mu.Unlock()
		pass(maxAbsentPause)
		if r := d.Reasons(); len(r) != 1 {
			t.Errorf("got %+v, want one notice", r)
		}
	})
}

// FuzzSpotNotice: only an action is a notice, none is a panic, and a reason stays one short line.
func FuzzSpotNotice(f *testing.F) {
	f.Add(`{"action":"terminate","time":"2026-11-22T08:22:00Z"}`)
	f.Add(`{"action":"hibernate","time":"9999-12-31T23:59:59-23:59"}`)
	f.Add(`{"action":"stop","time":5}`)
	f.Add(`{"action":5}`)
	f.Add(`{"action":"` + strings.Repeat("\U0010ffff", 21) + `"}`)
	f.Add(`{"action":"a\n\u009b31m"}x`)
	f.Add("<html>\r\n")
	f.Fuzz(func(t *testing.T, body string) {
		reason := spotNotice(body)
		if reason != "" && !strings.Contains(body, "{") || len(reason) > 300 || strings.ContainsFunc(reason, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("%q: %q", body, reason)
		}
	})
}
