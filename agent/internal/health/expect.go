package health

import (
	"errors"
	"fmt"
	"maps"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
)

// StatusRange is an inclusive range of HTTP statuses.
type StatusRange struct{ Low, High int }

// defaultExpect is any success. A redirect is not one: a load balancer's default matcher is 200.
const defaultExpect = "200-299"

// ParseExpect reads statuses and ranges separated by commas, such as "200-299,401".
func ParseExpect(s string) ([]StatusRange, error) {
	var out []StatusRange
	for part := range strings.SplitSeq(s, ",") {
		low, high, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			high = low
		}
		r := StatusRange{parseStatus(low), parseStatus(high)}
		if r.Low == 0 || r.High < r.Low {
			return nil, fmt.Errorf("expected status %q: want statuses from 200 to 599, such as 200-299,401", part)
		}
		out = append(out, r)
	}
	return out, nil
}

// parseStatus returns 0 for what is not a final HTTP status.
func parseStatus(s string) int {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil || n < 200 || n > 599 {
		return 0
	}
	return n
}

func expected(ranges []StatusRange, status int) bool {
	return slices.ContainsFunc(ranges, func(r StatusRange) bool { return r.Low <= status && status <= r.High })
}

// CheckHeaders reports every header of a probe that cannot be sent, in name order. Host is refused
// because it has a setting of its own, and the headers that frame a message because the probe sets them.
func CheckHeaders(headers map[string]string) error {
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		faults = append(faults, checkHeader(name, headers[name]))
	}
	return errors.Join(faults...)
}

var framing = []string{"Connection", "Content-Length", "Transfer-Encoding", "Upgrade", "Te", "Trailer"}

func checkHeader(name, value string) error {
	switch canonical := textproto.CanonicalMIMEHeaderKey(name); {
	case !isToken(name):
		return fmt.Errorf("health header %q: not a header name", name)
	case canonical == "Host":
		return fmt.Errorf("health header %q: set health.host instead", name)
	case slices.Contains(framing, canonical):
		return fmt.Errorf("health header %q: the probe sets it itself", name)
	}
	for i := range len(value) { // the value may be a secret: name the header only
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return fmt.Errorf("health header %q: its value holds a control character", name)
		}
	}
	return nil
}

// isToken reports whether s is a token of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}
