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
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/awsconf"
	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/notify"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/planted"
	"beanstalk-agent/packaging/testbed/versity"
	"beanstalk-agent/scheduler"
)

// fleetAt is the fleet as an instance of that id ("" where none is known) sees it, with its store at endpoint.
func fleetAt(t *testing.T, endpoint, id string) *fleet {
	t.Helper()
	c, identify := unidentifiedAt(t, endpoint, id)
	identify()
	return c
}

// silent is the id of an instance whose metadata service does not answer.
const silent = "?"

func unidentifiedAt(t *testing.T, endpoint, id string) (c *fleet, identify func()) {
	t.Helper()
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
	aws := awsAt(t, endpoint, keys)
	log := planted.Log(t)
	inst := platform.NewInstance(t.Context(), platform.Options{Region: "us-east-1", IMDS: aws})
	identify = func() {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); inst.Run(ctx, log) }()
		t.Cleanup(func() { cancel(); <-ended })
		<-inst.Identified()
	}
	c = newFleet(Config{App: app.New(app.Config{}, inst), AWS: aws, Runs: noSupervisor{}, Claims: "s3://bucket/claims", Log: log})
	t.Cleanup(func() { c.outcomes.close(0) })
	return c, identify
}

func awsAt(t *testing.T, endpoint string, env map[string]string) *awsconf.AWS {
	t.Helper()
	aws, err := awsconf.New(awsconf.Config{Region: "us-east-1", S3Endpoint: endpoint, Getenv: func(name string) string { return env[name] }})
	if err != nil {
		t.Fatal(err)
	}
	return aws
}

// noSupervisor knows no run.
type noSupervisor struct{ Runs }

func (noSupervisor) Get(context.Context, string) (runs.Run, error) {
	return runs.Run{}, runs.ErrUnknown
}

// oneRun is a supervisor that knows one run.
type oneRun struct {
	noSupervisor
	id  string
	run runs.Run
}

func (o oneRun) Get(_ context.Context, id string) (runs.Run, error) {
	if id == o.id {
		return o.run, nil
	}
	return runs.Run{}, runs.ErrUnknown
}

