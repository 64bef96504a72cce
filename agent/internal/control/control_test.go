package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
	"beanstalk-agent/packaging/testbed/planted"
)

// TestMain lets a test be the client under another uid: the binary asks for a
// path and prints what it is told.
func TestMain(m *testing.M) {
	if socket := os.Getenv("CONTROL_TEST_ASK"); socket != "" {
		var s api.Status
		err := api.NewClient(socket).Get(context.Background(), os.Getenv("CONTROL_TEST_PATH"), &s)
		fmt.Printf("%v|%d\n", err, s.PID)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Who may what is a decision, so a change of it must be seen in a review.
func TestPermissionsAreAsDecided(t *testing.T) {
	owner := map[string]bool{"POST /v1/drain": true, "POST /v1/drain/jobs": true, "POST /v1/undrain": true, "POST /v1/reload": true, "POST /v1/hold": true, "POST /v1/release": true}
	routes := (&Server{}).routes()
	for _, r := range routes {
		if want := map[bool]Access{true: Owner, false: Callers}[owner[r.pattern]]; r.access != want {
			t.Errorf("%s: access %d, want %d", r.pattern, r.access, want)
		}
		delete(owner, r.pattern)
	}
	if len(owner) > 0 {
		t.Errorf("routes are gone: %v", owner)
	}
}

func TestAdmit(t *testing.T) {
	for _, tc := range []struct {
		name    string
		who     api.Caller
		want    Access
		allowed bool
		err     string
	}{
		{"root", api.Caller{Owner: true}, Owner, false, ""},
		{"an allowed user", api.Caller{UID: 1000, Login: "ec2-user"}, Callers, true, ""},
		{"an allowed user for root's route", api.Caller{UID: 1000, Login: "ec2-user"}, Owner, true, "only root may"},
		{"a stranger", api.Caller{UID: 1001, Login: "deploy"}, Callers, false, "deploy is not allowed here"},
		{"a stranger for root's route", api.Caller{UID: 1001, Login: "deploy"}, Owner, false, "deploy is not allowed here"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := admit(tc.who, tc.want, tc.allowed)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("got %v, want %q", err, tc.err)
			}
		})
	}
}

// fake is a backend whose answers are empty, but for what a test sets.
type fake struct {
	Backend // panics
	status  api.Status
	metrics func() (any, error)
	prepare func(context.Context, api.Caller, api.ExecRequest) (Prepared, error)
	runs    Runs
	cron    Cron
}

func (f *fake) Status(context.Context, bool) api.Status { return f.status }
func (f *fake) Metrics(context.Context) (any, error)    { return f.metrics() }
func (f *fake) Runs() Runs                              { return f.runs }
func (f *fake) Cron() Cron                              { return f.cron }
func (f *fake) Prepare(ctx context.Context, who api.Caller, req api.ExecRequest) (Prepared, error) {
	return f.prepare(ctx, who, req)
}

// serve starts a server and returns its client.
func serve(t *testing.T, b Backend, allow ...uint32) *api.Client {
	t.Helper()
	return api.NewClient(serveAt(t, b, allow...))
}

// serveAt starts a server and returns its socket, to which everybody may connect, as where there are no ACLs.
func serveAt(t *testing.T, b Backend, allow ...uint32) string {
	t.Helper()
	allowed := func(uid uint32) bool { return slices.Contains(allow, uid) }
	return serveServer(t, &Server{Allowed: allowed, Backend: b, Log: planted.Log(t)})
}

func serveServer(t *testing.T, s *Server) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "c") // short, and open to others as /run/agent is
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	ln, err := fdconn.Listen(socket, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	s.Listener = ln
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return socket
}

