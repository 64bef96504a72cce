package main

import (
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"beanstalk-agent/packaging/testbed/cloudwatchfake"
	"beanstalk-agent/packaging/testbed/gotool"
)

// What an agent leaves on disk is read by one of another version, there and back, killed or stopped in order: paused
// and held jobs, a drain, runs and their output, the one that still runs, what has been reported, figures not sent.
func TestStateAcrossVersions(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes 10 s: agents start one after the other")
	}
	landed := gotool.Agent(t, gotool.LandedAgent, "1.0.0")
	present, err := exec.LookPath("agent")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []succession{
		{"the present after the landed, killed", landed, present, syscall.SIGKILL},
		{"the present after the landed, stopped", landed, present, syscall.SIGTERM},
		{"the landed after the present, killed", present, landed, syscall.SIGKILL},
		{"the landed after the present, stopped", present, landed, syscall.SIGTERM},
	} {
		t.Run(s.name, func(t *testing.T) { t.Parallel(); s.play(t) })
	}
}

type succession struct {
	name     string
	from, to string // agents
	with     syscall.Signal
}

func (s succession) play(t *testing.T) {
	fake := &cloudwatchfake.Server{}
	cloudwatch := httptest.NewServer(fake)
	t.Cleanup(cloudwatch.Close)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	config := func(url string) string {
		return "health: {listen: '127.0.0.1:0', host: www.example.com}\nmetrics: {sample: 1s, interval: 10m, send: on}\n" +
			"aws: {region: eu-west-1, cloudwatch_endpoint: '" + url + "'}\n"
	}
	r := newResident(t, config("http://"+nobody.Addr().String()), "{name: tick, schedule: '@every 1s', command: echo tick}",
		"{name: long, schedule: '0 0 1 1 *', command: 'until [ -e go ]; do sleep 0.1; done; exit 3'}")
	has := func(agent, script string) bool { return r.sh(agent, script).code == 0 }
	must := func(agent, script string) {
		t.Helper()
		if a := r.sh(agent, script); a.code != 0 {
			t.Errorf("%s: exit status %d\n%s", script, a.code, a.text)
		}
	}

	stop := r.start(s.from)
	await(t, "samples and a client", func() bool {
		return has(s.from, "agent metrics | grep load_per_cpu && agent status | grep -E 'nothing has been sent yet|sending'")
	})
	stop(syscall.SIGTERM) // which leaves figures
	stop = r.start(s.from)
	for _, script := range []string{
		"agent exec -d -- sh -c 'echo one; exit 5' >id; agent wait $(cat id); test $? = 5",
		"(agent cron run long </dev/null >/dev/null 2>&1 &); until agent ps | grep long; do sleep 0.1; done",
		"until agent cron history tick | awk '/exit 0/ {print $1}' | tail -1 | grep . >tick; do sleep 0.1; done",
		"agent cron pause tick", "agent hold --limit 10m", "agent drain --wait 0 --reason 'a disk'", "agent health; test $? = 1",
		`until grep -q "msg=\"run ended\" run=$(cat id)" ../log; do sleep 0.1; done; sleep 0.3`, // and has noted it
		`until grep -q '"paused":"20' ../state/cron.json; do sleep 0.1; done`,                   // up to a second later, at first
	} {
		must(s.from, script)
	}
	nginx := r.read("state/nginx-health.conf")
	if !strings.Contains(nginx, "www.example.com") {
		t.Errorf("nginx-health.conf: %q", nginx)
	}
	stop(s.with)
	if spooled, _ := filepath.Glob(filepath.Join(r.dir, "state/spool/*-*-*.*")); len(spooled) == 0 {
		t.Error("nothing is spooled")
	}

	r.write("agent.yaml", "state_dir: "+r.dir+"/state\n"+config(cloudwatch.URL))
	stop = r.start(s.to)
	for _, script := range []string{
		"agent cron list | grep -E 'tick .*paused (here )?since'", "agent cron list --json | grep held_until",
		"agent health --json | grep '\"a disk\"'", "agent status | grep 'draining since .*: a disk'",
		"agent ps --all | grep \"$(cat id) .*exit 5\"", "test $(agent logs $(cat id)) = one", "agent cron history tick | grep $(cat tick)",
		"agent cron history long | grep ^long", "touch go; until agent cron history long | grep -E 'exit|stopped|ended|signal|lost|interrupted'; do sleep 0.1; done",
		"agent release; agent undrain; agent cron resume tick; agent cron history | wc -l >before",
		"until test $(agent cron history | wc -l) -gt $(cat before); do sleep 0.1; done",
		`test $(grep -c "msg=\"run ended\" run=$(cat id)" ../log) = 1`,
		`test $(grep -c "msg=\"run ended\" run=$(cat tick)" ../log) = 1`,
		"until test -z \"$(find ../state/spool -name '*-*-*.*')\"; do sleep 0.1; done",
	} {
		must(s.to, script)
	}
	if samplesOf(fake, "mem_used_percent") == 0 {
		t.Error("what was spooled did not arrive")
	}
	if now := r.read("state/nginx-health.conf"); now != nginx {
		t.Errorf("nginx-health.conf:\n%swas\n%s", now, nginx)
	}
	stop(syscall.SIGTERM)
	if t.Failed() {
		t.Log(r.read("log"))
	}
}

func (r *resident) read(name string) string {
	text, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		r.t.Error(err)
	}
	return string(text)
}
