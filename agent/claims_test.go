package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/awsconf"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/launch"
	"beanstalk-agent/agent/internal/notify"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/agent/internal/supervisor"
	"beanstalk-agent/packaging/testbed/planted"
	"beanstalk-agent/packaging/testbed/versity"
	"beanstalk-agent/scheduler"
)

// claimsAt is who decides on an instance of that id ("" where none is known)
// with its store at endpoint.
func claimsAt(t *testing.T, endpoint, id string) *claims {
	t.Helper()
	c, identify := unidentifiedAt(t, endpoint, id)
	identify()
	return c
}

// silent is the id of an instance whose metadata service does not answer.
const silent = "?"

func unidentifiedAt(t *testing.T, endpoint, id string) (c *claims, identify func()) {
	t.Helper()
	cfg := config.Default()
	cfg.Cron.Claims, cfg.AWS.Region = "s3://bucket/claims", "us-east-1"
	keys := map[string]string{"AWS_ACCESS_KEY_ID": versity.AccessKey, "AWS_SECRET_ACCESS_KEY": versity.SecretKey}
	if id != "" {
		imds := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
			if id == silent {
				w.WriteHeader(http.StatusServiceUnavailable)
			} else if strings.HasSuffix(r.URL.Path, "/document") {
				io.WriteString(w, `{"instanceId":"`+id+`","region":"us-east-1","accountId":"123456789012"}`)
			}
		}))
		t.Cleanup(imds.Close)
		keys["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = imds.URL
	}
	log := planted.Log(t)
	aws, err := awsconf.New(awsconf.Config{Region: cfg.AWS.Region, S3Endpoint: endpoint, Getenv: func(name string) string { return keys[name] }})
	if err != nil {
		t.Fatal(err)
	}
	inst := platform.NewInstance(t.Context(), platform.Options{Region: "us-east-1", IMDS: aws})
	identify = func() {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); inst.Run(ctx, log) }()
		t.Cleanup(func() { cancel(); <-ended })
		<-inst.Identified()
	}
	return newClaims(cfg, inst, aws, &supervisor.Client{}, log), identify
}

