package strictpath

import (
	"iter"
	"slices"
	"strconv"
	"strings"
)

// Records yields the fields of each record of the text of a file such as /etc/passwd.
func Records(text string, fields int) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
			rec := strings.Split(line, ":")
			if len(rec) == fields && rec[0] != "" && rec[0][0] != '#' && !yield(rec) {
				return
			}
		}
	}
}

// OwnGroup reports whether group gid is known and has no member but root and user uid, as where each user has a group
// of his own and a umask of 002. passwd and group are texts of the files.
func OwnGroup(passwd, group string, gid, uid uint32) bool {
	number := strconv.FormatUint(uint64(gid), 10)
	names := []string{""}
	for f := range Records(passwd, 7) {
		if f[2] == "0" || f[2] == strconv.FormatUint(uint64(uid), 10) {
			names = append(names, f[0])
		} else if f[3] == number {
			return false
		}
	}
	known := false
	for f := range Records(group, 4) {
		if f[2] != number {
			continue
		}
		known = true
		for member := range strings.SplitSeq(f[3], ",") {
			if !slices.Contains(names, member) {
				return false
			}
		}
	}
	return known
}
