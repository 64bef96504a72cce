package launch

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/planted"
)

// asked keeps what the supervisor was asked for.
type asked struct {
	Runs
	req runs.Request
}

func (a *asked) Start(_ context.Context, r runs.Request, _ runs.Handover) (runs.Run, error) {
	a.req = r
	return runs.Run{ID: "x"}, nil
}

// A umask of 0 is the web unit's own choice; in a request 0 means that nobody chose.
func TestAUmaskOfNothingArrives(t *testing.T) {
	for chosen, want := range map[int]int{0: command.NoUmask, 0o027: 0o027} {
		l := &Launcher{Version: func() string { return "" }, Host: func() string { return "" },
			Profile: func(context.Context, appenv.ProfileOptions) (appenv.Profile, error) {
				return appenv.Profile{Umask: chosen}, nil
			}}
		var r runs.Request
		if err := l.complete(t.Context(), appenv.ProfileOptions{}, &r); err != nil || r.Umask != want {
			t.Errorf("a profile with umask %o asks for %o, %v; want %o", chosen, r.Umask, err, want)
		}
	}
}

// Forgotten consoles held memory for months (dokku#7938): each terminal has both limits, unless the person or
// the configuration says otherwise. A command without a terminal has none that it was not given.
func TestTerminalsHaveLimits(t *testing.T) {
	for name, c := range map[string]struct {
		req                   api.ExecRequest
		idle, timeout         time.Duration // wanted
		chosen                string
		configIdle, configMax time.Duration
	}{
		"the agent's":    {api.ExecRequest{Mode: api.Terminal}, time.Hour, 9 * time.Hour, "", time.Hour, 9 * time.Hour},
		"the person's":   {api.ExecRequest{Mode: api.Terminal, Idle: time.Minute, Timeout: 2 * time.Hour}, time.Minute, 2 * time.Hour, "", time.Hour, 9 * time.Hour},
		"switched off":   {api.ExecRequest{Mode: api.Terminal}, 0, 0, "", 0, 0},
		"no terminal":    {api.ExecRequest{Mode: api.Detached}, 0, 0, "", time.Hour, 9 * time.Hour},
		"another's user": {api.ExecRequest{Mode: api.Pipes, User: "postgres"}, 0, 0, "postgres", time.Hour, 9 * time.Hour},
	} {
		fake := &asked{}
		l := &Launcher{Runs: fake, Version: func() string { return "" }, Host: func() string { return "" }, Log: planted.Log(t), Idle: c.configIdle, Session: c.configMax,
			Profile: func(context.Context, appenv.ProfileOptions) (appenv.Profile, error) {
				return appenv.Profile{Env: []string{"PLANTED=" + planted.Value}}, nil
			}}
		c.req.Args = []string{"true"}
		l.NoNewPrivs = true
		start, err := l.Prepare(t.Context(), api.Caller{Owner: true, Session: "ada"}, c.req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := start(t.Context(), runs.Handover{}); err != nil {
			t.Fatal(err)
		}
		if fake.req.Idle != c.idle || fake.req.Timeout != c.timeout || fake.req.Meta[runs.MetaChosenUser] != c.chosen || fake.req.Meta["login"] != "ada" || !fake.req.NoNewPrivs {
			r := fake.req
			t.Errorf("%s: asked for idle %s, timeout %s, %v, new privileges %t", name, r.Idle, r.Timeout, r.Meta, !r.NoNewPrivs)
		}
	}
}

// A job can have megabytes of arguments: with exec.audit they are one line of the journal, which must keep the others.
func TestAuditIsBounded(t *testing.T) {
	var said bytes.Buffer
	l := &Launcher{Audit: "full", Log: slog.New(slog.NewTextHandler(&said, nil))}
	l.audit("run started", runs.Run{}, []string{"/bin/true", "first", strings.Repeat("x", 2<<20)})
	if said.Len() > 6<<10 || !strings.Contains(said.String(), "/bin/true first xxx") || !strings.Contains(said.String(), "argv_bytes=2097169 argv_sha256=") {
		t.Errorf("%d bytes: %.200s", said.Len(), &said)
	}
}

// A refusal for the path's owners says what to do, and the exec ends as refused.
func TestARefusalForOwnersHasItsHint(t *testing.T) {
	var asked appenv.ProfileOptions
	l := &Launcher{Profile: func(_ context.Context, o appenv.ProfileOptions) (appenv.Profile, error) {
		asked = o
		return appenv.Profile{}, appenv.OwnerError{Problem: "what", Hint: "do this"}
	}}
	_, err := l.Prepare(t.Context(), api.Caller{Owner: true}, api.ExecRequest{Args: []string{"true"}, User: "root", AppEnv: true})
	e, ok := errors.AsType[*api.Error](err)
	if !ok || e.Message != "what" || e.Hint != "do this" || e.Exit != command.CodeRefused || !asked.AppEnv || asked.User != "root" {
		t.Errorf("%+v, %v", err, asked)
	}
}

// older is a supervisor that knows no lease.
type older struct {
	Runs
	asked []runs.Request
}

func (o *older) Begin(_ context.Context, r runs.Request) (runs.Run, func() (runs.Run, error), error) {
	if o.asked = append(o.asked, r); r.Lease != 0 || r.LeaseFrom != 0 {
		return runs.Run{}, nil, &runs.Refused{Status: 400, Kind: runs.KindNoLease, Message: "unknown field"}
	}
	return runs.Run{ID: r.ID}, nil, nil
}

// A job is due while the supervisor of before an upgrade still has a session: it runs.
func TestAJobStartsUnderASupervisorThatKeepsNoLease(t *testing.T) {
	old := &older{}
	l := &Launcher{Runs: old, Version: func() string { return "" }, Host: func() string { return "" }, Log: planted.Log(t),
		Profile: func(context.Context, appenv.ProfileOptions) (appenv.Profile, error) { return appenv.Profile{}, nil }}
	run, _, err := l.Begin(t.Context(), appenv.ProfileOptions{}, runs.Request{ID: "x", Args: []string{"true"}, Lease: time.Minute, LeaseFrom: 1})
	if err != nil || run.ID != "x" || len(old.asked) != 2 || old.asked[0].Lease != time.Minute || old.asked[1].Lease != 0 {
		t.Errorf("%+v, %v; asked for %+v", run, err, old.asked)
	}
}