// A stranger gets a refusal and nothing else, whatever it asks for.
func TestStrangersLearnNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root, to be somebody else")
		}
		t.Skip("needs root, to be somebody else")
	}
	b := &fake{status: api.Status{PID: 4711}}
	socket := serveAt(t, b)
	exe := openToOthers(t)
	for _, path := range []string{"/v1/status", "/v1/env?values", "/v1/runs", "/v1/reload"} {
		cmd := exec.Command(exe)
		cmd.Env = []string{"CONTROL_TEST_ASK=" + socket, "CONTROL_TEST_PATH=" + path}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if strings.Contains(string(out), "4711") || !strings.Contains(string(out), "is not allowed here") {
			t.Errorf("%s: a stranger is told %s", path, out)
		}
	}
}

// openToOthers copies this binary to where another user may run it.
func openToOthers(t *testing.T) string {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.CreateTemp("", "control-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(f.Name()) })
	if _, err := f.Write(self); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Chmod(0o755), f.Close()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func TestWrongRequestsAreToldApart(t *testing.T) {
	c := serve(t, &fake{})
	post := func(in any) error { return c.Post(t.Context(), "/v1/runs", in, nil) }
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"a field of a newer client", post(map[string]any{"args": []string{"true"}, "mode": "detached", "priority": 3}), `unknown field "priority"`},
		{"an unknown mode", post(api.ExecRequest{Args: []string{"true"}, Mode: "magic"}), `unknown mode "magic"`},
		{"no command", post(api.ExecRequest{Mode: api.Detached}), "no command was given"},
		{"a NUL", post(api.ExecRequest{Args: []string{"a\x00b"}, Mode: api.Detached}), "NUL"},
		{"a NUL in a value", post(api.ExecRequest{Args: []string{"true"}, Env: []string{"GIVEN=" + planted.Value + "\x00"}, Mode: api.Detached}), "variable has a NUL"},
		{"a variable that is none", post(map[string]any{"args": []string{"true"}, "mode": "detached", "env": []any{map[string]string{"GIVEN": planted.Value}}}), "cannot unmarshal object"},
		{"no descriptors", post(api.ExecRequest{Args: []string{"true"}, Mode: api.Pipes}), "0 descriptors came with the request, expected 3"},
		{"a hold for no time", c.Post(t.Context(), "/v1/hold?limit=0s", nil, nil), "expected more than 0 and at most 168h0m0s, have 0s"},
		{"a hold that ended before", c.Post(t.Context(), "/v1/hold?limit=-5m", nil, nil), "have -5m0s"},
		{"a hold without end", c.Post(t.Context(), "/v1/hold?limit=169h", nil, nil), "have 169h0m0s"},
		{"a hold without limit", c.Post(t.Context(), "/v1/hold", nil, nil), "limit"},
		{"a time that is none", c.Get(t.Context(), "/v1/cron/next?from=tomorrow", nil), "from"},
		{"a route of a newer client", c.Get(t.Context(), "/v1/magic", nil), "404"},
	} {
		e, ok := errors.AsType[*api.Error](tc.err)
		if !ok || !strings.Contains(e.Message, tc.want) {
			t.Errorf("%s: got %v, want %q", tc.name, tc.err, tc.want)
		} else if strings.Contains(e.Message, planted.Value) {
			t.Errorf("%s: the fault has a value", tc.name)
		}
	}
}

// A panic of one route is an answer and a line in the log; the next is answered.
func TestPanicIsOneRequests(t *testing.T) {
	b := &fake{status: api.Status{Ready: true}, metrics: func() (any, error) { panic("nil map") }}
	c := serve(t, b)
	if err := c.Get(t.Context(), "/v1/metrics", nil); err == nil || !strings.Contains(err.Error(), "its log says why") {
		t.Errorf("got %v", err)
	}
	var s api.Status
	if err := c.Get(t.Context(), "/v1/status", &s); err != nil || !s.Ready {
		t.Errorf("afterwards: %+v, %v", s, err)
	}
}

