package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"beanstalk-agent/packaging/testbed/planted"
)

// recorder is a transport that answers each request with the next status, the last one for ever.
type recorder struct {
	mu       sync.Mutex
	statuses []int
	header   http.Header
	at       []time.Time
	urls     []string
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = append(r.at, time.Now())
	r.urls = append(r.urls, req.URL.String())
	status := r.statuses[0]
	if len(r.statuses) > 1 {
		r.statuses = r.statuses[1:]
	}
	if status == 0 {
		return nil, errors.New("connection reset by peer")
	}
	return &http.Response{StatusCode: status, Header: r.header, Body: io.NopCloser(strings.NewReader("")), Request: req}, nil
}

func (r *recorder) times() []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]time.Time{}, r.at...)
}

// running starts n.Run in the bubble and returns a func that ends and waits for it.
func running(t *testing.T, n *Notifier) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- n.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

func mustNew(t *testing.T, c Config) *Notifier {
	t.Helper()
	if c.Log == nil {
		c.Log = planted.Log(t)
	}
	n, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func failed(job string) Event { return Event{Job: job, Kind: Failed, At: time.Now(), Exit: 1} }

// TestRetriesWithGrowingPauses, and honours the server's own wish.
func TestRetriesWithGrowingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web := &recorder{statuses: []int{500, 0, 429, 200}, header: http.Header{"Retry-After": {"60"}}}
		n := mustNew(t, Config{Targets: []Target{{Type: Slack, URL: "https://h.example/planted-5c1e"}}, Transport: web})
		stop := running(t, n)
		n.Notify(failed("a"))
		time.Sleep(10 * time.Minute)
		stop()
		var pauses []time.Duration
		for i, at := range web.times()[1:] {
			pauses = append(pauses, at.Sub(web.at[i]))
		}
		want := []time.Duration{60 * time.Second, 2 * time.Second, 60 * time.Second}
		if fmt.Sprint(pauses) != fmt.Sprint(want) {
			t.Errorf("pauses %v, want %v", pauses, want)
		}
		if st := n.Status().Targets[0]; st.Sent != 1 || st.Queued != 0 || st.LastError != "" {
			t.Errorf("got %+v, want one sent", st)
		}
	})
}

func TestRefusedForGoodIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web := &recorder{statuses: []int{404}}
		n := mustNew(t, Config{Targets: []Target{{Type: Slack, URL: "https://h.example/planted-5c1e"}}, Transport: web})
		stop := running(t, n)
		n.Notify(failed("a"))
		time.Sleep(time.Hour)
		stop()
		if st := n.Status().Targets[0]; len(web.at) != 1 || st.Dropped != 1 || !strings.Contains(st.LastError, "404") {
			t.Errorf("%d attempts, %+v; want one, dropped, with its reason", len(web.at), st)
		}
	})
}

func TestGivesUpAfterAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web := &recorder{statuses: []int{503}}
		n := mustNew(t, Config{Targets: []Target{{Type: Webhook, URL: "https://h.example/"}}, Transport: web})
		stop := running(t, n)
		n.Notify(failed("a"))
		time.Sleep(2 * time.Hour)
		stop()
		last := web.at[len(web.at)-1].Sub(web.at[0])
		if st := n.Status().Targets[0]; st.Dropped != 1 || last > giveUp+maxPause {
			t.Errorf("last attempt after %s, %+v", last, st)
		}
	})
}

