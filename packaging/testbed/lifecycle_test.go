package testbed

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"beanstalk-agent/packaging/testbed/cloudwatchfake"
	"beanstalk-agent/packaging/testbed/planted"
)

// TestLifecycle plays the life of an environment from its first deployment to its
// end. Each part stands on what the parts before it left.
func TestLifecycle(t *testing.T) {
	b := newBox(t, "box-life")
	b.Do("build")
	app := b.App("1.0.0")
	b.Do("up", app)

	step := func(name string, part func(*testing.T)) {
		if !t.Failed() {
			t.Run(name, func(t *testing.T) {
				b.T = t
				part(t)
			})
			b.T = t
		}
	}
	step("first deployment", b.firstDeployment)
	step("every step again changes nothing", func(t *testing.T) { b.again(t, app) })
	step("each check of each load balancer", b.everyCheck)
	step("Puma's socket", b.pumasSocket)
	step("a change of properties", b.changeOfProperties)
	step("a look at it by capture.sh", b.capture)
	step("an agent that is killed or stuck", b.restarted)
	step("a change of the agent's configuration", func(t *testing.T) { b.changeOfConfiguration(t, app) })
	step("an upgrade", b.upgrade)
	step("back to an older agent", func(t *testing.T) { b.olderAgent(t, app) })
	step("a deployment that fails", b.failedDeployment)
	step("back to a bundle from before the agent", b.bareBundle)
	step("a reboot", func(t *testing.T) { b.reboot(t, app) })
	step("scale-out and scale-in", b.scale)
	step("an immutable update", func(t *testing.T) { b.immutable(t, app) })
	step("an update of the platform", b.platformUpdate)
}

// With one copied folder and nothing else done, all four jobs work.
func (b *box) firstDeployment(t *testing.T) {
	wait(t, "a status without a fault", func() bool { return b.statusGood(t, "1") })
	b.sameEnvironment(t, "1")
	b.findsDifference(t)
	wait(t, "the job's stamp", func() bool { return b.Holds("1", "test -s /var/tmp/stamp") })
	if owner := b.On("1", "stat -c %U /var/tmp/stamp"); owner != "webapp" {
		t.Errorf("the job ran as %s, want webapp", owner)
	}
	if line := b.On("1", "tail -n 1 /var/tmp/stamp"); !strings.HasPrefix(line, "webapp /var/app/current ") {
		t.Errorf("the job wrote %q", line)
	}
	wait(t, "a datum in CloudWatch", func() bool {
		return b.Holds("1", `AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x AWS_DEFAULT_REGION=us-east-1 /usr/bin/aws \
			--endpoint-url http://127.0.0.1:8126 cloudwatch list-metrics --namespace BeanstalkAgent --metric-name mem_used_percent \
			--dimensions Name=EnvironmentName,Value=box-env --output text | grep -q mem_used_percent`)
	})
	b.everyMetric(t, "1")
	b.sends(t, "1")
	b.healthAnswers(t, "1")
}

// everyMetric compares what the agent measures inside its unit, hardened as that is,
// with what another agent measures that is not.
func (b *box) everyMetric(t *testing.T, instance string) {
	t.Helper()
	names := func(socket string) []string {
		return strings.Fields(b.On(instance, "agent --socket "+socket+` metrics --once --json | grep -o '"name": *"[^"]*"' | sort -u | tr -d ' '`))
	}
	const hardened, plain = "/run/agent/agent.sock", "/run/plain.sock"
	write(t, b.Dir, "plain.yaml", `socket: `+plain+`
state_dir: /var/lib/plain
metrics: {send: "off"}
cron: {file: none.yaml}
health: {listen: "127.0.0.1:8128"}
`)
	b.On(instance, "systemd-run --quiet --collect --unit=plain -p Type=notify /opt/agent/bin/agent --config /box/plain.yaml run")
	defer b.On(instance, "systemctl stop plain")
	var missing []string
	told := ""
	wait(t, "every metric from inside the unit", func() bool {
		inside, outside := names(hardened), names(plain)
		missing = slices.DeleteFunc(outside, func(name string) bool { return slices.Contains(inside, name) })
		if now := fmt.Sprintf("outside %d, not inside: %s", len(outside), missing); now != told {
			t.Log(now)
			told = now
		}
		return len(missing) == 0 && len(outside) >= 10
	})
	for _, needs := range []string{"group_memory_pss", "listen_backlog"} { // CAP_SYS_PTRACE, AF_NETLINK
		if got := strings.Join(names(hardened), " "); !strings.Contains(got, needs) {
			t.Errorf("%s is not measured inside the unit: %s", needs, got)
		}
	}
}

