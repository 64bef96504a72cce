package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"beanstalk-agent/packaging/testbed/clidoc"
	"beanstalk-agent/packaging/testbed/planted"
	"beanstalk-agent/packaging/testbed/versity"
)

// prints are the shell's words that have each verb of packaging/docs/cli.md print, on a host where it has something to
// say. --json is added to each.
var prints = map[string][]string{
	"ps":           {"agent ps", "agent ps --all -n 1000", "agent ps $(cat long)", "agent ps $(cat many)"},
	"cron history": {"agent cron history", "agent cron history --here"}, "cron list": {"agent cron list"},
	"cron list --cost": {"agent cron list --cost", "agent cron list --cost --file berlin.yaml"},
	"cron next":        {"agent cron next", "agent cron next --file berlin.yaml"},
	"env":              {"agent env"},
	"metrics":          {"agent metrics --once"}, "metrics --cost": {"agent metrics --cost"},
	"capacity": {"agent capacity"},
	"health":   {"agent health"}, "health --history": {"agent health --history"},
	"health --as-load-balancer": {"agent health --as-load-balancer"},
	"status":                    {"agent status"}, "version": {"agent version"},
	"install":   {"agent install --into . --dry-run"},
	"uninstall": {"mkdir -p root/opt/agent/bin; touch root/opt/agent/bin/agent; agent uninstall --root root --dry-run"},
}

// unprinted are fields that this host does not come to, and why. Package cli's TestJSONIsDocumented has each of them of
// an invented answer.
var unprinted = map[string]string{
	"env --diff": "only on Elastic Beanstalk is the web process known",
	"capacity":   "the advice takes workers that are ten minutes old",

	"cron history [].environment": fleetOnly, "cron history [].tail": fleetOnly, "cron history [].register": fleetOnly,
	"ps [].register":   fleetOnly,
	"cron list .group": fleetOnly, "cron list .jobs[].host": fleetOnly, "cron list .jobs[].running": fleetOnly,
	"cron list .jobs[].paused": fleetOnly,

	"ps [].caller.logged_in_as": "a login of logind's", "ps [].chosen_user": "root chose another user",
	"ps [].oom": needsCgroups, "ps [].peak_memory_bytes": needsCgroups, "ps [].left_behind": needsCgroups,
	"ps [].app_version": "of Elastic Beanstalk", "ps [].truncated": "16 MB of output",
	"cron list .jobs[].missed": "slots of a time when the agent was away", "cron list .jobs[].last_missed": "the same",
	"status .lines[].since": "no part says it yet", "health --history [].unknown": "an answer without a Host",
	"health --as-load-balancer .advice": "nginx asks at a port",
}

const (
	fleetOnly    = "needs a claim store"
	needsCgroups = "needs control groups, which not every host hands to a test"
)

// What a real agent's verbs print is what packaging/docs/cli.md says: of runs that go on, have ended, failed, were killed
// and were stopped, jobs that are paused, skipped and held, an application that answers, a drain. A run that goes on has
// no end. The columns of the text are the fields.
func TestJSONOfARealAgent(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes 5 s")
	}
	doc := clidoc.Read(t, "../packaging/docs/cli.md")
	present, err := exec.LookPath("agent")
	if err != nil {
		t.Fatal(err)
	}
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(app.Close)
	r := newResident(t, "health: {listen: '127.0.0.1:0', target: '"+app.URL+"/', host: www.example.com}\nmetrics: {sample: 1s, send: off}\n",
		"{name: tick, schedule: '@every 1s', command: echo tick, notify: [nobody]}", "{name: fails, schedule: '@every 1s', command: exit 3}",
		"{name: slow, schedule: '@every 1s', command: sleep 60}", "{name: zoned, schedule: '0 2 * * *', timezone: Europe/Berlin, command: 'true'}",
		"{name: faulty, schedule: '61 * * * *', command: 'true'}")
	r.write("app/.env", "PLANTED="+planted.Value+"\n")
	r.write("app/berlin.yaml", "version: 1\ncron:\n- {name: zoned, schedule: '30 2 * * *', timezone: Europe/Berlin, command: 'true'}\n")
	stop := r.start(present)
	defer stop(syscall.SIGTERM)
	for _, script := range []string{
		"agent exec -d --lock db -- sleep 60 >long",
		"agent exec -d -- sh -c 'echo one; exit 5' >id; agent wait $(cat id); test $? = 5",
		"agent exec -d -- sh -c 'kill -9 $$' >id; agent wait $(cat id); test $? = 137",
		"agent exec -d -- $(yes true | head -n 3000) >many; agent wait $(cat many)",
		"agent exec --timeout 100ms -- sleep 60; test $? = 124",
		"agent exec -d -- sleep 60 >id; agent stop $(cat id)",
		"agent exec -- sh -c 'x=0; while test $x -lt 100000; do x=$((x + 1)); done'",
		"(script -qec 'exec agent exec -t --share -- sleep 60' /dev/null </dev/null >script 2>&1 &); until agent ps | grep shared; do sleep 0.05; done",
		"until agent cron list | grep '^slow .*skipped'; do sleep 0.1; done",
		"until agent cron list | grep '^fails .*exit 3'; do sleep 0.1; done",
		"until agent cron history tick | grep 'exit 0'; do sleep 0.1; done",
		"agent cron pause tick; agent hold --limit 1m; agent drain --wait 0 --reason 'a disk'",
		"agent health; test $? = 0", "until agent metrics | grep load_per_cpu; do sleep 0.1; done",
	} {
		if a := r.sh(present, script); a.code != 0 {
			t.Fatalf("%s: exit status %d: %s", script, a.code, a.text)
		}
	}
	for verb, fields := range doc.Fields {
		c := clidoc.Check{Doc: doc, Verb: verb}
		for _, script := range prints[verb] {
			text := r.sh(present, script+" --json 2>/dev/null").text
			c.JSON([]byte(text))
			if verb == "ps" || verb == "cron history" {
				checkEnds(t, text)
			}
			checkColumns(t, doc, verb, r.sh(present, script+" 2>/dev/null").text)
		}
		for _, f := range c.Faults {
			t.Error(f)
		}
		for _, f := range fields {
			why := unprinted[verb+" "+f.Path]
			excused := unprinted[verb] != "" || why != "" || underExcused(verb, f.Path)
			if !c.Seen[f.Path] && !excused && !f.Included {
				t.Errorf("agent %s --json never has %s", verb, f.Path)
			}
			if c.Seen[f.Path] && why != "" && why != needsCgroups {
				t.Errorf("agent %s --json has %s: it is in unprinted", verb, f.Path)
			}
		}
	}
}

