package testbed

import (
	"encoding/json"
	"strings"
	"testing"

	"beanstalk-agent/packaging/testbed/gotool"
	"beanstalk-agent/packaging/testbed/planted"
)

// pastRun is a line of agent cron history --json, of this instance or of another.
type pastRun struct {
	Job, Host, Result string
}

// TestReplacementTellsOfARunInFlight replaces an instance while it runs a job of one instance, as an immutable
// deployment and an update of the platform do.
func TestReplacementTellsOfARunInFlight(t *testing.T) {
	b := newBox(t, "box-swap")
	b.Do("build")
	app := b.App("1.0.0")
	b.store(t, app)
	edit(t, app, "cron.yaml", "cron:\n", `cron:
  - name: nightly
    schedule: "@every 2s"
    grace: 1m
    command: trap 'sleep 2; exit 5' TERM; touch /var/tmp/begun; until test -e /var/tmp/enough; do sleep 0.1; done
`)
	b.Do("up", app)
	b.On("1", "/box/store")
	wait(t, "the job runs on instance 1", func() bool { return b.Holds("1", "test -e /var/tmp/begun") })

	n := b.Do("swap", app)

	b.On(n, "/box/store")
	history := func() (past []pastRun) {
		out := b.On(n, "agent cron history nightly --json 2>/dev/null")
		if err := json.Unmarshal([]byte(out), &past); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return past
	}
	const first = "i-00000000000000001"
	found := false
	wait(t, "the new instance knows of the run", func() bool {
		for _, r := range history() {
			if r.Host == first && strings.HasPrefix(r.Result, "interrupted: ") {
				found = true
			}
		}
		return found
	})
	wait(t, "the job runs on the new instance", func() bool { return b.Holds(n, "test -e /var/tmp/begun") })
	t.Log(b.On(n, "agent cron history nightly; agent cron list 2>&1"))
}

// store gives the instances of an application a store: /box/store on each, after its launch, starts a gateway of its own
// to one directory, which knows the role's keys and takes no session token.
func (b *box) store(t *testing.T, app string) {
	t.Helper()
	edit(t, app, ".ebextensions/agent-yaml.config", "      aws:\n", "      aws:\n        s3_endpoint: http://127.0.0.1:7070\n")
	write(t, b.Dir, "bin/versitygw", string(read(t, gotool.Build(t, gotool.VersityGW))))
	write(t, b.Dir, "s3/elasticbeanstalk-us-east-1-123456789012/.keep", "")
	write(t, b.Dir, "store", `#!/bin/sh
sed -i 's/"Token": "[^"]*"/"Token": ""/' /box/instances/*.json && systemctl restart box-metadata
systemd-run --quiet --unit=gateway -p Before=agent.service -E ROOT_ACCESS_KEY=AKIDBOX -E ROOT_SECRET_KEY=`+planted.Value+` /box/bin/versitygw --port 127.0.0.1:7070 posix /box/s3
until curl -so /dev/null http://127.0.0.1:7070/; do sleep 0.1; done
systemctl restart agent
`)
}
