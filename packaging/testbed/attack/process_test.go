package attack

import (
	"os"
	"path/filepath"
	"strings"

	"beanstalk-agent/packaging/testbed/planted"
)

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
