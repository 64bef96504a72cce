package packaging

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
)

// ConfigPath is the agent's configuration on a host. The agent reads it once, when
// it starts; a deployment may write it anew at any time, mostly with what it had.
const ConfigPath = configDir + "/agent.yaml"

// startedWith, in the agent's runtime directory, is the digest of the configuration
// that the running agent was started with.
const startedWith = "started-with.sha256"

// NoteConfig leaves word for a later Install which configuration the agent starts
// with. It is called before that is read: if it changes in between, one restart too
// many follows, not one too few. Without a runtime directory, which systemd gives
// and names, it does nothing.
func NoteConfig(runtimeDir string) error {
	if runtimeDir == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(runtimeDir, startedWith), []byte(configDigest("/")+"\n"), 0o600)
}

// configChanged reports whether the running agent was started with another
// configuration than is there now. One that left no word is of a version before.
func (h *host) configChanged() bool {
	noted, err := os.ReadFile(h.at(filepath.Join("/run/agent", startedWith)))
	return err == nil && strings.TrimSpace(string(noted)) != configDigest(h.at("/"))
}

// configDigest is that of nothing when there is no configuration.
func configDigest(root string) string {
	text, _ := os.ReadFile(filepath.Join(root, ConfigPath))
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
