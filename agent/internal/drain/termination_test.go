package drain

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"beanstalk-agent/packaging/testbed/gotool"
	"beanstalk-agent/packaging/testbed/planted"
)

// watch runs a TerminationWatch until the test ends and returns what it hands on.
func watch(t *testing.T, endpoint string, onNotice func(Termination)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &TerminationWatch{Endpoint: endpoint, Interval: 100 * time.Millisecond, Log: planted.Log(t), OnNotice: onNotice}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
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
			watch(t, gotool.Metadata(t, nil, args...), func(n Termination) { d.start(n.By, n.Reason) })
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

// fakeMetadata is a metadata service in memory, for what AWS's mock cannot do: fail, forget its
// token, be absent. It proves nothing about the real one.
type fakeMetadata struct {
	mu     sync.Mutex
	gone   bool
	broken string // a path that is answered 500
	token  string
	paths  map[string]string
	asked  int
	tokens int
}

func (f *fakeMetadata) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if f.gone {
		return nil, errors.New("no route to host")
	}
	w := httptest.NewRecorder()
	path, isData := strings.CutPrefix(r.URL.Path, "/latest/meta-data/")
	body, found := f.paths[path]
	switch {
	case r.Method == "PUT":
		f.tokens++
		w.WriteString(f.token)
	case r.Header.Get("X-aws-ec2-metadata-token") != f.token:
		w.WriteHeader(401)
	case path == f.broken:
		w.WriteHeader(500)
	case !isData || !found:
		w.WriteHeader(404)
	default:
		w.WriteString(body)
	}
	return w.Result(), nil
}

func (f *fakeMetadata) do(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// inBubble runs claim with a watch over f at its default pace.
func inBubble(t *testing.T, f *fakeMetadata, claim func(t *testing.T, notices *[]Termination)) {
	synctest.Test(t, func(t *testing.T) {
		var notices []Termination
		w := &TerminationWatch{Log: planted.Log(t), OnNotice: func(n Termination) { f.do(func() { notices = append(notices, n) }) }}
		w.init()
		w.client.Transport = f
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- w.run(ctx) }()
		claim(t, &notices)
		cancel()
		<-ended
	})
}

// pass lets d go by and whatever is due then come to rest.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestEachNoticeIsToldOnce(t *testing.T) {
	f := &fakeMetadata{token: "t", paths: map[string]string{"autoscaling/target-lifecycle-state": "InService"}}
	inBubble(t, f, func(t *testing.T, notices *[]Termination) {
		pass(time.Minute)
		for _, harmless := range []string{"Standby", "Detached", "Warmed:Stopped"} {
			f.do(func() { f.paths["autoscaling/target-lifecycle-state"] = harmless })
			pass(time.Minute)
		}
		if len(*notices) != 0 {
			t.Errorf("no end announced, but got %+v", *notices)
		}
		f.do(func() {
			f.paths["autoscaling/target-lifecycle-state"] = "Terminated"
			f.paths["spot/instance-action"] = `{"action":"stop","time":"2000-01-01T01:00:00Z"}`
		})
		pass(time.Minute)
		if len(*notices) != 2 || !strings.Contains((*notices)[1].Reason, `"stop" at 2000-01-01T01:00:00Z`) {
			t.Errorf("got %+v, want one of each kind", *notices)
		}
		if f.tokens != 1 {
			t.Errorf("%d tokens asked for, want 1", f.tokens)
		}
	})
}

// TestForgottenTokenIsRenewed: a 401 costs one poll, not the watch.
func TestForgottenTokenIsRenewed(t *testing.T) {
	f := &fakeMetadata{token: "old", paths: map[string]string{}}
	inBubble(t, f, func(t *testing.T, notices *[]Termination) {
		pass(time.Minute)
		f.do(func() { f.token = "new"; f.paths["spot/instance-action"] = "not json" })
		pass(time.Minute)
		if len(*notices) != 1 || (*notices)[0].By != "spot" {
			t.Errorf("got %+v, want one spot notice", *notices)
		}
	})
}

// TestOneFaultHidesNoOtherNotice: each kind is asked for, whatever became of the other.
func TestOneFaultHidesNoOtherNotice(t *testing.T) {
	for by, broken := range map[string]string{"spot": "autoscaling/target-lifecycle-state", "autoscaling": "spot/instance-action"} {
		f := &fakeMetadata{token: "t", broken: broken, paths: map[string]string{"autoscaling/target-lifecycle-state": "Terminated", "spot/instance-action": "{}"}}
		inBubble(t, f, func(t *testing.T, notices *[]Termination) {
			pass(time.Minute)
			if len(*notices) != 1 || (*notices)[0].By != by {
				t.Errorf("without %s: %+v", broken, *notices)
			}
		})
	}
}

// TestAbsentMetadataIsAskedRarely: off EC2 the watch costs next to nothing, but still finds a
// service that appears.
func TestAbsentMetadataIsAskedRarely(t *testing.T) {
	f := &fakeMetadata{gone: true, token: "t", paths: map[string]string{"autoscaling/target-lifecycle-state": "Terminated"}}
	inBubble(t, f, func(t *testing.T, notices *[]Termination) {
		pass(24 * time.Hour)
		if f.asked > 300 {
			t.Errorf("asked %d times in a day", f.asked)
		}
		f.do(func() { f.gone = false })
		pass(maxAbsentPause)
		if len(*notices) != 1 {
			t.Errorf("got %+v, want one notice", *notices)
		}
	})
}

// FuzzSpotNotice: any answer is a notice, none is a panic, and a reason stays one short line.
func FuzzSpotNotice(f *testing.F) {
	f.Add(`{"action":"terminate","time":"2026-11-22T08:22:00Z"}`)
	f.Add(`{"action":"hibernate","time":"9999-12-31T23:59:59-23:59"}`)
	f.Add(`{"action":5}`)
	f.Add(`{"action":"` + strings.Repeat("\U0010ffff", 21) + `"}`)
	f.Add(`{"action":"a\n\u009b31m"}x`)
	f.Add("<html>\r\n")
	f.Fuzz(func(t *testing.T, body string) {
		n := spotNotice(body)
		if n.By != "spot" || n.Reason == "" || len(n.Reason) > 300 || strings.ContainsFunc(n.Reason, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("%q: %+v", body, n)
		}
	})
}
