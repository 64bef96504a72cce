package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

// asked is a backend that answers everything, and minds what it is asked.
type asked struct{ t *testing.T }

func (a *asked) List(context.Context, runs.Filter) ([]runs.Run, error) {
	return []runs.Run{{ID: "a"}}, nil
}
func (a *asked) Get(_ context.Context, id string) (runs.Run, error) {
	return runs.Run{ID: id}, nil
}
func (a *asked) Wait(ctx context.Context, id string) (runs.Run, error) { return a.Get(ctx, id) }
func (a *asked) Stop(ctx context.Context, id string, _ time.Duration) (runs.Run, error) {
	return a.Get(ctx, id)
}
func (a *asked) Attach(ctx context.Context, id string, _ session.Size, _ runs.Handover) (runs.Run, error) {
	return a.Get(ctx, id)
}
func (a *asked) Logs(_ context.Context, w io.Writer, _ string, _ int, _ bool) error {
	_, err := io.WriteString(w, "output\n")
	return err
}

func (a *asked) Follow(_ context.Context, w io.Writer, _ string, _ runs.Position, begin func(int64)) error {
	begin(0)
	_, err := io.WriteString(w, "output\n")
	return err
}

type askedCron struct{ t *testing.T }

func (a *askedCron) List(context.Context) (api.CronTable, error) { return api.CronTable{}, nil }
func (a *askedCron) Next(_ context.Context, _ time.Time, n int, _ string) ([]api.Occurrence, error) {
	if n < 1 || n > api.MaxNext {
		a.t.Errorf("asked for %d occurrences", n)
	}
	return nil, nil
}
func (a *askedCron) Cost(_ context.Context, instances int) (api.CronCost, error) {
	if instances < 1 || instances > 1e6 {
		a.t.Errorf("asked for the cost of %d instances", instances)
	}
	return api.CronCost{}, nil
}
func (a *askedCron) Trigger(context.Context, api.Caller, string, bool) (runs.Run, error) {
	return runs.Run{}, nil
}
func (a *askedCron) History(context.Context, string) (api.CronHistory, error) {
	return api.CronHistory{}, nil
}
func (a *askedCron) Pause(context.Context, api.Caller, string, api.CronPause) (api.CronPaused, error) {
	return api.CronPaused{}, nil
}

// answering has an answer to everything.
type answering struct{ fake }

func (a *answering) Reload(context.Context) error { return nil }
func (a *answering) Environment(context.Context, []string, bool) (api.Environment, error) {
	return api.Environment{}, nil
}
func (a *answering) EnvironmentDiff(context.Context, bool) (api.EnvironmentDiff, error) {
	return api.EnvironmentDiff{}, nil
}
func (a *answering) MetricsCost(ctx context.Context, n int) (any, error) { return a.cron.Cost(ctx, n) }
func (a *answering) Capacity(context.Context, float64) (any, error)      { return nil, nil }
func (a *answering) Health(context.Context) (any, error)                 { return nil, nil }
func (a *answering) HealthHistory(context.Context) (any, error)          { return nil, nil }
func (a *answering) HealthAsLoadBalancer(context.Context) (any, error)   { return nil, nil }
func (a *answering) Drain(context.Context, string, bool) error           { return nil }
func (a *answering) EndJobs(context.Context) error                       { return nil }
func (a *answering) Undrain(context.Context) error                       { return nil }
func (a *answering) Departure(context.Context) (any, error)              { return nil, nil }
func (a *answering) Release(context.Context) error                       { return nil }
func (a *answering) Hold(_ context.Context, limit time.Duration) error {
	if limit <= 0 || limit > maxHold {
		return fmt.Errorf("held for %s", limit)
	}
	return nil
}