// The client's descriptors and connection reach the one who starts the run, who
// answers on that connection; what is not taken is closed.
func TestExecHandsTheConnectionOver(t *testing.T) {
	b := &fake{}
	b.prepare = func(_ context.Context, who api.Caller, req api.ExecRequest) (Prepared, error) {
		if who.UID != uint32(os.Geteuid()) || !who.Owner {
			t.Errorf("caller %+v", who)
		}
		return func(_ context.Context, h runs.Handover) (runs.Run, error) {
			if req.Args[0] == "refuse" {
				return runs.Run{}, &api.Error{Status: http.StatusConflict, Exit: 127, Message: "command not found", Hint: "look in PATH"}
			}
			if _, err := syscall.Write(h.Files[1], []byte("on stdout")); err != nil {
				t.Error(err)
			}
			return runs.Run{}, fdconn.Use(h.Conn, func(fd int) error { // as the supervisor does, with a copy
				w := os.NewFile(uintptr(dup(t, fd)), "conn")
				defer w.Close()
				return errors.Join(session.WriteHello(w, session.Hello{Run: "r"}), session.WriteExit(w, session.Exit{Run: "r", Code: 7}))
			})
		}, nil
	}
	c := serve(t, b)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	conn, err := c.Exec(t.Context(), api.ExecRequest{Args: []string{"true"}, Mode: api.Pipes}, os.Stdin, w, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	code, err := conn.Run(t.Context(), session.Options{Stdin: os.Stdin, Stdout: w, Stderr: os.Stderr})
	if code != 7 || err != nil {
		t.Errorf("code %d, %v", code, err)
	}
	w.Close()
	// EOF comes only if nobody on the server's side kept a copy of stdout.
	if out, err := io.ReadAll(r); string(out) != "on stdout" || err != nil {
		t.Errorf("stdout %q, %v", out, err)
	}
	_, err = c.Exec(t.Context(), api.ExecRequest{Args: []string{"refuse"}, Mode: api.Pipes}, os.Stdin, os.Stdout, os.Stderr)
	if e, ok := errors.AsType[*api.Error](err); !ok || e.Exit != 127 || e.Message != "command not found" || e.Hint != "look in PATH" {
		t.Errorf("a refusal: %+v", err)
	}
}

// Bytes behind a request are in the HTTP server's buffer: on a connection handed over they would be missing.
func TestExecRefusesBytesBeforeTheAnswer(t *testing.T) {
	b := &fake{}
	b.prepare = func(context.Context, api.Caller, api.ExecRequest) (Prepared, error) {
		return func(context.Context, runs.Handover) (runs.Run, error) {
			t.Error("the connection was handed over")
			return runs.Run{}, errors.New("too late")
		}, nil
	}
	conn, err := fdconn.Dial(t.Context(), serveAt(t, b))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := `{"args":["true"],"mode":"terminal"}`
	fmt.Fprintf(conn, "POST /v1/runs HTTP/1.1\r\nHost: agent\r\nContent-Length: %d\r\n\r\n%stoo early", len(body), body)
	answer, _ := io.ReadAll(conn)
	if !strings.Contains(string(answer), "bytes were sent before the answer") {
		t.Errorf("answered %q", answer)
	}
}

func dup(t *testing.T, fd int) int {
	t.Helper()
	n, err := syscall.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// knownRuns is a supervisor that knows two runs.
type knownRuns struct {
	Runs
	touched []string
}

var known = map[string]runs.Run{
	"ours":  {ID: "ours", Args: []string{"psql", "--password=planted-5c1e"}, AllArgs: runs.AllArgs{Count: 2, SHA256: "planted-hash"}},
	"roots": {ID: "roots", Args: []string{"cat", "planted-5c1e"}, Meta: map[string]string{runs.MetaChosenUser: "postgres"}},
}

func (k *knownRuns) List(context.Context, runs.Filter) ([]runs.Run, error) {
	return []runs.Run{known["ours"], known["roots"]}, nil
}
func (k *knownRuns) Get(_ context.Context, id string) (runs.Run, error)  { return known[id], nil }
func (k *knownRuns) Wait(_ context.Context, id string) (runs.Run, error) { return known[id], nil }
func (k *knownRuns) Stop(_ context.Context, id string, _ time.Duration) (runs.Run, error) {
	k.touched = append(k.touched, "stop "+id)
	return known[id], nil
}
func (k *knownRuns) Logs(_ context.Context, _ io.Writer, id string, _ int, _ bool) error {
	k.touched = append(k.touched, "logs "+id)
	return nil
}

// A terminal of a user whom root chose is a way to become that user: only root may take it up, end it or read
// what it said. And arguments, which may hold secrets, are shown to root alone.
func TestRootsRunsAreRoots(t *testing.T) {
	for _, who := range []api.Caller{{UID: 1000, Login: "deploy"}, {Owner: true}} {
		k := &knownRuns{}
		s := &Server{Backend: &fake{runs: k}}
		var text strings.Builder
		ask := func(handle func(*call) error, method, id, body string) error {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(method, "/", strings.NewReader(body))
			r.SetPathValue("id", id)
			err := handle(&call{who, w, r})
			text.WriteString(w.Body.String())
			return err
		}
		for name, handle := range map[string]func(*call) error{"stop": s.stop, "output": s.output, "attach": s.attach} {
			for _, id := range []string{"ours", "roots"} {
				err := ask(handle, "POST", id, "{}")
				e, _ := errors.AsType[*api.Error](err)
				if refused := e != nil && e.Status == http.StatusForbidden; refused != (!who.Owner && id == "roots") {
					t.Errorf("%s of %s by %q: %v", name, id, who.Login, err)
				}
			}
		}
		if !who.Owner && slices.ContainsFunc(k.touched, func(s string) bool { return strings.HasSuffix(s, "roots") }) {
			t.Errorf("%s touched %q", who.Login, k.touched)
		}
		for _, rt := range s.routes() {
			if strings.HasPrefix(rt.pattern, "GET /v1/runs") && !strings.HasSuffix(rt.pattern, "output") {
				if err := ask(rt.handle, "GET", "ours", ""); err != nil {
					t.Errorf("%s: %v", rt.pattern, err)
				}
			}
		}
		for _, secret := range []string{"planted-5c1e", "planted-hash"} {
			if strings.Contains(text.String(), secret) != who.Owner {
				t.Errorf("%q was shown %s", who.Login, &text)
			}
		}
	}
}

// A terminal shows what was typed into it, and who types there has its user's rights: it is its opener's and root's,
// also after its end, unless it was shared. To end it is no more than was allowed.
func TestTerminalIsItsOpeners(t *testing.T) {
	shared := map[string]string{runs.MetaShared: "yes"}
	for name, c := range map[string]struct {
		who       api.Caller
		run       runs.Run
		see, stop bool
	}{
		"its opener's":           {api.Caller{UID: 1000}, runs.Run{IO: runs.IOTerminal, Caller: runs.Caller{UID: 1000}}, true, true},
		"root's":                 {api.Caller{UID: 1000}, runs.Run{IO: runs.IOTerminal}, false, true},
		"root's, which was lost": {api.Caller{UID: 1000}, runs.Run{IO: runs.IOTerminal, State: runs.StateLost}, false, true},
		"another's":              {api.Caller{UID: 1000}, runs.Run{IO: runs.IOTerminal, Caller: runs.Caller{UID: 1001}}, false, true},
		"another's, to root":     {api.Caller{Owner: true}, runs.Run{IO: runs.IOTerminal, Caller: runs.Caller{UID: 1001}}, true, true},
		"root's, shared":         {api.Caller{UID: 1000}, runs.Run{IO: runs.IOTerminal, Meta: shared}, true, true},
		"a detached run":         {api.Caller{UID: 1000}, runs.Run{IO: runs.IOSpool}, true, true},
		"a chosen user's": {api.Caller{UID: 1000}, runs.Run{IO: runs.IOSpool,
			Meta: map[string]string{runs.MetaChosenUser: "postgres"}}, false, false},
		"a chosen user's terminal": {api.Caller{UID: 1000}, runs.Run{IO: runs.IOTerminal,
			Meta: map[string]string{runs.MetaChosenUser: "postgres"}}, false, false},
	} {
		if err := maySee(c.who, c.run); (err == nil) != c.see {
			t.Errorf("%s: to see it: %v", name, err)
		}
		if err := mayControl(c.who, c.run); (err == nil) != c.stop {
			t.Errorf("%s: to end it: %v", name, err)
		}
	}
}

// Root through sudo is nobody: the audit needs the account that the person logged in with. Who has not logged in may
// tell the kernel any.
func TestLoginIsBelievedInItsOwnSlice(t *testing.T) {
	for name, c := range map[string]struct{ loginuid, cgroup, want string }{
		"over ssh":                {"1000", "0::/user.slice/user-1000.slice/session-3.scope\n", "1000"},
		"on control groups v1":    {"1000", "5:pids:/user.slice/user-1000.slice/session-3.scope\n1:name=systemd:/user.slice/user-1000.slice/session-3.scope\n", "1000"},
		"over SSM":                {"4294967295", "0::/system.slice/amazon-ssm-agent.service\n", ""},
		"over SSM, and said so":   {"1000", "0::/system.slice/amazon-ssm-agent.service\n", ""},
		"another's":               {"1000", "0::/user.slice/user-1001.slice/user@1001.service/user-1000.slice/x\n", ""},
		"of the same digits":      {"100", "0::/user.slice/user-1000.slice/session-3.scope\n", ""},
		"in a group of that name": {"1000", "0::/user.slice/user-1001.slice/user@1001.service/x:/user.slice/user-1000.slice/\n", ""},
	} {
		dir := t.TempDir()
		for file, text := range map[string]string{"loginuid": c.loginuid, "cgroup": c.cgroup} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := loginUID(dir); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestLoginThatAProcessSaidIsNotBelieved(t *testing.T) {
	cmd := exec.Command("sh", "-c", "echo 1 >/proc/self/loginuid && echo up && exec sleep 1000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	if n, _ := out.Read(make([]byte, 3)); n == 0 {
		t.Skip("the kernel lets nobody here say who logged in") // not root, or without CONFIG_AUDIT
	}
	if c := callerOf(fdconn.Peer{UID: 2, PID: cmd.Process.Pid}, func() bool { return true }); c.Session != "" {
		t.Errorf("caller is %+v", c)
	}
}

// What the supervisor refuses reaches the caller with the run's id, and with what to do.
func TestRefusalOfTheSupervisorNamesTheRun(t *testing.T) {
	c := serve(t, &fake{runs: refusing{}})
	for path, want := range map[string]string{
		"/v1/runs/gone":          `404 there is no run "gone": agent ps --all lists them`,
		"/v1/runs/gone/output":   `404 there is no run "gone": agent ps --all lists them`,
		"/v1/runs/piped/output":  `404 run "piped" has no output here: an exec's output went to its own stdout; a job's is kept until the disk is full`,
		"/v1/runs/piped/wait":    `409 run piped has ended: agent logs`,
		"/v1/runs/unread/output": `500 open output: input/output error: `,
	} {
		e, _ := errors.AsType[*api.Error](c.Get(t.Context(), path, nil))
		if got := fmt.Sprintf("%d %s: %s", e.Status, e.Message, e.Hint); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}

// refusing is a supervisor that knows the runs piped and unread.
type refusing struct{ Runs }

func (refusing) Get(_ context.Context, id string) (runs.Run, error) {
	if id == "gone" {
		return runs.Run{}, &runs.Refused{Status: 404, Kind: runs.KindUnknown, Message: "no run"}
	}
	return runs.Run{ID: id}, nil
}

func (refusing) Wait(context.Context, string) (runs.Run, error) {
	return runs.Run{}, &runs.Refused{Status: 409, Message: "run piped has ended", Hint: "agent logs", Kind: runs.KindEnded}
}

func (refusing) Logs(_ context.Context, _ io.Writer, id string, _ int, _ bool) error {
	if id == "unread" {
		return fmt.Errorf("open output: %w", syscall.EIO)
	}
	return fmt.Errorf("open output of run %s: %w", id, os.ErrNotExist)
}