// Where one instance of several runs each slot, the verbs of one print what the jobs' registers have of all: each field
// that needs a claim store is there.
func TestJSONOfAFleet(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes 5 s")
	}
	doc := clidoc.Read(t, "../packaging/docs/cli.md")
	g := newGround(t)
	store := versity.Start(t, fleetBucket)[0]
	config := fmt.Sprintf("aws: {region: us-east-1, s3_endpoint: '%s'}\ncron: {claims: 's3://%s/json', group: shop, share_output: true}\n", store, fleetBucket)
	cron := "cron:\n- {name: fails, schedule: '@every 1s', command: 'echo why; exit 3'}\n" +
		"- {name: slow, schedule: '@every 1s', command: sleep 60}\n- {name: idle, schedule: '@every 1s', command: 'true'}\n"
	for range 2 {
		g.add(config, cron, "AWS_ACCESS_KEY_ID="+versity.AccessKey, "AWS_SECRET_ACCESS_KEY="+versity.SecretKey)
	}
	for _, h := range g.hosts {
		h.answers()
	}
	ask := func(h *host, words string) (string, error) {
		out, err := exec.Command(h.agent, append([]string{"--socket", filepath.Join(h.dir, "s")}, strings.Fields(words)...)...).Output()
		return string(out), err
	}
	here, there := g.hosts[0], g.hosts[1]
	verb := func(words string) string {
		out, err := ask(here, words)
		if err != nil {
			t.Errorf("agent %s: %v", words, err)
		}
		return out
	}
	await(t, "one host pauses the job", func() bool { _, err := ask(there, "cron pause --here fails"); return err == nil })
	await(t, "the other runs it", func() bool { return strings.Contains(verb("cron history fails --json"), `"id"`) })
	verb("cron pause --here fails")
	ask(there, "cron resume --here fails")
	await(t, "it ran there", func() bool { return strings.Contains(verb("cron history fails --json"), `"tail"`) })
	await(t, "a long run", func() bool { return strings.Contains(verb("cron list --json"), `"running"`) })
	verb("cron pause idle")
	for _, name := range []string{"ps", "cron history", "cron list"} {
		c := clidoc.Check{Doc: doc, Verb: name}
		c.JSON([]byte(verb(name + " --json")))
		if name == "ps" {
			c.JSON([]byte(verb("ps --all --json")))
		}
		for _, f := range c.Faults {
			t.Error(f)
		}
		for _, f := range doc.Fields[name] {
			if unprinted[name+" "+f.Path] == fleetOnly && !c.Seen[f.Path] {
				t.Errorf("agent %s --json never has %s", name, f.Path)
			}
		}
		checkColumns(t, doc, name, verb(name))
	}
}

// underExcused reports whether an object that is not printed has the field.
func underExcused(verb, path string) bool {
	for key := range unprinted {
		if object, ok := strings.CutPrefix(key, verb+" "); ok && (strings.HasPrefix(path, object+".") || strings.HasPrefix(path, object+"[]")) {
			return true
		}
	}
	return false
}

// checkEnds judges by each run's state which fields it may have.
func checkEnds(t *testing.T, text string) {
	t.Helper()
	var list []map[string]any
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) == 0 {
		t.Errorf("%v: %.200s", err, text)
	}
	for _, r := range list {
		live := r["state"] == "running" || r["state"] == "starting"
		for _, field := range []string{"exit_code", "result", "ended", "signal", "oom", "timed_out", "stopped_by"} {
			always := slices.Contains([]string{"exit_code", "result", "ended"}, field)
			if r[field] != nil == live && (live || always) {
				t.Errorf("a run that is %v has %s: %v: %v", r["state"], field, r[field], r)
			}
		}
	}
}

// checkColumns looks for each column of the text among the fields.
func checkColumns(t *testing.T, doc clidoc.Doc, verb, text string) {
	t.Helper()
	header, _, _ := strings.Cut(text, "\n")
	if header == "" || header != strings.ToUpper(header) {
		return // no table
	}
	for _, column := range strings.Fields(header) {
		name := strings.ToLower(column)
		is := func(f clidoc.Field) bool {
			last := f.Path[strings.LastIndex(f.Path, ".")+1:]
			return last == name || strings.HasPrefix(last, name+"_")
		}
		if !slices.ContainsFunc(doc.Fields[verb], is) && !doc.NoField[verb+" "+column] {
			t.Errorf("agent %s: the column %s is no field", verb, column)
		}
	}
}
