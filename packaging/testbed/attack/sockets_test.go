package attack

import (
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
)

// refusedUsers: who is in no list gets no answer.
func refusedUsers(g *ground) {
	for _, user := range []string{"nobody", "webapp"} {
		g.getsNone(user, "status", "ps --all", "exec -- id", "exec -d -- id", "exec -t -- id", "cron list", "cron run stamp", "cron pause stamp",
			"env --values", "logs x", "attach x", "stop x", "wait x", "drain", "undrain", "reload", "hold 1h", "release", "metrics", "health", "capacity")
	}
}

// rootsVerbs: a user of exec.allow changes nothing for everybody, is nobody but the application's user, and sees no
// arguments of others.
func rootsVerbs(g *ground) {
	g.getsNone("ec2-user", "drain", "undrain", "reload", "hold 1h", "release", "exec -u root -- id", "exec -u nobody -- id", "exec -u ec2-user -- id",
		"exec -d -u root -- id", "exec -t -u root -- id")
	id := g.On("1", "agent exec -d -- sleep 86421 2>/dev/null")
	if out, err := g.as("ec2-user", "agent ps --json; agent ps; agent status"); err != nil || !strings.Contains(out, id) || strings.Contains(out, "86421") {
		g.T.Errorf("ec2-user sees of root's run: %v\n%s", err, out)
	}
	g.On("1", "agent stop "+id)
}

// namesThatClimb: a run's id is looked up, and never part of a path.
func namesThatClimb(g *ground) {
	for _, verb := range []string{"logs", "stop", "attach", "wait"} {
		g.getsNone("ec2-user", verb+" ../../../../etc/shadow", verb+" ..%2f..%2f..%2fetc%2fshadow", verb+" ../state", verb+" /etc/shadow", verb+" .", verb+" ..")
	}
}

// getsNone fails the test for each verb that a user is answered.
func (g *ground) getsNone(user string, verbs ...string) {
	g.T.Helper()
	script := "may() { local out; out=$(timeout 30 agent \"$@\" </dev/null 2>&1) && echo \"may: $*: $out\"; case $out in *root:*) echo \"got $out\" ;; esac; }; "
	for _, verb := range verbs {
		script += "may " + verb + "; "
	}
	if out, err := g.as(user, script+"echo all"); err != nil || out != "all" {
		g.T.Errorf("%s %v\n%s", user, err, out)
	}
}

// falseAgent: whoever listens where anybody may make a file is sent nothing.
func falseAgent(g *ground) {
	uid := g.On("1", "id -u ec2-user")
	g.leaves("webapp", "false-agent", "exec /usr/bin/python3 -I /box/attack/false_agent.py /tmp/agent-"+uid+"/agent.sock /tmp/agent/agent.sock /tmp/agent-0/agent.sock")
	g.waits("test -S /tmp/agent-" + uid + "/agent.sock -a -S /tmp/agent-0/agent.sock")
	for _, client := range []string{"", "env -u XDG_RUNTIME_DIR ", "env -i PATH=$PATH HOME=/nonexistent ", "env -i PATH=$PATH ", "env TMPDIR=/tmp "} {
		if out, err := g.as("ec2-user", client+"agent exec -e TOKEN=secret -- echo real"); err != nil || !strings.Contains(out, "real") {
			g.T.Errorf("%sagent exec: %v\n%s", client, err, out)
		}
	}
	g.gets("ec2-user", "an answer of somebody else", "XDG_RUNTIME_DIR=/tmp agent exec -e TOKEN=secret -- echo real")
	g.gets("root", "an answer of somebody else", "agent --socket /tmp/agent-0/agent.sock exec -e TOKEN=secret -- echo real")
	if got := g.On("1", "cat /tmp/false-agent-got"); strings.Contains(got, "TOKEN") || strings.Contains(got, "/v1/") {
		g.T.Errorf("a false agent got\n%s", got)
	}
}

// oddDescriptors: whatever is sent along is counted and closed.
func oddDescriptors(g *ground) {
	count := func() string { return g.On("1", "ls /proc/"+g.agent+"/fd /proc/"+g.supervisor+"/fd | wc -l") }
	before := count()
	out, err := g.as("ec2-user", "/usr/bin/python3 -I /box/attack/requests.py descriptors")
	if err != nil || !strings.Contains(out, "\ndetached 400") || !strings.Contains(out, "\nterminal 400") || !strings.Contains(out, "\n253 ") || regexp.MustCompile(`(?m) open$`).MatchString(out) {
		g.T.Errorf("%v\n%s", err, out)
	}
	g.waits("test $(ls /proc/" + g.agent + "/fd /proc/" + g.supervisor + "/fd | wc -l) -le $((" + before + " + 4))") // of others' requests
}

// malformedRequests: each is refused or cut off.
func malformedRequests(g *ground) {
	out, err := g.as("ec2-user", "/usr/bin/python3 -I /box/attack/requests.py malformed")
	for _, line := range strings.Split(out, "\n") {
		if !regexp.MustCompile(`^\w+ (4\d\d|closed.*|501|505)$`).MatchString(line) {
			g.T.Errorf("%s", line)
		}
	}
	if err != nil || strings.Count(out, "\n") < 10 {
		g.T.Errorf("%v\n%s", err, out)
	}
}