func (o oneRun) List(context.Context, runs.Filter) ([]runs.Run, error) {
	o.run.ID = o.id
	return []runs.Run{o.run}, nil
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

// write notes an outcome and waits until it is in the register.
func write(c *fleet, f scheduler.Firing, text string) {
	c.finish(f, nil, text, "")
	c.outcomes.writers.Wait()
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
			_, err := fleetAt(t, "http://127.0.0.1:9", "").claim(t.Context(), firing(t, c.change))
			if isUnclaimed(err) == c.runs {
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
	_, err := fleetAt(t, store.URL, silent).claim(t.Context(), firing(t, func(*scheduler.Job) {}))
	if !isUnclaimed(err) || asked.Load() > 0 {
		t.Errorf("got %v, and the store was asked %d times", err, asked.Load())
	}
}

// A recovery from what another instance reported is reported, and so it is after a restart. What this process reported
// itself it knows.
func TestClaimSaysHowTheRunBeforeEnded(t *testing.T) {
	t.Parallel()
	store := versity.Start(t, "bucket")[0]
	a, b := fleetAt(t, store, "i-0123456789abcdef0"), fleetAt(t, store, "i-0fedcba9876543210")
	f := firing(t, func(*scheduler.Job) {})
	run := func(c *fleet, outcome string, want notify.Kind) {
		t.Helper()
		f.Due = f.Due.Add(time.Second)
		if _, err := c.claim(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		if got := c.outcomeBefore(f.Job.Name); got != want {
			t.Errorf("the run before: %q, want %q", got, want)
		}
		write(c, f, outcome)
	}
	run(a, "exit 1", "")
	run(a, "exit 1", "")
	run(b, runs.Good, notify.Failed)
	run(b, runs.Good, "")
	run(a, "exit 1", notify.Succeeded)
	run(fleetAt(t, store, "i-0123456789abcdef0"), runs.Good, notify.Failed) // a, restarted
	if got := a.outcomeBefore("another"); got != "" {
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
		claim := func(id string) error { _, err := fleetAt(t, store, id).claim(t.Context(), f); return err }
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
		write(fleetAt(t, store, id), f, "exit 3")
		if err := claim(id); !errors.Is(err, scheduler.ErrElsewhere) {
			t.Errorf("after its end, the same instance %q: %v", id, err)
		}
		f.Attempt = 2
		if err := claim(id); err != nil { // only who has the failed run in its history asks
			t.Errorf("the same instance %q for a further attempt: %v", id, err)
		}
		if err := claim("i-0fedcba9876543210"); !errors.Is(err, scheduler.ErrElsewhere) {
			t.Errorf("another instance for one: %v", err)
		}
	}
}

// A slot that was claimed before a restart and has no run is logged once, and noted in its register where it is surely
// ours: a later one may have come due meanwhile, and even be another instance's. How a run ended meanwhile is noted.
func TestClaimFinishesWhatARestartLeft(t *testing.T) {
	t.Parallel()
	store := versity.Start(t, "bucket")[0]
	for _, id := range []string{"i-0123456789abcdef0", ""} {
		f := firing(t, func(j *scheduler.Job) { j.Name, j.Overlap = "job"+id, scheduler.Allow })
		ran, forgotten := f.Due, f.Due.Add(time.Second)
		before := fleetAt(t, store, id)
		for range 2 {
			if _, err := before.claim(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			f.Due = f.Due.Add(time.Second)
		}
		now := fleetAt(t, store, id)
		var said bytes.Buffer
		now.log = slog.New(slog.NewTextHandler(&said, nil))
		now.runs = oneRun{id: runs.SlotID(f.Job.Name, ran, 1), run: runs.Run{State: runs.StateExited, ExitCode: 3}}
		for range 2 {
			if _, err := now.claim(t.Context(), f); err != nil {
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
		now.outcomes.writers.Wait()
		store, err := now.open()
		if err != nil {
			t.Fatal(err)
		}
		r, err := store.Read(t.Context(), f.Job.Name)
		if err != nil || len(r.Runs) != 4 || !strings.HasPrefix(r.Runs[2].Outcome, "not started") || r.Runs[3].Outcome != "exit 3" {
			t.Errorf("its register says %+v, %v", r.Runs, err)
		}
	}
}

// A status asked for before the metadata service has answered must not have the agent claim by its host's name: its own
// claims of an earlier process would be another's.
func TestStatusDoesNotDecideWhoClaims(t *testing.T) {
	t.Parallel()
	const id = "i-0123456789abcdef0"
	c, identify := unidentifiedAt(t, versity.Careless(t), id)
	c.status()
	identify()
	if s, err := c.open(); err != nil || s.Owner() != id {
		t.Errorf("claims as %q, %v", s.Owner(), err)
	}
}

// What was dealt with is kept as long as the register calls it unfinished: an agent runs for months.
func TestResolvedSlotsAreForgotten(t *testing.T) {
	f := &fleet{jobs: map[string]*fleetJob{}}
	first := time.Date(2026, 11, 1, 4, 0, 0, 0, time.UTC)
	second, due := first.Add(time.Hour), first.Add(2*time.Hour)
	f.resolve("a", first)
	f.resolve("a", second)
	f.forgetResolved(scheduler.Firing{Job: scheduler.Job{Name: "a"}, Due: due}, []claim.Run{{Slot: second}})
	if f.isResolved("a", first) || !f.isResolved("a", second) {
		t.Errorf("kept: the first %v, the second %v", f.isResolved("a", first), f.isResolved("a", second))
	}
}

// A cron file may have other names each time it is read.
func TestForeignNamesAreForgotten(t *testing.T) {
	c := &fleet{jobs: map[string]*fleetJob{}}
	for i := range 3 * maxFleetJobs {
		if c.job(fmt.Sprint(i)); len(c.jobs) > maxFleetJobs {
			t.Fatalf("after %d jobs %d are kept", i, len(c.jobs))
		}
	}
}

// A nightly job's run that ended while there was no agent is noted when the next process begins, before the others call
// it lost; a slot that was claimed and not started is still owed, and starts.
func TestWhatEndedWithoutAnAgentIsNotedAtStart(t *testing.T) {
	t.Parallel()
	store := versity.Start(t, "bucket")[0]
	const id = "i-0123456789abcdef0"
	for _, ran := range []bool{true, false} {
		f := firing(t, func(j *scheduler.Job) { j.Name = fmt.Sprint("job", ran) })
		if _, err := fleetAt(t, store, id).claim(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		now := fleetAt(t, store, id)
		if ran {
			now.runs = oneRun{id: runs.SlotID(f.Job.Name, f.Due, 1), run: runs.Run{State: runs.StateExited, ExitCode: 3}}
		}
		now.leftoversOf(t.Context(), f.Job)
		now.outcomes.writers.Wait()
		s, err := now.open()
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Read(t.Context(), f.Job.Name)
		if want := map[bool]string{true: "exit 3", false: ""}[ran]; err != nil || len(r.Runs) != 1 || r.Runs[0].Outcome != want {
			t.Errorf("ran %v: the register says %+v, %v", ran, r.Runs, err)
		}
		h, err := now.claim(t.Context(), f)
		if ran != errors.Is(err, scheduler.ErrElsewhere) || !ran && h == nil {
			t.Errorf("ran %v: claimed again with %v, %v", ran, h, err)
		}
	}
}
