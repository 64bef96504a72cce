package testbed

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// What follows the Host in a check of an Application or Network Load Balancer, and of a
// Classic one.
const (
	byELB2 = "Connection: close\r\nUser-Agent: ELB-HealthChecker/2.0\r\nAccept-Encoding: gzip, compressed\r\n"
	byELB1 = "Connection: keep-alive\r\nUser-Agent: ELB-HealthChecker/1.0\r\nAccept: */*\r\n"
)

// checks are health checks as they come over the wire. The Hosts are those that
// health.AsLoadBalancer names; by which Host and version of HTTP a Classic Load Balancer
// asks is not documented, so all that were seen or may be are here.
var checks = map[string]string{
	"ALB":                    "GET PATH HTTP/1.1\r\nHost: 10.0.0.5\r\n" + byELB2,
	"ALB, with a port":       "GET PATH HTTP/1.1\r\nHost: 10.0.0.5:80\r\n" + byELB2,
	"ALB, IPv6":              "GET PATH HTTP/1.1\r\nHost: [fd00::5]\r\n" + byELB2,
	"NLB":                    "GET PATH HTTP/1.1\r\nHost: 198.51.100.7:80\r\n" + byELB2,
	"CLB":                    "GET PATH HTTP/1.1\r\nHost: 10.0.0.5\r\n" + byELB1,
	"CLB, localhost":         "GET PATH HTTP/1.1\r\nHost: localhost\r\n" + byELB1,
	"CLB, HTTP/1.0":          "GET PATH HTTP/1.0\r\nHost: 10.0.0.5\r\n" + byELB1,
	"CLB, HTTP/1.0, no Host": "GET PATH HTTP/1.0\r\n" + byELB1,
	users:                    "GET PATH HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n",
}

// healthPath is the agent's, health.path by default.
const healthPath = "/agent-health"

// users is a person who asks by the site's own name.
const users = "the users' Host"

// asker sends the requests of its argument to nginx, all at once, and prints how each
// was answered; 0 is not at all, within a load balancer's 5 s.
const asker = `#!/usr/bin/python3 -I
import json, socket, sys, threading
answers = {}
def ask(name, request):
    answers[name] = 0
    try:
        with socket.create_connection(("127.0.0.1", 80), 5) as s:
            s.settimeout(5)
            s.sendall(request.encode())
            with s.makefile("rb") as answer:
                answers[name] = int(answer.readline().split()[1])
    except (OSError, IndexError, ValueError):
        pass
askers = [threading.Thread(target=ask, args=a) for a in json.loads(sys.argv[1]).items()]
for t in askers: t.start()
for t in askers: t.join()
print(json.dumps(answers))
`

// asked is how each of checks is answered at path, with headers of the test's own.
func (b *box) asked(t *testing.T, path string, headers ...string) map[string]int {
	t.Helper()
	requests, answers := map[string]string{}, map[string]int{}
	for name, text := range checks {
		requests[name] = strings.Replace(text, "PATH", path, 1) + strings.Join(append(headers, "\r\n"), "\r\n")
	}
	text, err := json.Marshal(requests)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(b.Do("exec", "1", "/box/asker", string(text))), &answers); err != nil || len(answers) != len(checks) {
		t.Fatalf("%v: %v", answers, err)
	}
	return answers
}

// allAnswered waits until each check, and a person who asks by the users' name, is
// answered with status, and the agent's own last word has reason in it.
func (b *box) allAnswered(t *testing.T, status int, reason string) {
	t.Helper()
	var answers map[string]int
	last, said := "", ""
	wait(t, fmt.Sprintf("%d for each check, because %q", status, reason), func() bool {
		answers = b.asked(t, healthPath)
		last, _ = b.Try("exec", "1", "/bin/bash", "-c", "agent health --history | tail -n 1")
		if now := fmt.Sprint(answers, last); now != said {
			t.Log(now)
			said = now
		}
		return all(answers, status) && strings.Contains(last, reason)
	})
}

func all(answers map[string]int, status int) bool {
	return !slices.ContainsFunc(slices.Collect(maps.Values(answers)), func(s int) bool { return s != status })
}

// refused is what the application says to each check itself, through nginx: the rows
// without which nobody would need the agent.
func (b *box) refused(t *testing.T) {
	t.Helper()
	for name, tt := range map[string]struct {
		path              string
		headers           []string
		balancer, byUsers int
	}{
		"as it comes":            {"/", nil, 400, 301},
		"as if over https":       {"/", []string{"X-Forwarded-Proto: https"}, 400, 200},
		"without its last slash": {"/slashed", []string{"X-Forwarded-Proto: https"}, 400, 301},
	} {
		for lb, got := range b.asked(t, tt.path, tt.headers...) {
			want := tt.balancer
			if lb == users {
				want = tt.byUsers
			}
			if got != want {
				t.Errorf("%s, %s: the application answers %d, want %d", name, lb, got, want)
			}
		}
	}
}

const (
	agentYAML = "/etc/agent/agent.yaml"
	fallback  = "/var/lib/agent/nginx-health.conf"
)

// configured edits the agent's configuration by sed commands, and restarts it.
func (b *box) configured(edits ...string) {
	b.T.Helper()
	script := "cp -p /etc/agent/as-deployed.yaml " + agentYAML
	for _, e := range edits {
		script += fmt.Sprintf(" && sed -i '%s' %s && ! cmp -s %[2]s /etc/agent/as-deployed.yaml", e, agentYAML)
	}
	b.On("1", script+" && systemctl restart agent")
}