// firing is one of a job that is due each second, so that a claim may take two.
func firing(t *testing.T, change func(*scheduler.Job)) scheduler.Firing {
	t.Helper()
	table, err := scheduler.Parse("crontab", []byte("@every 1s true"), scheduler.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	j := scheduler.Job{Name: "job", Schedule: table.Jobs[0].Schedule, Location: time.UTC}
	change(&j)
	return scheduler.Firing{Job: j, Due: time.Now().Truncate(time.Second), Reason: scheduler.Scheduled, Attempt: 1}
}

// What can be neither won nor lost does not run, unless the job says so; what
// every instance runs asks nobody.
func TestClaimWithoutAStore(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*scheduler.Job)
		runs   bool
	}{
		"by default":          {func(*scheduler.Job) {}, false},
		"on_claim_error: run": {func(j *scheduler.Job) { j.OnClaimError = scheduler.ClaimErrorRun }, true},
		"on: all":             {func(j *scheduler.Job) { j.On = scheduler.OnAll }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := claimsAt(t, "http://127.0.0.1:9", "").Claim(t.Context(), firing(t, c.change))
			if _, told := errors.AsType[unclaimed](err); told == c.runs {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Where a metadata service should tell who this is and does not, nothing is claimed:
// in the host's name a slot would be another's to the same agent once it knows better.
func TestNoClaimWithoutTheInstancesID(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	store := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer store.Close()
	err := claimsAt(t, store.URL, silent).Claim(t.Context(), firing(t, func(*scheduler.Job) {}))
	if _, told := errors.AsType[unclaimed](err); !told || asked.Load() > 0 {
		t.Errorf("got %v, and the store was asked %d times", err, asked.Load())
	}
}

// People hear of a recovery from what another instance told them of, and so they
// do after a restart; what this agent told itself it knows.
func TestClaimTellsOfTheRunBefore(t *testing.T) {
	t.Parallel()
	store := versity.Start(t, "bucket")[0]
	a, b := claimsAt(t, store, "i-0123456789abcdef0"), claimsAt(t, store, "i-0fedcba9876543210")
	f := firing(t, func(*scheduler.Job) {})
	run := func(who *claims, outcome string, want notify.Kind) {
		t.Helper()
		f.Due = f.Due.Add(time.Second)
		if err := who.Claim(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		if got := who.told(f.Job.Name); got != want {
			t.Errorf("told %q, want %q", got, want)
		}
		who.Finish(t.Context(), f.Job, f.Due, outcome)
	}
	run(a, "exit 1", "")
	run(a, "exit 1", "")
	run(b, launch.Good, notify.Failed)
	run(b, launch.Good, "")
	run(a, "exit 1", notify.Succeeded)
	run(claimsAt(t, store, "i-0123456789abcdef0"), launch.Good, notify.Failed) // a, restarted
	if got := a.told("another"); got != "" {
		t.Errorf("of a job never claimed: %q", got)
	}
}

// An agent that claimed a slot and was killed before it started the run claims
// it again when it is back: the supervisor knows whether it ran. Where only a
// host's name tells instances apart nobody can know that it is the same one.
func TestClaimAfterARestart(t *testing.T) {
	t.Parallel()
	store := versity.Careless(t) // one claimant at a time: conditions do not matter
	for _, id := range []string{"i-0123456789abcdef0", ""} {
		f := firing(t, func(j *scheduler.Job) { j.Name = "job" + id })
		claim := func(id string) error { return claimsAt(t, store, id).Claim(t.Context(), f) }
		if err := claim(id); err != nil {
			t.Fatal(err)
		}
		err := claim(id)
		if id != "" && err != nil || id == "" && !errors.Is(err, scheduler.ErrElsewhere) {
			t.Errorf("the same instance %q again: %v", id, err)
		}
		if err := claim("i-0fedcba9876543210"); !errors.Is(err, scheduler.ErrElsewhere) {
			t.Errorf("another instance: %v", err)
		}
		claimsAt(t, store, id).Finish(t.Context(), f.Job, f.Due, "exit 3")
		if err := claim(id); !errors.Is(err, scheduler.ErrElsewhere) {
			t.Errorf("after its end, the same instance %q: %v", id, err)
		}
		f.Attempt = 2
		if err := claim(id); id != "" && err != nil || id == "" && !errors.Is(err, scheduler.ErrElsewhere) {
			t.Errorf("the same instance %q for a further attempt: %v", id, err)
		}
		if err := claim("i-0fedcba9876543210"); !errors.Is(err, scheduler.ErrElsewhere) {
			t.Errorf("another instance for one: %v", err)
		}
	}
}

// A slot that was claimed before a restart and that no run is known of is told by
// name, once, and in its register where it is surely ours: a later one may have come due
// meanwhile, and even be another instance's. How a run ended meanwhile is noted there.
func TestClaimTellsOfWhatNeverStarted(t *testing.T) {
	t.Parallel()
	store := versity.Start(t, "bucket")[0]
	for _, id := range []string{"i-0123456789abcdef0", ""} {
		f := firing(t, func(j *scheduler.Job) { j.Name = "job" + id })
		ran, forgotten := f.Due, f.Due.Add(time.Second)
		before := claimsAt(t, store, id)
		for range 2 {
			if err := before.Claim(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			f.Due = f.Due.Add(time.Second)
		}
		now := claimsAt(t, store, id)
		var said bytes.Buffer
		now.log = slog.New(slog.NewTextHandler(&said, nil))
		now.find = func(_ context.Context, run string) (supervisor.Run, error) {
			if run == launch.SlotID(f.Job.Name, ran, 1) {
				return supervisor.Run{State: supervisor.StateExited, ExitCode: 3}, nil
			}
			return supervisor.Run{}, supervisor.ErrUnknown
		}
		for range 2 {
			if err := now.Claim(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			f.Due = f.Due.Add(time.Second)
		}
		if n := strings.Count(said.String(), "and not started"); n != 1 || !strings.Contains(said.String(), "due="+forgotten.UTC().Format("2006-01-02T15:04:05")) {
			t.Errorf("%q said %q, want %s once", id, said.String(), forgotten)
		}
		if id == "" {
			continue
		}
		await(t, "its register says so", func() bool {
			s, err := now.open()
			if err != nil {
				return false
			}
			r, err := s.Read(t.Context(), f.Job.Name)
			return err == nil && len(r.Runs) == 4 && strings.HasPrefix(r.Runs[2].Outcome, "not started") && r.Runs[3].Outcome == "exit 3"
		})
	}
}

// Whoever asks for the status before the metadata service has answered must not
// have the agent claim under its host's name: its own claims of an earlier life
// would be another's.
func TestStatusDoesNotDecideWhoClaims(t *testing.T) {
	t.Parallel()
	const id = "i-0123456789abcdef0"
	c, identify := unidentifiedAt(t, versity.Careless(t), id)
	c.lines()
	identify()
	if s, err := c.open(); err != nil || s.Owner() != id {
		t.Errorf("claims as %q, %v", s.Owner(), err)
	}
}