// lingeringDescriptors: what cannot be closed at once holds up nobody but whoever handed it in, and of strangers it is
// not even taken.
func lingeringDescriptors(g *ground) {
	const get, post = `GET /v1/status HTTP/1.1\r\nHost: a\r\n`, `POST /v1/runs HTTP/1.1\r\nHost: a\r\nContent-Length: 33\r\n\r\n{"args":["true"],"mode":"pipes"}\n`
	hand := func(user, request, seconds string) string {
		out, err := g.as(user, "HOLD="+seconds+" exec /usr/bin/python3 -I /box/attack/lingering.py 70 3 "+quote(request)+" 2>&1")
		if err != nil && !strings.Contains(err.Error(), "137") { // it ends itself and all it started
			g.T.Errorf("%s: %v", user, err)
		}
		return out
	}
	for user, request := range map[string]string{"nobody": post, "webapp": "G"} {
		if out := hand(user, request, "0.5"); strings.Count(out, "refused: Permission denied") != 70 {
			g.T.Errorf("%s: %s", user, out)
		}
	}
	defer g.busy("ec2-user")()
	for _, request := range []string{"G", get + `\r\n`, post} {
		hand("ec2-user", request, "1")
	}
}

// manyConnections: who holds connections and says nothing more, or not all of it, takes nobody's place but its own.
func manyConnections(g *ground) {
	hold := func(user string, connections int, text string) string {
		out, err := g.as(user, fmt.Sprintf("exec timeout 100 /usr/bin/python3 -I /box/attack/stalled.py %d 1 %s", connections, text))
		if err != nil {
			g.T.Errorf("%s, %.40s: %v", user, text, err)
		}
		return out
	}
	const get, post = `'GET /v1/status HTTP/1.1\r\nHost: a\r\n`, `'POST /v1/runs HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n`
	for _, user := range []string{"nobody", "webapp"} {
		if out := hold(user, 900, get+`\r\n'`); out != "open 0 of 900" {
			g.T.Errorf("%s: %s", user, out)
		}
	}
	defer g.busy("ec2-user")()
	for _, text := range []string{"''", get + `\r\n'`, get + `X: '`, post + `'`, post + `{"args":["' 3900000`} {
		hold("ec2-user", 100, text)
	}
}

// busy has no more commands run as a user who makes the attack, until the returned function is called: its places are
// its own to take.
func (g *ground) busy(user string) (over func()) {
	g.asking.Lock()
	defer g.asking.Unlock()
	g.theirs.Store(true)
	return func() {
		g.T.Helper()
		g.waits("sudo -nu " + user + " agent exec -- true") // a moment later its places are its own again
		g.theirs.Store(false)
	}
}

// floodOfRequests: who asks without end, allowed or not, leaves a line or two in the log, and what others start is
// still in it.
func floodOfRequests(g *ground) {
	for _, user := range []string{"nobody", "ec2-user"} {
		g.leaves(user, "flood", "exec /usr/bin/python3 -I /box/attack/flood.py 2 >/tmp/flood.log")
		g.audited()
		g.waits("grep asked /tmp/flood.log")
		g.On("1", "rm /tmp/flood.log")
	}
	if n := g.On("1", "journalctl --sync; journalctl -u agent --no-pager | grep -c ' msg=refused ' || :"); len(n) > 2 {
		g.T.Errorf("%s lines of refusals", n)
	}
	if out := g.On("1", "journalctl --no-pager | grep 'Suppressed .* messages from agent' || :"); out != "" {
		g.T.Error(out)
	}
}

// greedyCalls: what a user of exec.allow asks, of the largest table that the application may have, costs the agent no
// more than its ceiling.
func greedyCalls(g *ground) {
	const file = "/var/app/current/cron.yaml"
	g.On("1", "cp -p "+file+" /run/cron.yaml && /usr/bin/python3 -I /box/attack/obstacles.py largest "+file+" && agent reload")
	if out, err := g.as("ec2-user", `for n in {1..4}; do for verb in 'cron list' 'cron list --json' 'cron next -n 100000' 'cron next -n 1000' 'ps --all -n 1000000' 'health --history' status; do
		timeout 100 agent $verb >/dev/null 2>&1 & done; done; wait; agent cron list | tail -n 1`); err != nil || !strings.HasPrefix(out, "job") {
		g.T.Errorf("%v\n%s", err, out)
	}
	g.On("1", "cp -p /run/cron.yaml "+file+" && agent reload")
}

// audited: what a user of exec.allow starts is in the log, with his name, whatever else is.
func (g *ground) audited() {
	g.T.Helper()
	mark := fmt.Sprintf("audit-%d", marks.Add(1))
	g.On("1", "install -m 755 /bin/true /tmp/"+mark)
	if out, err := g.as("ec2-user", "agent exec -- /tmp/"+mark); err != nil {
		g.T.Errorf("%v\n%s", err, out)
	}
	g.waits("journalctl --sync; journalctl -u agent -u agent-runs --no-pager -n 20000 | grep " + mark + " | grep -q ec2-user")
}

var marks atomic.Int64
