package packaging

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// configName is the file in a repository that installs the agent at a deployment.
const configName = ".ebextensions/agent.config"

// fromLine is the one line of it that a user edits.
var fromLine = regexp.MustCompile(`(?m)^ +from='[^'\n]*'$`)

// InstallInto writes what an application's repository needs into dir: the file that installs the agent, the hooks that
// report deployments to it, and the nginx location of the health check. It overwrites only these, keeps the edited line
// of agent.config, and notes what to commit. A link that leads out of dir is refused.
func InstallInto(dir string, dry bool) (Report, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Report{}, fmt.Errorf("install into a repository: %w", err)
	}
	defer root.Close()
	h := newHost(dir, dry)
	h.files, h.repo = root, root.FS()
	if err := h.repository(); err != nil {
		return h.report, errors.Join(err, h.rollBack())
	}
	h.advise()
	return h.report, nil
}

func (h *host) repository() error {
	config, err := h.keepFrom(embeddedFile("ebextensions/agent.config"))
	if err != nil {
		return err
	}
	if _, err := h.file(configName, 0o644, config); err != nil {
		return err
	}
	for _, target := range slices.Sorted(maps.Keys(hooks)) {
		if _, err := h.file(target, 0o755, embeddedFile(hooks[target])); err != nil {
			return err
		}
	}
	return h.nginx()
}

// hooks maps each file of .platform to the embedded one. A deployment runs hooks, a change of properties confighooks.
var hooks = map[string]string{
	".platform/hooks/predeploy/00_agent_hold.sh":           "hooks/predeploy.sh",
	".platform/confighooks/predeploy/00_agent_hold.sh":     "hooks/predeploy.sh",
	".platform/hooks/postdeploy/99_agent_release.sh":       "hooks/postdeploy.sh",
	".platform/confighooks/postdeploy/99_agent_release.sh": "hooks/postdeploy.sh",
}

// Absent lists the opt-in files that the deployed application lacks, and what that means. Everything else works without
// them. agent.config is not checked: the platform removes .ebextensions.
func Absent(exists func(name string) bool) []string {
	var absent []string
	for name := range hooks {
		if !exists(name) {
			absent = append(absent, "no hooks: deployments are noticed by themselves, a little later")
			break
		}
	}
	if !exists(nginxFile) {
		absent = append(absent, "no nginx location: health checks do not come to the agent")
	}
	return absent
}

// keepFrom returns config with the edited line of the repository's agent.config.
func (h *host) keepFrom(config []byte) ([]byte, error) {
	old, err := h.files.ReadFile(configName)
	if errors.Is(err, fs.ErrNotExist) {
		return config, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", configName, err)
	}
	line := fromLine.Find(old)
	if line == nil {
		return nil, fmt.Errorf("update %q: it has no line from='…' to keep; "+
			"move it away to have a new one", configName)
	}
	return fromLine.ReplaceAllLiteral(config, line), nil
}

// advise notes what remains to be done by hand.
func (h *host) advise() {
	config, err := h.files.ReadFile(configName)
	bundled := err != nil || bytes.Contains(fromLine.Find(config), []byte("from='.agent'"))
	if _, err := h.files.Stat(".agent/SHA256SUMS"); err != nil && bundled {
		h.note("put agent-linux-amd64, agent-linux-arm64 and SHA256SUMS into .agent/, "+
			"or edit the line from= of %s", configName)
	}
	folders := ".ebextensions .platform"
	if bundled {
		folders += " .agent"
	}
	h.note("commit them, because eb deploy sends only what git has: "+
		"git add %s && git commit -m 'Install the agent'", folders)
	h.adviseIgnored(bundled)
	if other, _ := filepath.Glob(h.at(".ebextensions/*agent*.config")); len(other) > 1 {
		h.note(".ebextensions has more than one file named after the agent; Beanstalk runs them all")
	}
}
