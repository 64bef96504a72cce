package cron

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/packaging/testbed/planted"
	"beanstalk-agent/packaging/testbed/versity"
	"beanstalk-agent/scheduler"
)

// storeOf is the registers of an environment, or of a group of it, in the bucket of fleetAt.
func storeOf(t *testing.T, endpoint, environment, group string) *groupStore {
	t.Helper()
	aws := awsAt(t, endpoint, map[string]string{"AWS_ACCESS_KEY_ID": versity.AccessKey, "AWS_SECRET_ACCESS_KEY": versity.SecretKey})
	s, err := claim.New(claim.Config{Bucket: "bucket", Prefix: "claims", Region: "us-east-1", Environment: environment, Group: group,
		Owner: "i-" + environment, Endpoint: endpoint, Credentials: aws.Credentials(), Logger: planted.Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	return &groupStore{s, group}
}

func cronJobs(t *testing.T, crontab string) []scheduler.Job {
	t.Helper()
	table, err := scheduler.Parse("crontab", []byte(crontab), scheduler.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return table.Jobs
}

// ran has every job run once in a store.
func ran(t *testing.T, s *groupStore, jobs []scheduler.Job) {
	t.Helper()
	for _, j := range jobs {
		f := scheduler.Firing{Job: j, Due: time.Now().Truncate(time.Second), Attempt: 1}
		f.Job.Overlap = scheduler.Allow
		if o, err := s.Claim(t.Context(), request(f)); err != nil || o.State != claim.Won {
			t.Fatal(o, err)
		}
	}
}

// A clone of production, and whoever shares a bundle, is told at its first look which environments run its jobs too,
// and how to have them run once; what only has a name in common, or is its own, is none of them.
func TestDoublesAreNoticed(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a gateway")
	}
	t.Parallel()
	endpoint := versity.Start(t, "bucket")[0]
	jobs := cronJobs(t, "@every 1m bin/invoices\n@every 1h bin/report\n@every 1m bin/mine\n")
	names := jobs[0].Name + ", " + jobs[1].Name
	ran(t, storeOf(t, endpoint, "prod-web", ""), jobs[:2])
	ran(t, storeOf(t, endpoint, "prod-worker", "shop"), jobs[:1])
	other := cronJobs(t, "@every 1m bin/other\n")
	other[0].Name = jobs[2].Name
	ran(t, storeOf(t, endpoint, "staging", ""), other)

	var said bytes.Buffer
	own := storeOf(t, endpoint, "prod-clone", "")
	var notices []string
	notify := func(who string, jobs []string) { notices = append(notices, who+": "+firstNames(jobs)) }
	d := &doubles{jobs: func() []scheduler.Job { return jobs }, own: func() string { return "prod-clone" },
		log: slog.New(slog.NewTextHandler(&said, nil)), notify: notify}
	d.look(t.Context(), own)
	var text []string
	for _, l := range d.lines() {
		text = append(text, l.Text)
		if l.State != api.Warn || !strings.Contains(l.Hint, "group: NAME") || !strings.Contains(l.Hint, "process_types:") {
			t.Errorf("the line is %+v", l)
		}
	}
	want := "prod-web runs these jobs too: " + names + "\nprod-worker in group shop runs these jobs too: " + jobs[0].Name
	if got := strings.Join(text, "\n"); got != want {
		t.Errorf("status says\n%s\nwant\n%s", got, want)
	}
	d.look(t.Context(), own)
	for range 2 { // a second instance, whose agent restarts: one notice a day is sent for all
		another := &doubles{jobs: d.jobs, own: d.own, log: planted.Log(t), notify: notify}
		another.look(t.Context(), storeOf(t, endpoint, "prod-clone", ""))
	}
	if slices.Sort(notices); !slices.Equal(notices, []string{"prod-web: " + names, "prod-worker in group shop: " + jobs[0].Name}) {
		t.Errorf("notices of %q", notices)
	}
	if n := strings.Count(said.String(), "runs these jobs too"); n != 2 {
		t.Errorf("logged %d times:\n%s", n, &said)
	}
	if strings.Contains(said.String(), "bin/") {
		t.Errorf("the log has a command:\n%s", &said)
	}

	for name, d := range map[string]*doubles{
		"the same environment, before it had a group": {own: func() string { return "prod-web" }},
		"its jobs are off here":                       {own: func() string { return "prod-clone" }, jobs: func() []scheduler.Job { return nil }},
	} {
		d.notify = notify
		if d.log = planted.Log(t); d.jobs == nil {
			d.jobs = func() []scheduler.Job { return jobs[1:2] }
		}
		if d.look(t.Context(), storeOf(t, endpoint, d.own(), "shop")); len(d.lines()) > 0 {
			t.Errorf("%s: %v", name, d.lines())
		}
	}
}

// Fifty registers that somebody has made up, newer than all others, hide a double. Then status says that not all were
// looked at; where all were it does not.
func TestDoublesThatAreNotLookedAtAreSaid(t *testing.T) {
	jobs := cronJobs(t, "@every 1m bin/invoices\n")
	for _, forged := range []int{doubleReads - 1, doubleReads} {
		bucket := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Etag", `"x"`)
			if !r.URL.Query().Has("list-type") {
				io.WriteString(w, `{"version":2,"runs":[]}`)
				return
			}
			io.WriteString(w, "<ListBucketResult>")
			for i := range forged + 1 {
				fmt.Fprintf(w, "<Contents><Key>claims/e%d/%s.json</Key><LastModified>%s</LastModified></Contents>", i,
					jobs[0].Name, time.Now().Add(-time.Duration(i)*time.Second).UTC().Format(time.RFC3339))
			}
			io.WriteString(w, "</ListBucketResult>")
		}))
		t.Cleanup(bucket.Close)
		d := &doubles{jobs: func() []scheduler.Job { return jobs }, own: func() string { return "prod" }, log: planted.Log(t)}
		d.look(t.Context(), storeOf(t, bucket.URL, "prod", ""))
		lines := d.lines()
		if got, want := len(lines), map[bool]int{true: 1}[forged == doubleReads]; got != want || got > 0 && lines[0].State != api.Warn {
			t.Errorf("%d registers beside the double: %v", forged, lines)
		}
	}
}