// TestSlowTargetDelaysNoOther: each target has its own queue.
func TestSlowTargetDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web := &recorder{statuses: []int{200}}
		transport := roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "slow.example" {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return web.RoundTrip(r)
		})
		n := mustNew(t, Config{Transport: transport, Targets: []Target{
			{Type: Slack, URL: "https://slow.example/x"}, {Type: Slack, URL: "https://fast.example/x"}}})
		stop := running(t, n)
		for i := range 100 {
			n.Notify(failed(fmt.Sprint("job", i)))
		}
		time.Sleep(time.Second)
		if got := n.Status().Targets[1].Sent; got != 100 {
			t.Errorf("the fast target got %d of 100", got)
		}
		stop()
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestNotifyNeverBlocks: while Run does not run, events are counted, not waited for.
func TestNotifyNeverBlocks(t *testing.T) {
	n := mustNew(t, Config{})
	for range maxQueue + 10 {
		n.Notify(failed("a"))
	}
	if got := n.Status().Dropped; got != 10 {
		t.Errorf("dropped %d, want 10", got)
	}
}

// TestRunSendsWhatWaitsBeforeItEnds: an event just before the end is still sent.
func TestRunSendsWhatWaitsBeforeItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web := &recorder{statuses: []int{200}}
		n := mustNew(t, Config{Targets: []Target{{Type: Slack, URL: "https://h.example/x"}}, Transport: web})
		n.Notify(failed("a"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := n.Run(ctx); err != nil || len(web.at) != 1 {
			t.Errorf("Run: %v, %d sent", err, len(web.at))
		}
	})
}

func TestSuccessAfterFailureIsARecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web := &recorder{statuses: []int{200}}
		n := mustNew(t, Config{Transport: web, Targets: []Target{
			{Type: Slack, URL: "https://slack.example/x"}, {Type: CheckIn, URL: "https://hc.example/u", Jobs: []string{"a*"}}}})
		stop := running(t, n)
		for _, kind := range []Kind{Started, Succeeded, Started, Failed, Started, Succeeded, Succeeded} {
			n.Notify(Event{Job: "abc", Kind: kind, At: time.Now()})
			synctest.Wait()
		}
		n.Notify(failed("other"))
		synctest.Wait()
		stop()
		got := strings.NewReplacer("https://", "", ".example", "").Replace(strings.Join(web.urls, " "))
		if want := "hc/u/start hc/u hc/u/start slack/x hc/u/fail hc/u/start slack/x hc/u hc/u slack/x"; sorted(got) != sorted(want) {
			t.Errorf("sent\n%s\nwant\n%s", got, want)
		}
	})
}

// A job may name its targets. An unknown name must not mean silence.
func TestNamedTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web := &recorder{statuses: []int{200}}
		n := mustNew(t, Config{Transport: web, Targets: []Target{
			{Type: Slack, Name: "ops", URL: "https://ops.example"}, {Type: Slack, Name: "dev", URL: "https://dev.example"},
			{Type: CheckIn, URL: "https://hc.example/u", Jobs: []string{"job0"}}}})
		stop := running(t, n)
		for i, to := range [][]string{{"dev"}, {"dev", "ops"}, nil, {"dve"}} {
			e := failed(fmt.Sprint("job", i))
			e.To = to
			n.Notify(e)
		}
		synctest.Wait()
		stop()
		got := strings.NewReplacer("https://", "", ".example", "").Replace(strings.Join(web.urls, " "))
		if want := "dev hc/u/fail dev ops dev ops dev ops"; sorted(got) != sorted(want) {
			t.Errorf("sent %s, want %s", got, want)
		}
	})
}

// Another environment that runs the same jobs is no failure of one of them: it goes to who wants one of these jobs, by
// default too, never to a check-in, and holds no notice of a failure back.
func TestDoubledIsANoticeOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web := &recorder{statuses: []int{200}}
		target := func(name string, jobs []string, on ...Kind) Target {
			return Target{Type: Webhook, Name: name, URL: "https://" + name + ".example", Jobs: jobs, On: on}
		}
		n := mustNew(t, Config{Transport: web, Targets: []Target{target("all", nil), target("of-a", []string{"a"}), target("of-c", []string{"c"}),
			target("failed", nil, Failed), target("doubled", nil, Doubled), {Type: CheckIn, Name: "hc", URL: "https://hc.example"}}})
		stop := running(t, n)
		doubled := Event{Job: "prod-worker", Kind: Doubled, At: time.Now(), Jobs: []string{"a", "b"}}
		n.Notify(doubled)
		n.Notify(doubled)
		n.Notify(failed("prod-worker"))
		synctest.Wait()
		stop()
		got := strings.NewReplacer("https://", "", ".example", "").Replace(strings.Join(web.urls, " "))
		if want := "all of-a doubled all of-a doubled all failed hc/fail"; sorted(got) != sorted(want) {
			t.Errorf("sent %s, want %s", got, want)
		}
	})
}

