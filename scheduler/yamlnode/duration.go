package yamlnode

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var days = regexp.MustCompile(`^([0-9]{1,5})d(.*)$`)

// ParseDuration reads Go's notation with d for days before it. It refuses a bare number
// other than 0, which may mean seconds or minutes.
func ParseDuration(s string) (time.Duration, error) {
	var whole time.Duration
	rest := s
	if m := days.FindStringSubmatch(s); m != nil {
		n, _ := strconv.Atoi(m[1])
		if whole, rest = time.Duration(n)*24*time.Hour, m[2]; rest == "" {
			return whole, nil
		}
	}
	d, err := time.ParseDuration(rest)
	switch {
	case err != nil && strings.Trim(s, "0123456789") == "":
		return 0, fmt.Errorf("%q has no unit", s)
	case err != nil:
		return 0, fmt.Errorf("%q is not a length of time", s)
	case d < 0, whole+d < whole:
		return 0, fmt.Errorf("%q is negative or too long", s)
	}
	return whole + d, nil
}