// statusGood reports whether agent status shows nothing bad and warns of nothing. An
// agent that is younger than its first publish warns of that; fresh allows it.
func (b *box) statusGood(t *testing.T, instance string) bool { return b.statusIs(t, instance, "") }

func (b *box) fresh(t *testing.T, instance string) bool {
	return b.statusIs(t, instance, "nothing has been sent yet")
}

func (b *box) statusIs(t *testing.T, instance, allowed string) bool {
	text, err := b.Try("exec", instance, "agent", "status", "--json")
	b.status = text
	if err != nil {
		return false
	}
	var status struct {
		Lines []struct{ What, State, Text string }
	}
	if err := json.Unmarshal([]byte(text), &status); err != nil || len(status.Lines) == 0 {
		t.Fatalf("agent status --json: %v\n%s", err, text)
	}
	for _, l := range status.Lines {
		if l.State != "ok" && l.State != "note" && (allowed == "" || !strings.Contains(l.Text, allowed)) {
			return false
		}
	}
	return true
}

// sameEnvironment compares what exec gives with what the web process has.
func (b *box) sameEnvironment(t *testing.T, instance string) {
	t.Helper()
	// systemd's own, which say which process it is
	const own = "^(INVOCATION_ID|JOURNAL_STREAM|SYSTEMD_EXEC_PID|PWD|SHLVL|_)="
	wait(t, "the web process to be more than forked", func() bool {
		return b.Holds(instance, "grep -qz ^GREETING= /proc/$(cat /var/pids/web.pid)/environ")
	})
	web := b.On(instance, `tr '\0' '\n' </proc/$(cat /var/pids/web.pid)/environ | grep -Ev '`+own+`' | sort`)
	got := b.On(instance, `sudo -u ec2-user agent exec -- env 2>/dev/null | grep -Ev '`+own+`' | sort`)
	if got != web {
		t.Errorf("agent exec has\n%s\nthe web process has\n%s", got, web)
	}
	if !strings.Contains(got, "GREETING=") {
		t.Errorf("no property is there:\n%s", got)
	}
}

// findsDifference has the agent compare the two itself: as they are, and with one
// property more than the web process was started with.
func (b *box) findsDifference(t *testing.T) {
	t.Helper()
	if out := b.On("1", "sudo -u ec2-user agent env --diff"); !strings.Contains(out, " 0 different ") {
		t.Errorf("agent env --diff says\n%s", out)
	}
	const file = "/opt/elasticbeanstalk/deployment/env"
	out := b.On("1", `cp -a `+file+` /run/kept && echo EXTRA=`+planted.Value+` >>`+file+`
		sudo -u ec2-user agent env --diff; echo "exit $?"
		sudo -u ec2-user agent env --diff --values | grep -c '^  a run now: *"`+planted.Value+`"$'; cp -a /run/kept `+file)
	if !strings.Contains(out, "EXTRA") || !strings.Contains(out, " 1 different ") || !strings.Contains(out, "exit 1\n1") || strings.Contains(out, planted.Value) {
		t.Errorf("with another property, agent env --diff says\n%s", out)
	}
}

