package main

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/packaging/testbed/gotool"
	"beanstalk-agent/packaging/testbed/planted"
)

// asked is what is asked of an agent, in order: a shell's words, in which agent is the client. With --json the answer's
// keys are compared, else whether there is one.
var asked = []string{
	"agent status", "agent status --json",
	// pipes, a terminal, detached
	"printf 'a\\nb' | agent exec -- sh -c 'cat; echo words >&2; exit 7'",
	"agent exec --dir nowhere -- true", "agent exec -- no-such-program", "agent exec --timeout 100ms -- sleep 60",
	`agent exec -e A=1 -- sh -c 'test "$A$PORT" = "1$(sed -n s/PORT=//p .env)"'`,
	"script -qec 'agent exec -t -- sh -c \"test -t 0 && echo here && exit 9\"' /dev/null",
	"agent exec -d -- sh -c 'echo one; echo two >&2; exit 5' >id; cat id", "agent wait $(cat id)",
	"agent logs $(cat id)", "agent logs -n 1 $(cat id)", "agent logs -f $(cat id)", "agent logs nothing",
	"agent exec -d -- sh -c 'for i in 1 2 3; do echo $i; sleep 0.1; done' >id; agent logs -f $(cat id)",
	"agent exec -d --lock db -- sleep 60 >live; cat live", "agent exec --lock db -- true",
	"agent ps", "agent ps --json", "agent ps --all", "agent ps --all --json", "agent ps --all --kind cron -n 1 --json",
	"agent stop $(cat live)", "agent stop $(cat live)", "agent wait $(cat live)", "agent stop nothing", "agent wait nothing",
	// a terminal whose client is gone, taken up again
	`script -qec 'exec agent exec -t -- sh -c "until [ -e go ]; do sleep 0.05; done; exit 4"' /dev/null </dev/null >script 2>&1 &
		until agent ps --kind exec | awk 'NR > 1 {print $1}' | grep . >id; do sleep 0.05; done
		kill -9 $!; (sleep 0.3; touch go) & script -qec "agent attach $(cat id)" /dev/null`,
	"agent wait $(cat id)", "agent attach nothing", "agent attach $(cat live)",

	"agent cron list", "agent cron list --json", "agent cron list --cost", "agent cron list --cost --json",
	"agent cron next", "agent cron next -n 3 --json", "agent cron next --job tick --json", "agent cron next --job nothing",
	"agent cron history", "agent cron history --json", "agent cron history tick --json", "agent cron history nothing",
	"agent cron run manual", "agent cron run nothing", "agent cron history manual --json", "agent logs manual",
	"agent cron pause tick", "agent cron list --json", "agent cron resume tick", "agent cron pause nothing", "agent cron resume nothing",

	"agent env", "agent env PORT", "agent env NOTHING", "agent env --json",
	"agent env --diff", "agent env --diff --json", "agent env --diff --values --json",
	"agent metrics", "agent metrics --once --json", "agent metrics --cost", "agent metrics --cost --json",
	"agent capacity", "agent capacity --json", "agent capacity --target 50",
	"agent health", "agent health --json", "agent health --history", "agent health --history --json",
	"agent health --as-load-balancer", "agent health --as-load-balancer --json",

	"agent drain --wait 0 --reason 'a disk'", "agent status --json", "agent health", "agent health --json",
	"agent drain --wait 100ms --interval 1s --threshold 1", "agent undrain", "agent undrain",
	"agent hold --limit 1m", "agent cron list", "agent cron list --json", "agent status --json", "agent release", "agent release",
	"agent reload", "echo nonsense >cron.yaml; agent reload", "agent cron list", "agent cron list --json", "agent status --json",
}

// answer is how a client ended and what it said: the keys of its JSON, else whether it said anything.
type answer struct {
	code int
	said map[string]bool
	text string
}

// A client may be of another version than the agent that it asks, while one is deployed or by who installed what. Each
// question ends as it did when both were of the version that landed, and no key of its JSON is missing but those that a
// present client prints by another name.
func TestVerbsAcrossVersions(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes 20 s: three conversations of a hundred verbs")
	}
	landed := gotool.Agent(t, gotool.LandedAgent, "1.0.0")
	present, err := exec.LookPath("agent")
	if err != nil {
		t.Fatal(err)
	}
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(app.Close)
	pairs := [][2]string{{landed, landed}, {landed, present}, {present, landed}} // client, agent
	answers := make([][]answer, len(pairs))
	var wg sync.WaitGroup
	for i, p := range pairs {
		wg.Go(func() { answers[i] = converse(t, p[0], p[1], app.URL) })
	}
	wg.Wait()
	for n, a := range answers[0] {
		t.Logf("%d %s", a.code, asked[n])
		if a.code < 0 || a.code == 124 && !strings.Contains(asked[n], "--timeout") {
			t.Errorf("no answer in time: %s\n%s", asked[n], a.text)
		}
	}
	for i, name := range []string{1: "a landed client", 2: "a landed agent"} {
		for n, was := range answers[0] {
			if i == 0 || len(answers[i]) <= n {
				continue
			}
			is := answers[i][n]
			var lost []string
			for key := range was.said {
				if i == 2 {
					key = renamed(asked[n], key)
				}
				if key != "" && !is.said[key] && key != withheld {
					lost = append(lost, key)
				}
			}
			if slices.Sort(lost); was.code != is.code || len(lost) > 0 {
				t.Errorf("%s, %s: exit status %d, was %d; missing %q\n%swas\n%s", name, asked[n], is.code, was.code, lost, is.text, was.text)
			}
		}
	}
}

// withheld is the one key that an answer has lost: lists have no arguments any more, which were megabytes. Those of one
// run are in agent ps ID --json, for root.
const withheld = "[].args"