// sorted makes the order between targets, which is not promised, not matter.
func sorted(s string) string {
	counts := map[string]int{}
	for _, f := range strings.Fields(s) {
		counts[f]++
	}
	return fmt.Sprint(counts)
}

// TestRealServer: over a real connection, the body arrives whole, with the type said.
func TestRealServer(t *testing.T) {
	got := make(chan string, 2)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- r.Method + " " + r.URL.Path + " " + r.Header.Get("Content-Type") + " " + r.Header.Get("X-Rollbar-Access-Token") + " " + string(body)
	}))
	defer s.Close()
	n := mustNew(t, Config{Targets: []Target{{Type: Webhook, URL: s.URL + "/in"}, {Type: Rollbar, URL: s.URL + "/item/", Token: "planted-5c1e"}}})
	stop := running(t, n)
	defer stop()
	n.Notify(nightly)
	for range 2 {
		select {
		case msg := <-got:
			if !strings.HasPrefix(msg, "POST /in application/json  {") && !strings.HasPrefix(msg, "POST /item/ application/json planted-5c1e {") {
				t.Errorf("got %s", msg)
			}
			if strings.Contains(msg, "no space") {
				t.Error("output was sent although no target asked for it")
			}
		case <-time.After(10 * time.Second):
			t.Fatal("nothing arrived in 10 s")
		}
	}
}

// TestSecretsStaySecret: no address or token in a log line, a status or a printed target, whatever
// goes wrong.
func TestSecretsStaySecret(t *testing.T) {
	redirects := httptest.NewServer(http.RedirectHandler("/elsewhere/planted-5c1e", http.StatusFound))
	defer redirects.Close()
	echoes := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, r.URL.Path+r.Header.Get("X-Rollbar-Access-Token"), 400)
	}))
	defer echoes.Close()
	var out bytes.Buffer
	targets := []Target{
		{Type: Slack, URL: "http://127.0.0.1:1/planted-5c1e"}, {Type: Webhook, URL: redirects.URL + "/planted-5c1e"},
		{Type: Slack, URL: echoes.URL + "/planted-5c1e"}, {Type: Rollbar, URL: echoes.URL, Token: "planted-5c1e"},
		{Type: Rollbar, URL: echoes.URL, Token: "planted-5c1e\n"},
	}
	log := slog.New(slog.NewJSONHandler(io.MultiWriter(&out, t.Output()), &slog.HandlerOptions{Level: slog.LevelDebug}))
	n := mustNew(t, Config{Targets: targets, Log: log})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n.Notify(nightly)
	n.Run(ctx)
	status, err := json.Marshal([]any{n.Status(), targets})
	if err != nil {
		t.Fatal(err)
	}
	log.Info("targets", "target", targets[0], "all", targets)
	all := out.String() + string(status) + fmt.Sprintf("%v %+v %#v %s", targets, targets, targets, targets[3])
	if strings.Contains(all, "planted-5c1e") {
		t.Errorf("a secret is shown in:\n%s", all)
	}
	for _, st := range n.Status().Targets {
		if st.LastError == "" {
			t.Errorf("%s: no error is shown", st.Name)
		}
	}
}