// healthAnswers asks as a load balancer does, and checks that it is the agent who
// answers: the application says 400 to this Host.
func (b *box) healthAnswers(t *testing.T, instance string) {
	t.Helper()
	ask := func(path string) string {
		out, _ := b.Try("exec", instance, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: 10.0.0.5", "http://127.0.0.1"+path)
		return out
	}
	wait(t, "health 200 through nginx", func() bool { return ask(healthPath) == "200" })
	if got := ask("/"); got != "400" {
		t.Errorf("the application itself answers %s to that Host, want 400", got)
	}
}

// What Install placed, down to the inodes' times; and who runs from it, since when.
const (
	lookAtFiles = `stat -c '%n %i %Z' /opt/agent/bin/agent /usr/bin/agent /etc/systemd/system/agent*.service /etc/systemd/system/multi-user.target.wants/agent.service
		ls -A /opt/agent /opt/agent/bin`
	lookAtAll = lookAtFiles + `; systemctl show -p MainPID,ActiveEnterTimestamp agent agent-runs`
)

// again repeats deployment, change of properties and restart: nothing of ours may
// move, and what runs goes on.
func (b *box) again(t *testing.T, app string) {
	w := b.startWork(t)
	b.nothingMoves(t, lookAtAll, func() {
		b.Do("deploy", app)
		b.Do("config", "GREETING=the same")
		b.Do("restart")
	})
	b.goesOn(t, w)
	b.endWork(t, w)
	if log := b.On("1", "cat /var/log/agent-install.log"); !strings.Contains(log, "nothing to do") {
		t.Errorf("the last installation says:\n%s", log)
	}
	b.sameEnvironment(t, "1")
}

// nothingMoves does again, and once more, what was done already.
func (b *box) nothingMoves(t *testing.T, look string, do func()) {
	t.Helper()
	before := b.On("1", look)
	for range 2 {
		do()
		if after := b.On("1", look); after != before {
			t.Fatalf("before:\n%s\nafter:\n%s", before, after)
		}
	}
}

func (b *box) changeOfProperties(t *testing.T) {
	w := b.startWork(t)
	agent := b.PID("1", "agent")
	b.Do(slices.Concat([]string{"config", `GREETING=changed "too" $x`}, turning)...)
	b.goesOn(t, w)
	if now := b.PID("1", "agent"); now != agent {
		t.Errorf("the agent was restarted: %s, then %s", agent, now)
	}
	b.sameEnvironment(t, "1")
	b.healthAnswers(t, "1") // the location is still there
	wait(t, "a job with the new property", func() bool { return b.Holds("1", `tail -n 1 /var/tmp/stamp | grep -qF 'changed "too" $x'`) })
	b.endWork(t, w)
	b.changeOfHost(t)
	b.signsAsTheRole(t)
}

// changeOfHost: with a property alone, and no check in between, nginx too asks with
// the new Host, should the agent be down. Where nothing of this changes, nginx is
// left alone.
func (b *box) changeOfHost(t *testing.T) {
	t.Helper()
	reloads := func() int {
		n, err := strconv.Atoi(b.On("1", "journalctl -q -u nginx | grep -c Reloaded || :"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := reloads()
	for _, name := range []string{"shop.example.com", "www.example.com"} {
		b.Do("config", "ALLOWED_HOSTS="+name, "HEALTH_HOST="+name)
		b.On("1", "systemctl stop agent")
		b.healthAnswers(t, "1")
		b.On("1", "systemctl start agent")
	}
	b.Do("config", "ALLOWED_HOSTS=www.example.com")
	if n := reloads() - before; n != 2 {
		t.Errorf("nginx was reloaded %d times for two other Hosts", n)
	}
}

// turning is what would turn AWS's clients, and the agent's, to other keys and other
// places. From here on it is among the application's properties.
var turning = []string{"AWS_ACCESS_KEY_ID=AKIDAPP", "AWS_SECRET_ACCESS_KEY=" + planted.Value, "AWS_SESSION_TOKEN=" + planted.Value, "AWS_PROFILE=app",
	"AWS_REGION=ap-south-1", "AWS_DEFAULT_REGION=ap-south-1", "AWS_ENDPOINT_URL=http://127.0.0.1:9", "AWS_ENDPOINT_URL_CLOUDWATCH=http://127.0.0.1:9",
	"AWS_EC2_METADATA_DISABLED=true", "AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:9", "HTTP_PROXY=http://127.0.0.1:9", "HTTPS_PROXY=http://127.0.0.1:9"}

// signsAsTheRole checks that an agent that finds those properties when it starts
// still sends, and signs as the instance's role in the instance's region.
func (b *box) signsAsTheRole(t *testing.T) {
	t.Helper()
	if file := b.On("1", "cat /opt/elasticbeanstalk/deployment/env"); !strings.Contains(file, "AWS_ACCESS_KEY_ID=AKIDAPP\n") {
		t.Error("the properties are not in Beanstalk's file")
	}
	b.On("1", "systemctl restart agent box-cloudwatch") // which forgets what came before
	var came []cloudwatchfake.Request
	wait(t, "requests to CloudWatch", func() bool {
		text, err := b.Try("exec", "1", "curl", "-s", "http://127.0.0.1:8126/-/requests")
		return err == nil && json.Unmarshal([]byte(text), &came) == nil && len(came) > 1
	})
	for _, r := range came {
		if r.Status != 200 || r.Signer != "AKIDBOX" || r.SignedIn != "us-east-1" {
			t.Errorf("with AWS variables of the application's, a request is signed by %s in %s and answered %d", r.Signer, r.SignedIn, r.Status)
		}
	}
}

// systemd starts the agent again when it is killed, and when its loops stand still:
// the watchdog is no timer that runs by itself.
func (b *box) restarted(t *testing.T) {
	b.On("1", `mkdir -p /etc/systemd/system/agent.service.d && printf '[Service]\nWatchdogSec=4s\n' >/etc/systemd/system/agent.service.d/test.conf &&
		systemctl daemon-reload && systemctl restart agent`)
	w := b.startWork(t)
	for _, signal := range []string{"KILL", "STOP"} {
		// in one go: on a busy machine this watchdog may be quicker than a test
		agent := b.On("1", "pid=$(systemctl show -p MainPID --value agent); kill -"+signal+" $pid; echo $pid")
		wait(t, "another agent after SIG"+signal, func() bool { return b.PID("1", "agent") != agent && b.Version("1") == "1.0.0" })
		b.goesOn(t, w)
	}
	b.endWork(t, w)
	b.On("1", `rm -r /etc/systemd/system/agent.service.d && systemctl daemon-reload && systemctl restart agent`)
}

// What a "files:" block brings is in force when the deployment ends, once.
func (b *box) changeOfConfiguration(t *testing.T, app string) {
	w := b.startWork(t)
	changed := b.App("1.0.0")
	edit(t, changed, ".ebextensions/agent-yaml.config", "      metrics:", "      exec:\n        allow: [root]\n      metrics:")
	b.Do("deploy", changed)
	agent := b.PID("1", "agent")
	if !b.Holds("1", "sudo -u ec2-user agent exec -- true; [ $? = 125 ]") {
		t.Error("the deployed configuration is not in force")
	}
	b.Do("deploy", changed)
	if now := b.PID("1", "agent"); now != agent {
		t.Errorf("the same configuration restarted the agent: %s, then %s", agent, now)
	}
	b.Do("deploy", app)
	b.goesOn(t, w)
	b.endWork(t, w)
}

func (b *box) upgrade(t *testing.T) {
	w := b.startWork(t)
	supervisor := b.PID("1", "agent-runs")
	newer := b.App("2.0.0")
	b.Do("deploy", newer)
	wait(t, "the new version", func() bool { return b.Version("1") == "2.0.0" })
	b.goesOn(t, w)
	if now := b.PID("1", "agent-runs"); now != supervisor {
		t.Errorf("the supervisor of a run was restarted: %s, then %s", supervisor, now)
	}
	b.endWork(t, w)
	wait(t, "the supervisor of the new version", func() bool {
		return b.Holds("1", "cmp -s /proc/$(systemctl show -p MainPID --value agent-runs)/exe /opt/agent/bin/agent")
	})
	wait(t, "a good status", func() bool { return b.fresh(t, "1") })
	b.nothingMoves(t, lookAtAll, func() { b.Do("deploy", newer) })
}

func (b *box) olderAgent(t *testing.T, app string) {
	b.Do("deploy", app)
	wait(t, "the older version", func() bool { return b.Version("1") == "1.0.0" })
	wait(t, "a good status", func() bool { return b.fresh(t, "1") })
	wait(t, "the supervisor of that version", func() bool {
		return b.Holds("1", "cmp -s /proc/$(systemctl show -p MainPID --value agent-runs)/exe /opt/agent/bin/agent")
	})
	b.nothingMoves(t, lookAtAll, func() { b.Do("deploy", app) })
}

// A build that fails comes before anything of ours; a hook of the application's
// that fails comes after our hold, which must not last.
func (b *box) failedDeployment(t *testing.T) {
	w, agent := b.startWork(t), b.PID("1", "agent")
	for name, file := range map[string]string{"a build": "fail-build", "a hook": ".platform/hooks/predeploy/50_fail.sh"} {
		app := b.App("1.0.0")
		write(t, app, file, "#!/bin/sh\nexit 1\n")
		if out, err := b.Try("deploy", app); err == nil {
			t.Errorf("with %s that fails the deployment succeeds:\n%s", name, out)
		}
		b.goesOn(t, w)
		b.sameEnvironment(t, "1")
		b.healthAnswers(t, "1")
	}
	if now := b.PID("1", "agent"); now != agent {
		t.Errorf("the agent was restarted: %s, then %s", agent, now)
	}
	b.On("1", "agent release")
	b.endWork(t, w)
}

// A bundle without any of our files leaves the agent there, with no jobs.
func (b *box) bareBundle(t *testing.T) {
	bare := filepath.Join(t.TempDir(), "bare")
	if err := os.CopyFS(bare, os.DirFS("sample")); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(bare, "cron.yaml"))
	b.Do("deploy", bare)
	wait(t, "a good status", func() bool { return b.fresh(t, "1") })
	for _, absent := range []string{"no hooks", "no nginx location"} {
		if !strings.Contains(b.status, absent) {
			t.Errorf("the status does not say %q:\n%s", absent, b.status)
		}
	}
	wait(t, "an empty table", func() bool { return b.Holds("1", `agent cron list --json | grep -q "\"jobs\": \[\]"`) })
	b.sameEnvironment(t, "1")
}

// A reboot drains, ends runs in order, with a record, and is then a whole deployment
// while our units already run.
func (b *box) reboot(t *testing.T, app string) {
	b.Do("deploy", app)
	w, before := b.startWork(t), b.On("1", lookAtFiles+"; touch /var/tmp/enough")
	b.askOn(t)
	b.Do("reboot", "1")
	b.drained(t)
	wait(t, "a good status", func() bool { return b.statusGood(t, "1") })
	if r := b.runOf("1", w.command); r.State != "interrupted" || r.StoppedBy != "shutdown" || r.Signal != 15 {
		t.Errorf("the shutdown is recorded as %+v", r)
	}
	if after := b.On("1", lookAtFiles); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	b.sameEnvironment(t, "1")
	b.healthAnswers(t, "1")
	lines := b.On("1", "wc -l </var/tmp/stamp")
	wait(t, "the job's next stamp", func() bool { return b.On("1", "wc -l </var/tmp/stamp") != lines })
	b.nothingMoves(t, lookAtFiles, func() {
		b.Do("reboot", "1")
		wait(t, "a good status", func() bool { return b.fresh(t, "1") })
	})
}

// askOn plays a load balancer that asks until the machine is down, one second after
// the other, and a user. The agent waits for it 5 s instead of 30.
func (b *box) askOn(t *testing.T) {
	t.Helper()
	b.On("1", `mkdir /run/systemd/system/agent.service.d
		{ printf '[Service]\nExecStop=\n'; sed -n '/^ExecStop=/s/--wait 30s/--wait 5s/p' /etc/systemd/system/agent.service; } >/run/systemd/system/agent.service.d/soon.conf
		grep -q 'wait 5s' /run/systemd/system/agent.service.d/soon.conf
		systemctl daemon-reload
		cat >/var/tmp/ask <<'E'
		ask() { curl -s -m 2 -o /dev/null -w '%{http_code} ' "$@"; }
		while :; do
			echo "$(ask -A ELB-HealthChecker/2.0 -H 'Host: 10.0.0.5' http://127.0.0.1/agent-health)$(ask http://127.0.0.1/)"
			sleep 0.5
		done >/var/tmp/asked
E
		systemd-run --quiet --collect -p DefaultDependencies=no /bin/bash /var/tmp/ask # which no shutdown stops before the last`)
	wait(t, "the load balancer's first check", func() bool { return b.Holds("1", "grep -q ^200 /var/tmp/asked") })
}

// drained checks what the load balancer of askOn and the user were told: after the
// first 503 no check was answered otherwise, while the application still served.
func (b *box) drained(t *testing.T) {
	t.Helper()
	asked := strings.Split(b.On("1", "cat /var/tmp/asked"), "\n")
	first := slices.IndexFunc(asked, func(s string) bool { return strings.HasPrefix(s, "503 ") })
	if first < 0 {
		t.Fatalf("no check was answered 503 at shutdown: %q", asked)
	}
	served := 0
	for _, s := range asked[first:] {
		if strings.HasPrefix(s, "200") {
			t.Errorf("a check was answered 200 while the machine went down: %q", asked[first:])
		}
		if strings.HasPrefix(s, "503 ") && !strings.HasPrefix(s, "503 000") {
			served++
		}
	}
	if served < 3 {
		t.Errorf("the application served for %d checks after the first 503, want 3 at least: %q", served, asked[first:])
	}
}

func (b *box) scale(t *testing.T) {
	n := b.Do("scale-out")
	wait(t, "a good status on the new instance", func() bool { return b.fresh(t, n) })
	b.sameEnvironment(t, n)
	b.healthAnswers(t, n)
	b.On(n, "systemctl stop agent") // its one deployment has told nginx how to ask in the agent's place
	b.healthAnswers(t, n)
	b.Do("scale-in", n)
	b.healthAnswers(t, "1")
}

// An update of the platform replaces the instances, too; the bundle is the one that
// is there.
func (b *box) platformUpdate(t *testing.T) {
	n := b.Do("swap")
	wait(t, "a good status on the new instance", func() bool { return b.statusGood(t, n) })
	b.sameEnvironment(t, n)
	b.healthAnswers(t, n)
}

func (b *box) immutable(t *testing.T, app string) {
	n := b.Do("swap", app)
	if n == "1" {
		t.Fatal("no new instance was made")
	}
	wait(t, "the agent on the new instance", func() bool { return b.Version(n) == "1.0.0" })
	b.sameEnvironment(t, n)
	if stack := b.On(n, "cat /opt/elasticbeanstalk/config/ebenvinfo/stackid"); strings.Contains(stack, "immutable") {
		t.Errorf("the stack was not switched: %s", stack)
	}
	if names := strings.Fields(b.On(n, "systemctl list-units --failed --plain --no-legend")); slices.Contains(names, "agent.service") {
		t.Errorf("failed units: %s", names)
	}
}

// capture.sh is for others' instances, so it must not print a value, not even the
// second line of one.
func (b *box) capture(t *testing.T) {
	b.Do("config", "MULTI=first-line-planted-5c1e\nc2Vjb25kLWxpbmU=\nthird: line-planted-5c1e", "QUOTED=it's \"planted-5c1e\" `x`")
	b.On("1", `mkdir /etc/systemd/system/web.service.d; printf '[Service]\n# planted-5c1e\nEnvironment="A=1" \\\n  "B=planted-5c1e"\nSetCredential=c:planted-5c1e\nExecStopPost=/bin/echo planted-5c1e\n' \
		>/etc/systemd/system/web.service.d/values.conf; systemctl daemon-reload`)
	defer b.On("1", "rm -r /etc/systemd/system/web.service.d; systemctl daemon-reload")
	write(t, b.Dir, "capture", string(read(t, "capture.sh")))
	out := b.On("1", "/box/capture")
	for _, secret := range []string{planted.Value, "c2Vjb25k", "third", "www.example.com"} {
		if strings.Contains(out, secret) {
			t.Errorf("it prints %q:\n%s", secret, out)
		}
	}
	for _, want := range []string{"MULTI: ", "QUOTED: ", "platformconfig: AppDeployDir", "EnvironmentName", "PartOf=eb-app.target", "SetCredential=(hidden)", "ExecStopPost=/bin/echo (rest hidden)", "FlipApplication"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
