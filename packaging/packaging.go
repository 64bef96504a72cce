// Package packaging puts the agent on a host, takes it off again, and writes what
// an application's repository needs to have it on Elastic Beanstalk.
//
// Every file it writes is carried inside the binary, so that a host or a
// repository is set up by the one file that was copied there. Installing is
// idempotent: what is already right is left alone and not reported. It is atomic:
// each file is written beside its place and renamed, and when the new agent does
// not start, the one before it is put back. It never stops a run: agent.service is
// restarted when its binary, unit or configuration changed; agent-runs.service
// never, but it is asked to make way for the new version when nothing runs in it.
//
// Units live in /etc/systemd/system and are no part of Beanstalk's own targets:
// the platform disables every member of those at each deployment.
package packaging

import (
	"embed"
	"io/fs"
	"path"
)

//go:embed systemd hooks ebextensions nginx/*.conf
var carried embed.FS

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
)

// units are the unit files, in the order they are written: agent.service wants
// the other.
var units = [...]string{runsUnit, agentUnit}

// Step is one change that was made or, in a dry run, would be.
type Step struct {
	Action string `json:"action"` // make, write, link, remove, run
	Path   string `json:"path"`   // or, for run, the command
}

// Report says what was done. No steps means that everything was as it should be.
type Report struct {
	Steps []Step   `json:"steps"`
	Notes []string `json:"notes"` // what a person should know or do
}

// carriedFile returns a file carried in the binary; its name is one of ours, so
// that it cannot be missing.
func carriedFile(name string) []byte {
	data, err := fs.ReadFile(carried, name)
	if err != nil {
		panic("packaging: " + err.Error())
	}
	return data
}

// UnitFile returns the text of agent.service or agent-runs.service.
func UnitFile(name string) []byte { return carriedFile(path.Join("systemd", name)) }