// FuzzRoutes: everybody on exec.allow may send root's process any request. None makes a handler panic, reaches
// a part with a number that it was not made for, or gets an answer that is neither good nor a refusal in words.
func FuzzRoutes(f *testing.F) {
	for _, rt := range (&Server{}).routes() {
		method, path, _ := strings.Cut(rt.pattern, " ")
		f.Add(method, strings.ReplaceAll(path, "{id}", "abc"), "{}")
	}
	for _, target := range []string{
		"/v1/cron/next", "/v1/cron/next?n=-1", "/v1/cron/next?n=99999999999999999999&from=9999-12-31T23:59:59Z", "/v1/cron/next?n=3&from=x",
		"/v1/cron/cost?instances=9223372036854775807", "/v1/metrics/cost?instances=-5", "/v1/capacity?target=NaN", "/v1/env?name=A&name=&values",
		"/v1/runs?n=-1&kind=x&all", "/v1/runs/..%2F..%2Finfo", "/v1/runs/%00", "/v1/runs/abc/output?lines=9223372036854775807&follow", "/v1/runs/abc/output?follow&at=-9", "//v1/runs", "/v1/../v1/status", "*",
	} {
		f.Add("GET", target, "")
	}
	for _, body := range []string{
		`{"args":["a"],"mode":"detached","timeout":-1,"memory":-1}`, `{"args":[""],"mode":"detached"}`, `{"args":["a\u0000"],"mode":"detached"}`,
		`{"args":["a"],"mode":"detached","env":["A=\u0000"]}`, `{"args":["a"],"mode":"pipes"}`, `{"args":["a"],"mode":"terminal","size":{"Rows":1,"Cols":-1}}`,
		`{"args":["a"],"root":true}`, `[`, `null`, strings.Repeat("[", 10001),
	} {
		f.Add("POST", "/v1/runs", body)
	}
	f.Add("POST", "/v1/hold?limit=-9223372036854775808ns", "")
	f.Add("POST", "/v1/runs/abc/stop", `{"grace":9223372036854775807}`)

	ctx := ownCaller(f)
	f.Fuzz(func(t *testing.T, method, target, body string) {
		r, err := http.NewRequestWithContext(ctx, method, "http://agent"+target, strings.NewReader(body))
		if err != nil {
			return
		}
		b := &answering{fake{runs: &asked{t}, cron: &askedCron{t}}}
		b.metrics = func() (any, error) { return nil, nil }
		b.prepare = func(_ context.Context, _ api.Caller, req api.ExecRequest) (Prepared, error) {
			if req.Args[0] == "" || strings.Contains(strings.Join(append(req.Args, req.Env...), ""), "\x00") {
				t.Errorf("prepared %+v", req)
			}
			return func(context.Context, runs.Handover) (runs.Run, error) { return runs.Run{}, nil }, nil
		}
		var faults bytes.Buffer
		s := &Server{Backend: b, Log: slog.New(slog.NewTextHandler(&faults, &slog.HandlerOptions{Level: slog.LevelError}))}
		w := httptest.NewRecorder()
		s.handler().ServeHTTP(w, r)
		if faults.Len() > 0 {
			t.Fatalf("%s %s: %s", method, target, &faults)
		}
		switch typ := w.Header().Get("Content-Type"); {
		case w.Code < 200 || w.Code > 599:
			t.Errorf("%s %s: answered %d", method, target, w.Code)
		case typ == "application/json" && !json.Valid(w.Body.Bytes()):
			t.Errorf("%s %s: answered %d with %q", method, target, w.Code, w.Body)
		case typ == "application/json" && w.Code >= 400:
			var e api.Error
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Message == "" {
				t.Errorf("%s %s: refused with %d and no word", method, target, w.Code)
			}
		}
	})
}

// ownCaller is the context of a request that this process itself makes.
func ownCaller(f *testing.F) context.Context {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { unix.Close(pair[1]) })
	file := os.NewFile(uintptr(pair[0]), "caller")
	defer file.Close()
	c, err := net.FileConn(file)
	if err != nil {
		f.Fatal(err)
	}
	conn, err := fdconn.NewConn(c.(*net.UnixConn))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { conn.Close() })
	return newDoor(&Server{}).connContext(context.Background(), conn)
}
