package attack

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"beanstalk-agent/packaging/testbed/boxed"
	"beanstalk-agent/packaging/testbed/planted"
)

// lockOfTheInstallation: nobody but root holds up an installation.
func lockOfTheInstallation(g *ground) {
	install := func() {
		g.T.Helper()
		g.asking.Lock()
		defer g.asking.Unlock()
		g.On("1", "timeout 60 /box/bin/agent install >/dev/null")
		boxed.Wait(g.T, "an agent that is ready", func() bool { return g.Version("1") == "1.0.0" })
		g.known()
	}
	install() // which has made its lock
	g.leaves("nobody", "lock", "for f in /run /run/agent* /opt/agent /opt/agent/bin /opt/agent/bin/agent /etc/agent /usr/bin/agent; do"+
		" flock $f sleep 100 & done; touch /tmp/locked; wait")
	g.waits("test -e /tmp/locked && ps -u nobody -o args | grep -q '^flock /opt/agent/bin sleep'")
	install()
}

// filesOfTheAgent: nobody but root reads what it keeps, or writes anything of it.
func filesOfTheAgent(g *ground) {
	g.On("1", `find /var/lib/agent /run/agent /run/agent-runs /opt/agent /etc/agent /etc/systemd/system/agent* /usr/bin/agent \
		/var/log/agent-install.log >/run/ours && chmod 644 /run/ours`)
	for _, user := range []string{"webapp", "nobody", "ec2-user"} {
		out, err := g.as(user, `while read f; do
				test -S $f -o -L $f || ! test -w $f || echo "may write $f"
				case $f in /var/lib/agent/*|/run/agent-runs/*) ! test -r $f || echo "may read $f" ;; esac
			done </run/ours; wc -l </run/ours`)
		if err != nil || strings.Contains(out, "may ") {
			g.T.Errorf("%s: %v\n%s", user, err, out)
		}
		g.gets(user, "the supervisor", "curl -sm 5 --unix-socket /run/agent-runs/supervisor.sock http://x/")
		g.gets(user, "a list of runs", "ls /var/lib/agent")
	}
}

// processesOfTheAgent: nobody but root reads, stops, traces or slows them, or takes what they have open.
func processesOfTheAgent(g *ground) {
	for _, user := range []string{"webapp", "nobody", "ec2-user"} {
		if out, err := g.as(user, "/usr/bin/python3 -I /box/attack/inspect.py "+g.agent+" "+g.supervisor); err != nil || out != "" {
			g.T.Errorf("%s: %v\n%s", user, err, out)
		}
	}
	if out := g.On("1", "grep -h '^Max core file size' /proc/"+g.agent+"/limits /proc/"+g.supervisor+"/limits"); strings.Count(out, " 0 ") != 2 {
		g.T.Errorf("a core of theirs could be kept:\n%s", out)
	}
}

// controlGroups: a run stays in its own group, whose limits it cannot change.
func controlGroups(g *ground) {
	out, err := g.as("ec2-user", "agent exec -- /usr/bin/python3 -I /box/attack/cgroups.py")
	if err != nil || !strings.HasPrefix(out, "looked at ") {
		g.T.Errorf("%v\n%s", err, out)
	}
}

// nothingInherited: a run has its three descriptors and nothing else of the supervisor's or the agent's.
func nothingInherited(g *ground) {
	for _, how := range []string{"exec --", "exec -T --"} {
		out, err := g.as("ec2-user", "agent "+how+" /bin/ls /proc/self/fd | xargs")
		if err != nil || out != "0 1 2 3" { // the last is of ls itself
			g.T.Errorf("agent %s: %v, descriptors %s", how, err, out)
		}
	}
	if out, err := g.as("ec2-user", "agent exec -- /bin/grep -E '^(NoNewPrivs|Seccomp|SigIgn|SigBlk|CapEff|CapPrm|CapAmb|CapInh|Groups)' /proc/self/status"); err != nil ||
		strings.Count(out, "0000000000000000") != 6 {
		g.T.Errorf("%v: a run begins with\n%s", err, out)
	}
}