func TestCheckReportsAllFaults(t *testing.T) {
	_, err := New(Config{Log: planted.Log(t), Targets: []Target{
		{Type: "mail", Name: "a"}, {Type: Slack}, {Type: Rollbar}, {Type: Slack, URL: "hooks.example/planted-5c1e"},
		{Type: Webhook, URL: "https://x.example/", Jobs: []string{"["}, On: []Kind{"broken"}},
		{Type: Slack, URL: "${SLACK_URL}"},
	}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`"mail"`, `"slack-2": url is missing`, "post_server_item", "not an http", "syntax error", `"broken"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "planted-5c1e") || strings.Contains(err.Error(), "SLACK_URL") {
		t.Errorf("says too much:\n%v", err)
	}
}

// TestAddressesAreResolvedWhenUsed: a value that appears later is found by the next attempt.
func TestAddressesAreResolvedWhenUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web := &recorder{statuses: []int{200}}
		var mu sync.Mutex
		value := ""
		n := mustNew(t, Config{Targets: []Target{{Type: Slack, URL: "${SLACK_URL}"}}, Transport: web,
			Expand: func(s string) (string, error) {
				mu.Lock()
				defer mu.Unlock()
				return strings.ReplaceAll(s, "${SLACK_URL}", value), nil
			}})
		stop := running(t, n)
		n.Notify(failed("a"))
		synctest.Wait()
		mu.Lock()
		value = "https://now.example/x"
		mu.Unlock()
		time.Sleep(time.Minute)
		stop()
		if len(web.urls) != 1 || web.urls[0] != "https://now.example/x" {
			t.Errorf("asked %v", web.urls)
		}
	})
}

// TestRecoveryFromAFailureElsewhere: a job whose last failure another instance reported.
func TestRecoveryFromAFailureElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{statuses: []int{200}}
		n := mustNew(t, Config{Targets: []Target{{Type: Webhook, URL: "https://hooks.example/x"}}, Transport: r})
		stop := running(t, n)
		n.Notify(Event{Job: "j", Kind: Succeeded, At: time.Now(), Before: Succeeded})
		n.Notify(Event{Job: "j", Kind: Succeeded, At: time.Now()})
		n.Notify(Event{Job: "j", Kind: Succeeded, At: time.Now(), Before: Failed})
		n.Notify(Event{Job: "j", Kind: Succeeded, At: time.Now()})
		synctest.Wait()
		if got := len(r.times()); got != 1 {
			t.Errorf("%d notices, want one of the recovery", got)
		}
		n.Notify(failed("j"))
		n.Notify(Event{Job: "j", Kind: Succeeded, At: time.Now(), Before: Succeeded})
		synctest.Wait()
		if got := len(r.times()); got != 2 {
			t.Errorf("%d notices, want the failure and no second recovery", got)
		}
		stop()
	})
}

// Right after a boot the instance may be known by its id later than a job fails: each attempt says what is known then.
func TestNoticesSayWhereAsIsKnownWhenTheyAreSent(t *testing.T) {
	var bodies []string
	transport := &recorder{statuses: []int{503, 200}}
	synctest.Test(t, func(t *testing.T) {
		known := "ip-10-0-0-1"
		n, err := New(Config{Log: planted.Log(t), Targets: []Target{{Type: Webhook, URL: "https://x.example", On: []Kind{Failed}}},
			Where: func(context.Context) (string, string) { return known, "shop-prod" },
			Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				b, _ := io.ReadAll(r.Body)
				bodies = append(bodies, string(b))
				known = "i-0abc"
				return transport.RoundTrip(r)
			})})
		if err != nil {
			t.Fatal(err)
		}
		stop := running(t, n)
		n.Notify(Event{Job: "job", Kind: Failed, At: time.Now()})
		time.Sleep(time.Minute) // in the bubble
		stop()
	})
	if len(bodies) != 2 || !strings.Contains(bodies[0], `"host":"ip-10-0-0-1"`) || !strings.Contains(bodies[1], `"host":"i-0abc","environment":"shop-prod"`) {
		t.Errorf("sent %q", bodies)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
