package runs

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"hash/fnv"
	"regexp"
	"strings"
	"time"
)

// NewID is short enough to type, drawn from nearly 2^40, and has a digit: no word is an id.
func NewID() string {
	for {
		var b [5]byte
		rand.Read(b[:])
		if id := strings.ToLower(base32.StdEncoding.EncodeToString(b[:])); IsCommandID(id) {
			return id
		}
	}
}

// commandID, with a digit, is what NewID gives, and jobID what every other id ends with.
var (
	commandID = regexp.MustCompile(`^[a-z2-7]{8}$`)
	jobID     = regexp.MustCompile(`-[0-9]{8}t[0-9]{6}(\.[0-9]{6})?z-[0-9]+$`)
)

// IsCommandID reports whether s looks like the id of a command, whose record may be gone. A name of a job may, as
// report22 does. One that an older version gave may be without a digit, and is not told from a name.
func IsCommandID(s string) bool { return commandID.MatchString(s) && strings.ContainsAny(s, "234567") }

// Begins reports whether short may stand for id. One that is whole never stands for another; and a job's id begins with
// whatever name the application gives it, so what has no "-" is a command's.
func Begins(id, short string) bool {
	return strings.HasPrefix(id, short) && strings.Contains(id, "-") == strings.Contains(short, "-") &&
		!IsCommandID(short) && !jobID.MatchString(short)
}

// SlotID names the run of a job's slot: the same slot is never started twice, not even when the agent dies between the
// start and noting it, because the supervisor refuses an id that it has seen.
func SlotID(job string, due time.Time, attempt int) string {
	return fmt.Sprintf("%s-%s-%d", idName(job, 32), due.UTC().Format("20060102t150405z"), attempt)
}

// ManualID names a run that somebody asked for by hand. It is of no slot, so there may be any number a second.
func ManualID(job string, at time.Time, attempt int) string {
	return fmt.Sprintf("%s-%s-%d", idName(job, 30), at.UTC().Format("20060102t150405.000000z"), attempt)
}

// idName is a job's name in the letters that an id may have, cut to most; where that
// changes the name, a short hash of it follows. An id begins with a letter or digit.
func idName(name string, most int) string {
	b := make([]byte, 0, len(name))
	same := true
	for i, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case i == 0:
			c, same = 'x', false
		case c == '.', c == '_', c == '-':
		default:
			c, same = '-', false
		}
		b = append(b, c)
	}
	if len(b) > most {
		b, same = b[:most], false
	}
	if same && len(b) > 0 {
		return string(b)
	}
	h := fnv.New32a()
	h.Write([]byte(name))
	return fmt.Sprintf("%s%08x", b, h.Sum32())
}