// values: what a command is given as a variable is in no command line, record or log, and in no environment that
// another user can read.
func values(g *ground) {
	if err := os.WriteFile(filepath.Join(g.Dir, "token"), []byte(planted.Value), 0o644); err != nil { // sudo logs what it is told
		g.T.Fatal(err)
	}
	id := g.On("1", "sudo -u ec2-user sh -c 'agent exec -d -e TOKEN=$(cat /box/token) -- sleep 62' 2>/dev/null")
	if found := g.On("1", "grep -alrf /box/token /var/lib/agent /run/agent /run/agent-runs || :"); found != "" {
		g.T.Errorf("it is in %s", found)
	}
	for _, user := range []string{"nobody", "ec2-user"} {
		out, err := g.as(user, "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | grep -ac 'TOKEN=[p]lanted' || :; agent ps --json || :; agent logs "+id+" || :")
		if err != nil || !strings.HasPrefix(out, "0") || strings.Contains(out, planted.Value) {
			g.T.Errorf("%s: %v", user, err)
		}
	}
	g.On("1", "agent stop "+id) // what the logs have is looked at in the end
}

// typing: a command that root starts at his terminal, in whatever way, does not type into it for his shell to obey.
func typing(g *ground) {
	g.On("1", `rm -f /run/keys; mkfifo /run/keys; systemd-run --quiet --collect --unit=attacker-shell -E TERM=xterm -E HISTFILE= \
		/bin/bash -c 'exec script -qfc "bash --norc --noprofile -i" /run/screen <>/run/keys >/dev/null'`)
	for n, how := range []string{"agent exec --direct --", "agent exec -t --", "agent exec --"} {
		for _, behind := range []string{"", " | cat", " 2>&1 </dev/null | cat"} {
			g.On("1", fmt.Sprintf("echo '%s /usr/bin/python3 -I /box/attack/typing.py%s; sleep 0.3; echo over-$((%d+1))' >/run/keys", how, behind, n*10+len(behind)))
			g.waits(fmt.Sprintf("grep -qa 'over-%d' /run/screen", n*10+len(behind)+1))
		}
	}
	if g.Holds("1", "sleep 2; test -e /run/rooted") {
		g.T.Errorf("root's shell obeyed:\n%s", g.On("1", "cat -v /run/screen"))
	}
	if n := g.On("1", "grep -ca ^typed /run/screen"); n < "3" {
		g.T.Errorf("only %s of the commands ran:\n%s", n, g.On("1", "cat -v /run/screen"))
	}
}

// heldStart: nobody waits for a process that is not root's any more and not yet the command, whoever stops it there; and
// being its user's is all that the application gets of it.
func heldStart(g *ground) {
	g.On("1", "printf '#!/tmp/held\\n' >/tmp/script && chmod 755 /tmp/script")
	g.leaves("webapp", "held", "exec /usr/bin/python3 -I /box/attack/held.py /tmp/held >/tmp/held.log 2>&1")
	g.waits("grep -q ready /tmp/held.log")
	out, err := g.as("ec2-user", "for how in '/tmp/held' '-d -- /tmp/held' '-t -- /tmp/held' /tmp/script; do (timeout 90 agent exec $how </dev/null >/dev/null 2>&1; echo $?) & done; wait")
	if err != nil || out != "125\n125\n125\n125" {
		g.T.Errorf("%v: it should be answered that they do not start:\n%s", err, out)
	}
	for line := range strings.SplitSeq(g.On("1", "cat /tmp/held.log"), "\n") {
		if !regexp.MustCompile(`^(ready|stopped .*|\d+: (signal|priority|processor|scheduler))$`).MatchString(line) {
			g.T.Errorf("with a command that has not begun the application may: %s", line)
		}
	}
	g.waits("grep -q stopped /tmp/held.log")
	g.waits("! pgrep -x starting")
}

// stopLoop: the application stops whatever becomes its own at once. What runs as it is its own; others are answered.
func stopLoop(g *ground) {
	defer g.busy("ec2-user")()
	g.leaves("webapp", "stop-loop", "exec /usr/bin/python3 -I /box/attack/stop_loop.py 6 >/tmp/stop.log")
	for n := range 6 {
		g.as("ec2-user", fmt.Sprintf("timeout 3 agent exec -- echo %d; timeout 3 agent exec -d -- true", n))
	}
	g.waits("grep stopped /tmp/stop.log")
	g.T.Log(g.On("1", "cat /tmp/stop.log; pkill -KILL -u webapp -x 'sleep|true|echo' || :; agent ps"))
	g.On("1", "for id in $(agent ps --json | grep -o '\"id\": *\"[^\"]*' | cut -d'\"' -f4); do agent stop $id; done >/dev/null 2>&1 || :")
}

