package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"time"
	"unicode/utf8"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/scheduler"
)

// printJSON writes v as scripts rely on it: one value, indented, HTML left alone, times in UTC, [] and not null, each
// fact by the name that packaging/docs/cli.md has for verb. What a terminal would obey is escaped, which means the
// same; encoding/json does it for the first 32 characters only.
func printJSON(w io.Writer, verb string, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(regular(v)); err != nil {
		return err
	}
	named, err := api.Printed[verb].Rename(b.Bytes())
	if err != nil {
		return err
	}
	b.Reset()
	if err := json.Indent(&b, named, "", "  "); err != nil {
		return err
	}
	text := append(b.Bytes(), '\n')
	if bytes.ContainsFunc(text, escapedInJSON) {
		s := string(text)
		text = nil
		for _, r := range s {
			if escapedInJSON(r) {
				text = fmt.Appendf(text, `\u%04x`, r)
			} else {
				text = utf8.AppendRune(text, r)
			}
		}
	}
	_, err = w.Write(text)
	return err
}

func escapedInJSON(r rune) bool { return r != '\n' && obeyed(r) }

// regular returns v with its times in UTC, and lists in place of nil: what the agent says has the offset of its zone,
// or of a job's.
func regular(v any) any {
	if v == nil {
		return nil
	}
	out := reflect.New(reflect.TypeOf(v)).Elem()
	out.Set(reflect.ValueOf(v))
	makeRegular(out)
	return out.Interface()
}

func makeRegular(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			makeRegular(v.Elem())
		}
	case reflect.Interface:
		if !v.IsNil() {
			v.Set(reflect.ValueOf(regular(v.Elem().Interface())))
		}
	case reflect.Slice:
		if v.IsNil() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
		for i := range v.Len() {
			makeRegular(v.Index(i))
		}
	case reflect.Struct:
		if t, ok := v.Interface().(time.Time); ok {
			v.Set(reflect.ValueOf(t.UTC()))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				makeRegular(v.Field(i))
			}
		}
	}
}

func printedRuns(list []runs.Run) []api.PrintedRun {
	out := []api.PrintedRun{}
	for _, r := range list {
		out = append(out, printedRun(r))
	}
	return out
}

// printedRun has no exit status of a run that goes on.
func printedRun(r runs.Run) api.PrintedRun {
	p := api.PrintedRun{ID: r.ID, Kind: r.Kind, Name: r.Name, State: r.State, Started: r.Started, PID: r.PID,
		User: r.User, UID: r.UID, Dir: r.Dir, IO: r.IO, Reason: r.Reason, Slot: r.Slot, Attempt: r.Attempt,
		ChosenUser: r.Meta[runs.MetaChosenUser], Shared: r.Meta[runs.MetaShared] != "", Detached: r.Detached,
		Attached: r.Attached, Lock: r.Lock, Host: r.Meta[runs.MetaHost], Register: r.Meta[runs.MetaRegister],
		AppVersion: r.Version, Supervisor: r.Supervisor, Output: r.Output, OutputBytes: r.OutputBytes,
		Truncated: r.Truncated, Args: r.Args, PeakMemory: r.PeakMemory, CPU: r.CPU.Seconds()}
	if !r.Started.IsZero() {
		p.Took = r.Took().Seconds()
	}
	if r.Kind == "cron" {
		p.Job = r.Name
	}
	if r.Caller != (runs.Caller{}) {
		p.Caller = &api.PrintedCaller{UID: r.Caller.UID, PID: r.Caller.PID, Login: r.Caller.Login,
			From: r.Meta[runs.MetaLogin]}
	}
	if all := api.PrintedArgs(r.AllArgs); all.Count > 0 {
		p.AllArgs = &all
	}
	if !r.Live() {
		p.Result, p.ExitCode, p.Signal, p.OOM, p.TimedOut = runs.Describe(r), &r.ExitCode, r.Signal, r.OOM, r.TimedOut
		p.StoppedBy, p.LeftBehind, p.Ended = r.StoppedBy, r.LeftBehind, r.Ended
	}
	return p
}

func printedElsewhere(r api.CronRun) api.PrintedElsewhere {
	p := api.PrintedElsewhere{Kind: "cron", Name: r.Job, Job: r.Job, Result: r.Outcome, Started: r.Started,
		Ended: r.Ended, Slot: r.Slot, Attempt: r.Attempt, Host: r.Host, Environment: r.Environment, Tail: r.Tail}
	if r.Manual {
		p.Reason = string(scheduler.Manual)
	}
	end := time.Now()
	if r.Ended != nil {
		end = *r.Ended
	}
	p.Took = end.Sub(r.Started).Seconds()
	return p
}
