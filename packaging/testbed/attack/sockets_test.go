package attack

import (
	"regexp"
	"strings"
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
	id := g.On("1", "agent exec -d -- sleep 61 2>/dev/null")
	if out, err := g.as("ec2-user", "agent ps --json; agent ps; agent status"); err != nil || !strings.Contains(out, id) || strings.Contains(out, "61") {
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
