package collectors

import (
	"bytes"
	"strings"
)

// mount is one line of /proc/self/mountinfo; see proc(5).
type mount struct {
	device string // major:minor
	path   string
	fstype string
	source string
	rw     bool // the filesystem: the mount itself is read-only to us, by our unit's ProtectSystem=
}

func parseMountinfo(b []byte) (ms []mount, err error) {
	for n := 1; len(b) > 0; n++ {
		var line []byte
		line, b = cutLine(b)
		m, ok := parseMount(line)
		if !ok {
			return nil, lineError("mountinfo", n, line, "id parent major:minor root path options … - type source options")
		}
		ms = append(ms, m)
	}
	return ms, nil
}

func parseMount(line []byte) (m mount, ok bool) {
	left, right, ok := bytes.Cut(line, []byte(" - "))
	f, g := strings.Fields(string(left)), strings.Fields(string(right))
	if !ok || len(f) < 6 || len(g) < 2 {
		return m, false
	}
	super := ""
	if len(g) > 2 { // the source may be empty, which leaves two words
		super = g[2]
	}
	return mount{
		device: f[2], path: unescape(f[4]), fstype: g[0], source: unescape(g[1]),
		rw: writable(super),
	}, true
}

func writable(options string) bool {
	return options != "ro" && !strings.HasPrefix(options, "ro,")
}

// unescape undoes the kernel's octal escapes of blanks and backslashes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1:i+4]) {
			out.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

func octal(s string) bool {
	return s[0] <= '3' && strings.Trim(s, "01234567") == ""
}

// localDisks picks the filesystems that can fill up and whose size can be asked
// without waiting for another machine: a block device, the root whatever it is
// (a container's is an overlay), and /tmp, in memory on Amazon Linux 2023. One
// filesystem mounted twice counts once.
func localDisks(ms []mount) (paths []string) {
	seen := map[string]bool{}
	for _, m := range ms {
		local := strings.HasPrefix(m.source, "/dev/") && !strings.HasPrefix(m.fstype, "fuse")
		if !m.rw || seen[m.device] || !(local || m.path == "/" || m.path == "/tmp") || remote[m.fstype] {
			continue
		}
		seen[m.device] = true
		paths = append(paths, m.path)
	}
	return paths
}

// remote filesystems can make statfs wait for ever.
var remote = map[string]bool{"nfs": true, "nfs4": true, "cifs": true, "smb3": true, "9p": true, "virtiofs": true, "ceph": true, "lustre": true, "afs": true}