// renamedRun has what a present client calls the keys of a run; "" is none.
var renamedRun = map[string]string{"cpu_ns": "cpu_seconds", "peak_memory": "peak_memory_bytes", "version": "app_version",
	"supervisor": "supervisor_version", "outcome": "result", "manual": "reason", "meta.host": "host", "meta": "",
	"start_seq": "", "end_seq": ""}

// renamed is what a present client calls a key that a landed one prints.
func renamed(script, key string) string {
	if name, run := strings.CutPrefix(key, "[]."); run && (strings.HasPrefix(script, "agent ps") || strings.HasPrefix(script, "agent cron history")) {
		if to, ok := renamedRun[name]; ok && to == "" || name == "exit_code" && script == "agent ps --json" { // all of them run
			return ""
		} else if ok {
			return "[]." + to
		}
		return key
	}
	verb := strings.TrimSuffix(strings.TrimPrefix(script, "agent "), " --json")
	for _, path := range slices.Backward(slices.Sorted(maps.Keys(api.Printed[verb]))) { // those below before those above
		if rest, ok := strings.CutPrefix(key, path); ok && (rest == "" || strings.ContainsAny(rest[:1], ".[")) {
			key = path[:strings.LastIndex(path, ".")+1] + api.Printed[verb][path] + rest
		}
	}
	return key
}

// converse runs an agent and asks it everything.
func converse(t *testing.T, client, agent, app string) (answers []answer) {
	r := newResident(t, "health: {listen: '127.0.0.1:0', target: '"+app+"/'}\nmetrics: {sample: 1s, send: off}\n",
		"{name: tick, schedule: '@every 1s', command: echo tick}", "{name: manual, schedule: '0 0 1 1 *', command: 'echo now; exit 3'}")
	r.write("app/.env", "PORT="+app[strings.LastIndex(app, ":")+1:]+"\nPLANTED="+planted.Value+"\n")
	stop := r.start(agent)
	defer stop(syscall.SIGTERM)
	await(t, "a run has ended and two samples are taken", func() bool {
		return r.sh(agent, "agent cron history | grep exit").code == 0 && strings.Count(r.sh(agent, "agent metrics").text, "load_per_cpu") > 0
	})
	for _, script := range asked {
		answers = append(answers, r.sh(client, script))
	}
	return answers
}

// A resident is a place where an agent runs, one after the other and of any version.
type resident struct {
	t   *testing.T
	dir string
}

func newResident(t *testing.T, config string, jobs ...string) *resident {
	dir, err := os.MkdirTemp("", "c") // short: a socket's path may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &resident{t, dir}
	if err := os.Mkdir(filepath.Join(dir, "app"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.write("agent.yaml", "state_dir: "+dir+"/state\n"+config)
	r.write("app/cron.yaml", "version: 1\ncron:\n- "+strings.Join(jobs, "\n- ")+"\n")
	r.write("app/.env", "PLANTED="+planted.Value+"\n")
	return r
}

func (r *resident) write(name, text string) {
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// command is a program in the resident's directory, where agent is this one.
func (r *resident) command(agent, name string, args ...string) *exec.Cmd {
	bin := filepath.Join(r.dir, "bin-"+filepath.Base(filepath.Dir(agent)))
	if err := errors.Join(os.MkdirAll(bin, 0o755), link(agent, filepath.Join(bin, "agent"))); err != nil {
		r.t.Error(err)
	}
	c := exec.Command(name, args...)
	c.Dir = filepath.Join(r.dir, "app")
	c.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "AGENT_SOCKET=" + r.dir + "/s", "AGENT_CONFIG=" + r.dir + "/agent.yaml",
		"AWS_EC2_METADATA_DISABLED=true", "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=" + planted.Value, "NO_COLOR=1", "GORACE=atexit_sleep_ms=0"}
	return c
}

func link(to, path string) error {
	if err := os.Symlink(to, path); !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// start runs an agent until it answers, and returns what ends it.
func (r *resident) start(agent string) (stop func(syscall.Signal)) {
	log, err := os.OpenFile(filepath.Join(r.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	c := r.command(agent, "agent", "run", "--app", r.dir+"/app")
	c.Path = agent
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		r.t.Fatal(err)
	}
	ended := false
	stop = func(s syscall.Signal) {
		if ended {
			return
		}
		ended = true
		c.Process.Signal(s)
		giveUp := time.AfterFunc(20*time.Second, func() { c.Process.Kill() })
		defer giveUp.Stop()
		c.Wait()
	}
	r.t.Cleanup(func() { stop(syscall.SIGTERM) })
	client := api.NewClient(filepath.Join(r.dir, "s"))
	await(r.t, "the agent answers", func() bool { return client.Get(r.t.Context(), "/v1/status", nil) == nil })
	return stop
}

// sh asks with a client of this version.
func (r *resident) sh(client, script string) answer {
	var out, words strings.Builder
	c := r.command(client, "timeout", "-k", "1", "20", "bash", "-c", script)
	c.Stdout, c.Stderr, c.WaitDelay = &out, &words, 5*time.Second
	c.Run()
	a := answer{code: c.ProcessState.ExitCode(), said: map[string]bool{}, text: out.String() + words.String()}
	var v any
	if out.Len() > 0 {
		a.said["something"] = true
	}
	if strings.Contains(script, "--json") && json.Unmarshal([]byte(out.String()), &v) == nil {
		keys(a.said, "", v)
	}
	return a
}

// keys collects the paths of a JSON value, a list's elements as one.
func keys(to map[string]bool, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			to[path+"."+k] = true
			keys(to, path+"."+k, v[k])
		}
	case []any:
		for _, e := range v {
			keys(to, path+"[]", e)
		}
	}
}