// firehose: jobs that print as fast as they can cost the others a part of the machine, and no more.
func firehose(g *ground) {
	const file = "/var/app/current/cron.yaml"
	g.On("1", "cp -p "+file+" /run/cron.yaml; (echo cron:; for n in {1..16}; do echo \"- {name: y$n, schedule: '@every 1s', command: 'yes', timeout: 5s, on: all}\"; done) >"+file+".new && mv "+file+".new "+file+" && agent reload")
	g.waits("test $(agent ps | grep -c ' y[0-9]') -ge 8")
	for range 3 {
		out, err := g.as("ec2-user", "time -p agent exec -- echo amid; cat /proc/loadavg")
		g.T.Logf("%v %s", err, out)
	}
	g.On("1", "cp -p /run/cron.yaml "+file+" && agent reload")
	g.waits("! pgrep -x yes")
	g.waits("test $(du -sk /var/lib/agent | cut -f1) -lt 400000")
}

// spoolAfterTheEnd: what a run has written is what is shown, for as long as it is kept.
func spoolAfterTheEnd(g *ground) {
	g.leaves("webapp", "spool", "exec /usr/bin/python3 -I /box/attack/spool.py keep >/tmp/spool.log")
	g.waits("grep -q ready /tmp/spool.log")
	id := g.On("1", "sudo -u ec2-user agent exec -d -- /usr/bin/python3 -I /box/attack/spool.py run 2>/dev/null")
	g.waits("grep -q over /tmp/spool.log")
	g.T.Log(g.On("1", "cat /tmp/spool.log"))
	if out := g.On("1", "agent logs "+id); out != "the job's own line" {
		g.T.Errorf("what is shown of the run: %.300q", out)
	}
	g.waits("test $(du -sk /var/lib/agent | cut -f1) -lt 40000")
}

// terminals: a run without a terminal of its own reaches none of its caller's.
func terminals(g *ground) {
	for name, how := range map[string]string{
		"a pipe behind it":   "agent exec -- PROGRAM | cat >OUT",
		"a pipe before it":   "echo | agent exec -- PROGRAM >OUT",
		"-T":                 "agent exec -T -- PROGRAM >OUT",
		"-T, errors as well": "agent exec -T -- PROGRAM >OUT 2>&1",
		"detached":           "agent exec -d -- /bin/bash -c 'PROGRAM >OUT'",
		"direct":             "sudo agent exec --direct -- PROGRAM | cat >OUT",
		"direct, all away":   "sudo agent exec --direct -- PROGRAM </dev/null 2>&1 | cat >OUT",
	} {
		g.On("1", "rm -f /tmp/terminals.*")
		how = strings.NewReplacer("PROGRAM", "/usr/bin/python3 -I /box/attack/terminals.py", "OUT", "/tmp/terminals.out").Replace(how)
		out, err := g.as("ec2-user", "umask 0; touch terminals.out; TERM=xterm timeout 60 script -qefc "+quote(how)+" /dev/null </dev/null; for n in {1..50}; do grep -q over terminals.out && break; sleep 0.1; done; cat terminals.out")
		if strings.Contains(out, "cannot share this terminal") {
			continue // refused, with what to do
		}
		if err != nil || !strings.HasSuffix(out, "over") || strings.Contains(out, "terminal") || strings.Contains(out, "opens") || strings.Contains(out, "it") {
			g.T.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// namesOfRuns: a job that is named as another's run is not taken for it.
func namesOfRuns(g *ground) {
	const file = "/var/app/current/cron.yaml"
	id := g.On("1", "agent exec -d -- sh -c 'echo genuine; exit 3' 2>/dev/null")
	g.On("1", "cp -p "+file+" /run/cron.yaml; (echo cron:; for n in "+id+" "+id[:6]+"; do echo \"- {name: $n, schedule: '@every 1s', command: 'echo forged', on: all}\"; done) >"+file+".new && mv "+file+".new "+file+" && agent reload")
	g.waits("agent ps --all | grep -q '" + id + "-2'")
	if out := g.On("1", "agent logs "+id+"; agent wait "+id+" 2>&1 || echo $?"); !strings.HasPrefix(out, "genuine\n") || !strings.HasSuffix(out, "\n3") {
		g.T.Errorf("with its record: %s", out)
	}
	g.On("1", "rm -r /var/lib/agent/runs/"+id) // as age would
	if out := g.On("1", "agent logs "+id+" 2>&1; agent wait "+id+" 2>&1; echo $?"); strings.Contains(out, "forged") || strings.HasSuffix(out, "\n0") {
		g.T.Errorf("without its record: %s", out)
	}
	g.On("1", "cp -p /run/cron.yaml "+file+" && agent reload")
}
