// Package packaging puts the agent on a host, takes it off again, and writes what
// an application's repository needs to have it on Elastic Beanstalk.
//
// Every file it writes is embedded in the binary: one copied file sets up a host or a repository. Installing is
// idempotent: what is already right is not touched or reported. It is atomic: each file is written beside its place and
// renamed, and the old agent is restored when the new one does not start. It never stops a run: agent.service is
// restarted when its binary, unit or configuration changed; agent-runs.service never, but it is asked to end for the
// new version when nothing runs in it.
//
// Units are in /etc/systemd/system and not in Beanstalk's own targets: the platform
// disables every member of those at each deployment.
package packaging

import (
	"embed"
	"io/fs"
	"path"
)

//go:embed systemd hooks ebextensions nginx/*.conf
var embedded embed.FS

// Where things are on a host. A Root in Options goes before them.
const (
	binaryPath  = "/opt/agent/bin/agent"
	linkPath    = "/usr/bin/agent" // sudo on Amazon Linux does not look in /usr/local/bin
	configDir   = "/etc/agent"
	stateDir    = "/var/lib/agent"
	unitDir     = "/etc/systemd/system"
	wantsLink   = unitDir + "/multi-user.target.wants/agent.service"
	installLog  = "/var/log/agent-install.log" // written by agent.config's command
	agentUnit   = "agent.service"
	runsUnit    = "agent-runs.service"
	bootedPath  = "/run/systemd/system" // sd_booted(3)
	previousBin = "/opt/agent/bin/.agent.previous"
	lockPath    = "/run/agent-install.lock"
)

// units are the unit files, in the order they are written: agent.service wants the other.
var units = [...]string{runsUnit, agentUnit}

// Step is one change that was made or, in a dry run, would be.
type Step struct {
	Action string `json:"action"` // make, write, link, remove, run
	Path   string `json:"path"`   // or, for run, the command
}

// Report says what was done. Without steps everything was already right.
type Report struct {
	Steps []Step   `json:"steps"`
	Notes []string `json:"notes"` // what the operator should know or do
}

// embeddedFile returns a file embedded in the binary. It panics when there is none.
func embeddedFile(name string) []byte {
	data, err := fs.ReadFile(embedded, name)
	if err != nil {
		panic("packaging: " + err.Error())
	}
	return data
}

// UnitFile returns the text of agent.service or agent-runs.service.
func UnitFile(name string) []byte { return embeddedFile(path.Join("systemd", name)) }
