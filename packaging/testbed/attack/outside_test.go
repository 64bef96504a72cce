package attack

import (
	"fmt"
	"regexp"

	"beanstalk-agent/packaging/testbed/boxed"
)

// manyHosts: however many strangers ask with however many Hosts, the load balancer gets its answer.
func manyHosts(g *ground) {
	ask := func(when, status string, kinds ...string) {
		for _, kind := range kinds {
			out := g.On("1", fmt.Sprintf("/usr/bin/python3 -I /box/attack/outside.py 200 2 %s", quote(kind)))
			g.T.Logf("%s, %s: %s", when, kind, out)
			if !regexp.MustCompile(`balancer \{` + status + `: \d+\}$`).MatchString(out) {
				g.T.Errorf("%s, %s: %s\n%s", when, kind, out, g.On("1", "tail -n 3 /var/log/nginx/error.log"))
			}
		}
	}
	ask("with a Host", "200", "names", "a balancer's name, addresses")
	g.configured("s|^  host:.*|  host: \"\"|")
	defer g.configured("")
	const answer = "400" // the application's own to such a Host
	ask("without a Host", answer, "names", "a balancer's name, addresses", "through a balancer", "ports")
}

// configured changes the agent's configuration by a sed command, or takes that back, and restarts it.
func (g *ground) configured(edit string) {
	g.T.Helper()
	g.asking.Lock()
	defer g.asking.Unlock()
	const file = "/etc/agent/agent.yaml"
	g.On("1", "test -e /run/agent.yaml || cp -p "+file+" /run/agent.yaml; cp -p /run/agent.yaml "+file+"; sed -i "+quote(edit)+" "+file+" && systemctl restart agent")
	boxed.Wait(g.T, "an agent that is ready", func() bool { return g.Version("1") == "1.0.0" })
	g.known()
}

// portTaken: any user can take the port of an nginx snippet from before, while the agent is not there. It answers no load
// balancer all the same: nginx asks at a socket that nobody but root can make, and nobody but nginx can connect to.
func portTaken(g *ground) {
	g.On("1", "echo 503 >/tmp/squat-status")
	g.leaves("nobody", "squat", "exec /usr/bin/python3 -I /box/attack/squat.py 8127 /tmp/squat-status")
	agent := func(script string) {
		g.asking.Lock()
		defer g.asking.Unlock()
		g.On("1", script)
		boxed.Wait(g.T, "an agent that is ready", func() bool { return g.Version("1") == "1.0.0" })
		g.known()
	}
	hears := func(when, want string) {
		g.T.Helper()
		if got := g.On("1", `for n in 1 2 3; do curl -s -m 8 -o /dev/null -w '%{http_code}\n' -A ELB-HealthChecker/2.0 -H 'Host: 10.0.0.5' http://127.0.0.1/agent-health; done | sort -u`); got != want {
			g.T.Errorf("%s, the load balancer hears %s, want %s", when, got, want)
		}
	}
	agent("systemctl stop agent; until journalctl -q -u attacker-squat | grep -q 'taken 127'; do sleep 0.1; done; systemctl start agent")
	hears("the port is taken and answers 503", "200")
	g.waits("agent status | grep -q 'warn .*health .*somebody else'")
	g.On("1", "agent drain --wait 0 >/dev/null; echo 200 >/tmp/squat-status")
	hears("it answers 200 to a drained instance's", "503")
	agent("systemctl restart agent")
	hears("the agent has restarted", "503")
	g.On("1", "agent undrain; echo 503 >/tmp/squat-status")
	hears("no longer drained", "200")
	g.On("1", "systemctl stop attacker-squat")
	g.waits("! agent status | grep -q 'somebody else'")
	for _, user := range []string{"nobody", "webapp", "ec2-user"} {
		const socket = `/usr/bin/python3 -Ic 'import socket, sys; s = socket.socket(socket.AF_UNIX); getattr(s, sys.argv[1])(sys.argv[2])' `
		g.gets(user, "what only nginx has", socket+"connect /run/agent/health.sock")
		g.gets(user, "a name in root's directory", socket+"bind /run/agent/other.sock")
		g.gets(user, "the socket's name", "rm -f /run/agent/health.sock || mv /run/agent/health.sock /run/agent/other || mv /run/agent /run/other")
		g.gets(user, "a place at the agent's port", `/usr/bin/python3 -Ic 'import socket; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1); s.bind(("127.0.0.1", 8127))'`)
	}
}
