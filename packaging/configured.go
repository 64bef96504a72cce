package packaging

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
)

// ConfigPath is the agent's configuration on a host. The agent reads it once, when
// it starts; a deployment may rewrite it at any time, mostly unchanged.
const ConfigPath = configDir + "/agent.yaml"

// startedWith, in the agent's runtime directory, holds the digest of the
// configuration that the running agent started with.
const startedWith = "started-with.sha256"

// NoteConfig records for a later Install which configuration the agent starts with. Call it before that is read: a
// change in between then causes one restart too many, not one too few. Without a runtime directory, which systemd
// provides, it does nothing.
func NoteConfig(runtimeDir string) error {
	if runtimeDir == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(runtimeDir, startedWith), []byte(configDigest("/")+"\n"), 0o600)
}

// configChanged reports whether the configuration differs from the one that the
// running agent started with. An agent that recorded none is of an older version.
func (h *host) configChanged() bool {
	noted, err := os.ReadFile(h.at(filepath.Join("/run/agent", startedWith)))
	return err == nil && strings.TrimSpace(string(noted)) != configDigest(h.at("/"))
}

// configDigest is the digest of no bytes when there is no configuration.
func configDigest(root string) string {
	text, _ := os.ReadFile(filepath.Join(root, ConfigPath))
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
