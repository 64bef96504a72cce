package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/creack/pty"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/capacity"
	"beanstalk-agent/agent/internal/cloudwatch"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/drain"
	"beanstalk-agent/agent/internal/health"
	"beanstalk-agent/agent/internal/metrics"
	"beanstalk-agent/agent/internal/runs"
)

// evil is a text with a title, a clipboard, a cleared screen, the same in 8 bits, a turned direction, an invisible
// character, and a line that looks like the agent's.
const evil = "x\x1b]0;t\x07\x1b]52;c;eA==\x1b\\\x1b[2J\u009b2J\u0085\u202ey\u2066\u200b\x7f\r\b\t\nok    runs   all is well\n"

// answersOf are the types of what the agent answers.
var answersOf = map[string]any{
	"/v1/status": api.Status{}, "/v1/runs": []runs.Run{}, "/v1/cron": api.CronTable{}, "/v1/cron/next": []api.Occurrence{},
	"/v1/cron/history": api.CronHistory{}, "/v1/cron/ID/pause": api.CronPaused{}, "/v1/cron/ID/resume": api.CronPaused{},
	"/v1/cron/cost": api.CronCost{}, "/v1/env": api.Environment{}, "/v1/env/diff": api.EnvironmentDiff{},
	"/v1/metrics": metrics.Payload{}, "/v1/metrics/cost": cloudwatch.Cost{}, "/v1/capacity": capacity.Advice{},
	"/v1/health/history": []health.Result{}, "/v1/drain": drain.Departure{},
	"/v1/health": verdict{},
	"/v1/health/as-load-balancer": struct {
		health.Report
		Draining []drain.Reason `json:"draining"`
	}{},
	"/v1/runs/ID": runs.Run{}, "/v1/runs/ID/wait": runs.Run{}, "/v1/cron/ID/run": runs.Run{}, "POST /v1/runs": runs.Run{},
}

// argsOf are the arguments of each verb that prints; FILE is one with hostile content, ID a run.
var argsOf = map[string][][]string{
	"ps": {{}, {"--all"}, {"ID"}}, "logs": {{"ID"}, {"ID", "-f"}}, "stop": {{"ID"}}, "wait": {{"ID"}}, "status": {{}},
	"exec":     {{"-d", "--", evil}},
	"cron run": {{"ID"}}, "cron list": {{}, {"--cost"}, {"--cost", "--file", "FILE.yaml"}}, "cron history": {{}, {evil}},
	"cron next": {{}, {"--file", "FILE.yaml"}}, "cron check": {{"FILE.yaml"}, {"FILE"}}, "cron pause": {{"ID"}, {"--here", "ID"}}, "cron resume": {{"ID"}},
	"env":     {{}, {evil}, {"none" + evil}, {"--diff"}, {"--diff", "--values"}, {"--file", "FILE"}, {"--file", "FILE", "--format", "dotenv"}, {"--file", "FILE", "--format", evil}},
	"metrics": {{"--once"}, {"--cost"}}, "capacity": {{}},
	"health": {{}, {"--history"}, {"--as-load-balancer"}},
	"drain":  {{"--wait", "0"}, {"--wait", "1s", "--interval", "1ns", "--threshold", "1"}}, "undrain": {{}},
	"reload": {{}}, "hold": {{}}, "release": {{}}, "version": {{}}, "config check": {{"FILE.yaml"}},
}

// silent verbs print nothing of others, or all of it as it is.
var silent = map[string]string{
	"run": "the agent's log, which quotes", "supervise": "the supervisor's log", "attach": "a terminal is raw",
	"install": "our own files' names", "uninstall": "the same", "post": "the output of a run, whose reader escapes it",
}

