package runs

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strings"
)

// FirstArgs returns the first MaxArgs bytes of args, and what all of them are if that is less.
func FirstArgs(args []string, all AllArgs) ([]string, AllArgs) {
	room, first, size := MaxArgs, []string(nil), 0
	for _, a := range args {
		size += len(a) + 1
		if room > 0 {
			first = append(first, Brief(a, room))
			room -= len(a) + 1
		}
	}
	if size <= MaxArgs || all.Count > 0 { // cut before
		return first, all
	}
	h := sha256.New()
	for _, a := range args {
		io.WriteString(h, a)
		h.Write([]byte{0})
	}
	return first, AllArgs{Count: len(args), Bytes: size, SHA256: hex.EncodeToString(h.Sum(nil))}
}

// Brief is at most the first n bytes of s, with a mark that there were more.
func Brief(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
