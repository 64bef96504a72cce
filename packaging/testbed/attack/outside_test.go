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