// everyCheck: whatever state a strict Django behind nginx is in, or whatever is wrong
// with how it is asked, each load balancer's check gets the right verdict, and the
// operator the reason.
func (b *box) everyCheck(t *testing.T) {
	write(t, b.Dir, "asker", asker)
	b.allAnswered(t, 200, "200 OK")
	b.refused(t)
	b.restartDrainsNothing(t)
	b.On("1", "cp -p "+agentYAML+" /etc/agent/as-deployed.yaml")
	const target = "s|^  target:.*|  target: http://127.0.0.1:8000/"
	for _, row := range []struct {
		edit   string
		status int
		reason string
	}{
		{"s|^  host:.*|  host: 10.0.0.5|", 400, `refuses Host "10.0.0.5"`},
		{"s|^health:|&\\n  headers: {X-Forwarded-Proto: http}|", 301, "wants X-Forwarded-Proto"},
		{target + "slashed|", 301, "needs its final slash"},
		{target + "slashed/|", 200, "200 OK"},
		{target + "no-such-page|", 404, "no page at /no-such-page"},
	} {
		b.configured(row.edit)
		b.allAnswered(t, row.status, row.reason)
	}
	b.configured("s|^  host:.*|  host: \"\"|")
	b.passedOn(t)
	b.configured("s|^health:|&\\n  timeout: 2s|")
	b.On("1", "systemctl kill --signal=STOP web")
	b.allAnswered(t, 503, "no answer within 2s")
	b.On("1", "systemctl kill --signal=CONT web")
	b.allAnswered(t, 200, "200 OK")
	b.On("1", "systemctl stop web")
	b.allAnswered(t, 503, "connection refused on 127.0.0.1:8000")
	if answers := b.asked(t, "/"); !all(answers, 502) {
		t.Errorf("without gunicorn nginx answers %v", answers)
	}
	b.agentIsDown(t)
	b.configured()
	b.On("1", "rm /etc/agent/as-deployed.yaml")
	b.allAnswered(t, 200, "200 OK")
}

// passedOn: without a configured Host the application's own answer to each load balancer comes back, and
// users, who would choose the Host, get the last of these.
func (b *box) passedOn(t *testing.T) {
	t.Helper()
	want := map[string]int{}
	for lb := range checks {
		want[lb] = 400
	}
	var got map[string]int
	wait(t, "the application's own answers", func() bool { got = b.asked(t, healthPath); return maps.Equal(got, want) })
}

// agentIsDown: nginx asks the application as the agent did, and tells that it is down.
func (b *box) agentIsDown(t *testing.T) {
	t.Helper()
	b.On("1", "systemctl stop agent")
	if answers := b.asked(t, healthPath); !all(answers, 502) {
		t.Errorf("with neither agent nor application: %v", answers)
	}
	b.On("1", "systemctl start web")
	wait(t, "the application, without the agent", func() bool { return all(b.asked(t, healthPath), 200) })
}

// restartDrainsNothing: no check is refused while the agent restarts, twice, and it
// comes back undrained, its jobs not held.
func (b *box) restartDrainsNothing(t *testing.T) {
	t.Helper()
	out := b.On("1", `ask() { curl -s -m 8 -o /dev/null -w '%{http_code}\n' -A ELB-HealthChecker/2.0 -H 'Host: 10.0.0.5' http://127.0.0.1/agent-health; }
		: >/run/asked
		(until [ -e /run/restarted ]; do ask; done) >>/run/asked &
		for _ in 1 2; do
			asked=$(wc -l </run/asked)
			systemctl restart agent
			until [ "$(wc -l </run/asked)" -gt $((asked + 2)) ]; do ask >/dev/null; done
		done
		touch /run/restarted
		wait
		sort -u /run/asked
		rm /run/asked /run/restarted
		ls /run/agent/drain 2>/dev/null || :`)
	if out != "200" {
		t.Errorf("while the agent restarts, checks are answered\n%s", out)
	}
	wait(t, "a status without a drain or jobs that are held", func() bool { return b.fresh(t, "1") })
}

// pumasSocket: on the Ruby platform the application listens on a socket, which is found
// without being told, goes and comes with it, and is what nginx asks without the agent.
func (b *box) pumasSocket(t *testing.T) {
	b.On("1", "cp -p "+agentYAML+" /etc/agent/as-deployed.yaml")
	b.configured("/^  target:/d") // now found
	b.allAnswered(t, 200, "200 OK")
	b.On("1", `systemctl stop web
		systemd-run --quiet --collect --unit=puma -p User=webapp -p RuntimeDirectory=puma -p WorkingDirectory=/var/app/current \
			-p EnvironmentFile=/opt/elasticbeanstalk/deployment/env /var/app/venv/staging-LQM1lest/bin/gunicorn --bind unix:/var/run/puma/my_app.sock application:application`)
	b.allAnswered(t, 200, "200 OK")
	if !b.Holds("1", "grep -qF unix:/var/run/puma/my_app.sock "+fallback) {
		t.Errorf("nginx would ask %s", b.On("1", "cat "+fallback))
	}
	b.On("1", "systemctl stop agent && systemctl restart nginx")
	if answers := b.asked(t, healthPath); !all(answers, 200) {
		t.Errorf("nginx asks the socket itself: %v", answers)
	}
	b.On("1", "systemctl start agent && systemctl stop puma")
	b.allAnswered(t, 503, "connection refused on 127.0.0.1:8000")
	b.On("1", "systemctl start web")
	b.configured()
	b.On("1", "rm /etc/agent/as-deployed.yaml")
	b.allAnswered(t, 200, "200 OK")
	b.On("1", "systemctl restart nginx")
}
