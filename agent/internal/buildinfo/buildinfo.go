// Package buildinfo says which version this binary is.
package buildinfo

import "runtime/debug"

// release is set at link time: -ldflags "-X beanstalk-agent/agent/internal/buildinfo.release=1.2.3".
var release string

// Version is the release, else the commit that the binary was built from.
func Version() string {
	if release != "" {
		return release
	}
	if b, ok := debug.ReadBuildInfo(); ok {
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				return "0-" + s.Value[:12]
			}
		}
	}
	return "0-unknown"
}
