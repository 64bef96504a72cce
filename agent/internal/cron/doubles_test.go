package cron

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
	d := &doubles{jobs: func() []scheduler.Job { return jobs }, own: func() string { return "prod-clone" },
		log: slog.New(slog.NewTextHandler(&said, nil))}
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
		if d.log = planted.Log(t); d.jobs == nil {
			d.jobs = func() []scheduler.Job { return jobs[1:2] }
		}
		if d.look(t.Context(), storeOf(t, endpoint, d.own(), "shop")); len(d.lines()) > 0 {
			t.Errorf("%s: %v", name, d.lines())
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