// A notice that cannot be sent for want of the store is sent after a later look.
func TestADoubleIsReportedWhenTheStoreIsBack(t *testing.T) {
	var away atomic.Bool
	store := versity.Careless(t)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		to, _ := url.Parse(store)
		httputil.NewSingleHostReverseProxy(to).ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	n := 0
	d := &doubles{log: planted.Log(t), notify: func(string, []string) { n++ }}
	for i, want := range []int{0, 1, 1} {
		away.Store(i == 0)
		ctx, cancel := context.WithTimeout(t.Context(), []time.Duration{time.Second, time.Minute}[min(i, 1)])
		d.report(ctx, storeOf(t, proxy.URL, "prod", ""), "prod-worker", []string{"a"})
		if cancel(); n != want {
			t.Errorf("after %d tries %d notices, want %d", i+1, n, want)
		}
	}
}

// An environment that has stopped, and one that ran the job by hand, is no double.
func TestDoublesAreOfToday(t *testing.T) {
	jobs := cronJobs(t, "@every 1m bin/invoices\n0 4 * * * bin/nightly\n")
	minutely, nightly := jobs[0], jobs[1]
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) claim.Run {
		return claim.Run{Slot: now.Add(-d), Claimed: now.Add(-d), Command: commandHash(minutely)}
	}
	of := func(r claim.Run, change func(*claim.Run)) claim.Run { change(&r); return r }
	for name, c := range map[string]struct {
		job  scheduler.Job
		run  claim.Run
		want bool
	}{
		"now":                    {minutely, at(0), true},
		"of an hour ago":         {minutely, at(time.Hour), false},
		"nightly":                {nightly, of(at(8*time.Hour), func(r *claim.Run) { r.Command = commandHash(nightly) }), true},
		"two days ago":           {nightly, of(at(48*time.Hour), func(r *claim.Run) { r.Command = commandHash(nightly) }), false},
		"by hand":                {minutely, of(at(0), func(r *claim.Run) { r.Manual = true }), false},
		"another command":        {minutely, of(at(0), func(r *claim.Run) { r.Command = "" }), false},
		"our own, of the group":  {minutely, of(at(0), func(r *claim.Run) { r.Environment = "prod" }), false},
		"a slot of another age":  {minutely, of(at(0), func(r *claim.Run) { r.Slot = now.AddDate(7000, 0, 0) }), false},
		"a claim of the future":  {minutely, at(-50 * time.Hour), false},
		"a name of other people": {minutely, of(at(0), func(r *claim.Run) { r.Environment = "\x1b[31m" + strings.Repeat("x", 1000) }), true},
	} {
		who := runners(c.job, claim.Other{Environment: "green"}, claim.Register{Runs: []claim.Run{c.run}}, "prod", now)
		if len(who) > 0 != c.want {
			t.Errorf("%s: %q", name, who)
		}
		if len(who) > 0 && (strings.Contains(who[0], "\x1b") || len(who[0]) > 100) {
			t.Errorf("%s: %q", name, who)
		}
	}
}

// Each agent looks a minute after its start and then once an hour, also where a look fails.
func TestDoublesAreLookedForOnceAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		looks := 0
		d := &doubles{open: func() (*groupStore, error) { looks++; return nil, errNoStore }}
		d.watch(ctx, "i-1")
		if looks != 24 {
			t.Errorf("looked %d times in a day", looks)
		}
	})
}

// The first deployment of a clone brings its jobs some minutes after its agent has started: the first look is then, and
// an agent without jobs asks nobody.
func TestDoublesAreLookedForAfterTheFirstDeployment(t *testing.T) {
	for name, since := range map[string]time.Duration{"at once": 0, "in five minutes": 5 * time.Minute, "never": 100 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 48*time.Hour)
			defer cancel()
			begin, asked := time.Now(), 0
			var first, last time.Duration
			d := &doubles{log: planted.Log(t), own: func() string { return "prod" }, jobs: func() []scheduler.Job {
				if asked++; time.Since(begin) < since {
					return nil
				}
				if last = time.Since(begin); first == 0 {
					first = last
				}
				return []scheduler.Job{{}}
			}, open: func() (*groupStore, error) { return lookedAt(t), nil }}
			d.watch(ctx, "i-1")
			if name != "never" && (first < since || first > 2*since+2*time.Minute || last < 46*time.Hour) {
				t.Errorf("%s: the first look after %s, the last after %s", name, first, last)
			}
			if asked > 48*2+10 {
				t.Errorf("%s: asked %d times in two days", name, asked)
			}
		})
	}
}

// lookedAt is a store in which no look finds anything.
func lookedAt(t *testing.T) *groupStore {
	s, err := claim.New(claim.Config{Bucket: "bucket", Region: "us-east-1", Environment: "prod", Owner: "i-1",
		Credentials: aws.AnonymousCredentials{}, Client: &http.Client{Transport: nobody{}}})
	if err != nil {
		t.Fatal(err)
	}
	return &groupStore{s, ""}
}

type nobody struct{}

func (nobody) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("nobody is there")
}