// Every verb, with every field of what the agent may answer, and with every error, leaves a terminal nothing to obey
// but colours, and no line of its own to others. A new field is filled without being listed here, a new verb has to be.
func TestEveryVerbEscapesWhatOthersWrote(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	dir := t.TempDir()
	var paths []string
	for _, c := range verbs(&globals{}) {
		paths = append(paths, leaves(c, "")...)
	}
	for _, path := range paths {
		if _, ok := silent[path]; !ok && argsOf[path] == nil {
			t.Errorf("agent %s has no line in argsOf", path)
		}
	}
	hostile := evil + "A='" + evil + "'\n\x1b=1\ncron:\n- name: \"\\e\"\n  lock: \"\\e]0;\"\n" + evil + ": " + evil
	for _, name := range []string{"FILE", "FILE.yaml"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(hostile), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for how, answer := range map[string]http.HandlerFunc{
		"full":   answering(t, true),
		"sparse": answering(t, false),
		"errors": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			json.NewEncoder(w).Encode(map[string]any{"error": evil, "hint": evil, "code": 125})
		},
	} {
		socket := serve(t, answer)
		for _, path := range paths {
			for _, args := range argsOf[path] {
				for _, format := range [][]string{nil, {"--json"}} {
					args := slices.Concat([]string{"--socket", socket}, strings.Fields(path), format, args)
					for i := range args {
						args[i] = strings.Replace(args[i], "FILE", filepath.Join(dir, "FILE"), 1)
					}
					got := onPTY(t, args)
					text := anSGR.ReplaceAllString(got, "")
					ofLines := path == "logs" || path == "cron run" || path == "env"
					bad := func(r rune) bool { return r != '\n' && hidden(r) }
					if ofLines || format != nil || path == "cron check" {
						bad = func(r rune) bool { return r != '\n' && r != '\t' && obeyed(r) }
					}
					if strings.ContainsFunc(text, bad) || !utf8.ValidString(text) {
						t.Errorf("%s: agent %q prints %q", how, args[2:], got)
					}
					if strings.Contains("\n"+text, "\nok    runs   all is well") && !ofLines {
						t.Errorf("%s: agent %q lets others have a line: %q", how, args[2:], got)
					}
				}
			}
		}
	}
}

func leaves(c *cobra.Command, before string) (paths []string) {
	path := strings.TrimSpace(before + " " + c.Name())
	if !c.HasSubCommands() {
		return []string{path}
	}
	for _, sub := range c.Commands() {
		paths = append(paths, leaves(sub, path)...)
	}
	return paths
}

// answering answers with every text evil, and numbers and truths that are all set or all not.
func answering(t *testing.T, full bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/output") {
			at := "0"
			if r.URL.Query().Get("at") != "" {
				at = r.URL.Query().Get("at")
			}
			if w.Header().Set(api.OutputAt, at); at == "0" {
				io.WriteString(w, evil+"\x1b[31m\xff\x9b2J\x1b[3")
			}
			return
		}
		path := strings.Split(r.URL.EscapedPath(), "/") // "", v1, runs, ID
		if len(path) > 3 && (path[2] == "runs" || len(path) > 4) {
			path[3] = "ID"
		}
		route := strings.Join(path, "/")
		of, ok := answersOf[r.Method+" "+route]
		if !ok {
			of, ok = answersOf[route]
		}
		switch {
		case !ok && (r.Method == http.MethodPost || r.Method+" "+route == api.Ping):
			w.WriteHeader(http.StatusNoContent)
			return
		case !ok:
			t.Errorf("a verb asks for %s %s, which has no line in answersOf", r.Method, r.URL)
		}
		v := reflect.New(reflect.TypeOf(of)).Elem()
		fill(v, full)
		json.NewEncoder(w).Encode(v.Interface())
	}
}

func fill(v reflect.Value, full bool) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(evil)
	case reflect.Bool:
		v.SetBool(full)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if full {
			v.SetInt(7)
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if full {
			v.SetUint(7)
		}
	case reflect.Float32, reflect.Float64:
		v.SetFloat(1.5)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), full)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), full)
		fill(v.Index(1), full)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, full)
		fill(value, full)
		v.SetMapIndex(key, value)
		if key.Kind() == reflect.String && value.Kind() == reflect.String {
			for _, name := range []string{runs.MetaHost, runs.MetaLogin, runs.MetaChosenUser, runs.MetaShared, runs.MetaRegister} {
				v.SetMapIndex(reflect.ValueOf(name), value)
			}
		}
	case reflect.Interface:
		v.Set(reflect.ValueOf(evil))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Now()))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), full)
			}
		}
	default:
		panic(fmt.Sprintf("no value for a %s", v.Type()))
	}
}

func serve(t *testing.T, h http.Handler) (socket string) {
	dir, err := os.MkdirTemp("", "v") // short: a socket's path may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ln, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go s.Serve(ln)
	t.Cleanup(func() { s.Close() })
	return filepath.Join(dir, "s")
}

// onPTY runs a verb on a terminal and returns all that it prints there.
func onPTY(t *testing.T, args []string) string {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if _, err := term.MakeRaw(int(slave.Fd())); err != nil { // bytes arrive as they are printed
		t.Fatal(err)
	}
	printed := make(chan string)
	go func() {
		b, _ := io.ReadAll(master) // EIO ends it
		printed <- string(b)
	}()
	Main(args, Stdio{slave, slave, slave}, Programs{
		Check:       func(config.Config, func(string, string, ...any)) {},
		Application: func(context.Context, config.Config) *app.App { return nil },
		Metrics:     func(context.Context, config.Config) *metrics.Here { return nil },
	})
	slave.Close()
	return <-printed
}
