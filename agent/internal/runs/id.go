package runs

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"hash/fnv"
	"strings"
	"time"
)

// NewID is short enough to type and drawn from 2^40.
func NewID() string {
	var b [5]byte
	rand.Read(b[:])
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

// SlotID names the run of a job's slot: the same slot is never started twice,
// not even when the agent dies between the start and noting it, because the
// supervisor refuses an id that it has seen.
func SlotID(job string, due time.Time, attempt int) string {
	return runID(job, due, attempt, "20060102t150405z")
}

// ManualID names a run that somebody asked for by hand. It is of no slot, so there may be any number a second.
func ManualID(job string, at time.Time, attempt int) string {
	return runID(job, at, attempt, "20060102t150405.000000z")
}

func runID(job string, due time.Time, attempt int, layout string) string {
	return fmt.Sprintf("%s-%s-%d", idName(job), due.UTC().Format(layout), attempt)
}

// idName is a job's name in the letters that an id may have; names that differ
// only in others differ in a short hash.
func idName(name string) string {
	b := make([]byte, 0, len(name))
	same := true
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			c, same = '-', false
		}
		b = append(b, c)
	}
	if len(b) > 32 {
		b, same = b[:32], false
	}
	if same && len(b) > 0 {
		return string(b)
	}
	h := fnv.New32a()
	h.Write([]byte(name))
	return fmt.Sprintf("%s%08x", b, h.Sum32())
}
