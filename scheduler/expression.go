package scheduler

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"beanstalk-agent/scheduler/yamlnode"
)

// An exprError is one error of a schedule, at a byte of the expression. The message
// continues after the quoted expression. The parser of the file makes it a [Fault].
type exprError struct {
	at            int
	message, hint string
}

// exprErr makes a list of one.
func exprErr(at int, hint, format string, a ...any) []exprError {
	return []exprError{{at, fmt.Sprintf(format, a...), hint}}
}

// A field is one of an expression. Each is given to robfig's parser alone, so that every
// error is reported with its place.
type field struct {
	name     string
	min, max int
	parser   cron.Parser
}

var fields = [...]field{
	{"second", 0, 59, cron.NewParser(cron.Second)},
	{"minute", 0, 59, cron.NewParser(cron.Minute)},
	{"hour", 0, 23, cron.NewParser(cron.Hour)},
	{"day of month", 1, 31, cron.NewParser(cron.Dom)},
	{"month", 1, 12, cron.NewParser(cron.Month)},
	{"day of week", 0, 7, cron.NewParser(cron.Dow)},
}

const (
	weekdays = 5 // the place of the day of week in fields
	allHours = 1<<24 - 1
)

// macros are robfig's descriptors as the fields they stand for.
var macros = map[string]string{
	"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *",
	"@weekly": "0 0 * * 0", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}

// when is a schedule as written, and how it is read.
type when struct {
	expr    string
	seconds bool // the first of six fields is for seconds
	posted  bool // of a job with a url, which Beanstalk's own daemon reads on a worker tier
	loc     *time.Location
}

// parseExpr reads a cron expression of five fields, six with seconds, a macro such as @daily, or @every DURATION. A
// schedule that is never due is an error; one that is allowed but hardly meant gives a warning.
func parseExpr(w when) (s Schedule, wrongs, warns []exprError) {
	if strings.HasPrefix(w.expr, "@") {
		s, wrongs = parseMacro(w)
		return s, wrongs, nil
	}
	if at, what, write := foreign(w.expr); what != "" {
		return nil, exprErr(at, write, "%s", what), nil
	}
	words, at := split(w.expr)
	if w.posted && !w.seconds && len(words) == 6 { // as the daemon does
		warns = exprErr(at[5], "leave it out", ": Beanstalk's daemon ignores a sixth field, and so does the agent")
		words = words[:5]
	}
	if wrongs := checkCount(w.expr, words, w.seconds); wrongs != nil {
		return nil, wrongs, nil
	}
	if w.posted {
		warns = append(warns, refusedByDaemon(words, at)...)
	}
	z := &zoned{loc: w.loc}
	z.spec = cron.SpecSchedule{Second: 1, Location: time.UTC}
	masks := []*uint64{&z.spec.Second, &z.spec.Minute, &z.spec.Hour, &z.spec.Dom, &z.spec.Month, &z.spec.Dow}
	first := len(fields) - len(words)
	for i, word := range words {
		mask, bad, warn := parseField(first+i, word)
		*masks[first+i] = mask
		wrongs = append(wrongs, moved(bad, at[i])...)
		warns = append(warns, moved(warn, at[i])...)
	}
	if len(wrongs) > 2 { // prose: each word would be told
		return nil, exprErr(wrongs[0].at, "minute, hour, day of month, month, day of week", " is no schedule"), nil
	}
	if len(wrongs) > 0 {
		return nil, wrongs, warns
	}
	if note, hint := z.combineDays(words[3-first], words[5-first], w.posted); note != "" {
		warns = append(warns, exprErr(at[3-first], hint, "%s", note)...)
	}
	z.elapsed = z.spec.Hour&allHours == allHours
	if z.isNever() {
		return nil, exprErr(at[3-first], "", " is never due: no such month has such a day"), warns
	}
	if w.seconds && bits.OnesCount64(z.spec.Second<<1) == 60 && words[1] != "*" {
		warns = append(warns, exprErr(at[0], "write 0 for the seconds to run once a minute",
			" runs every second of each minute that matches")...)
	}
	return z, nil, warns
}

// refusedByDaemon warns of what the agent takes and Beanstalk's daemon does not: a question mark, and a step without a
// range.
func refusedByDaemon(words []string, at []int) (warns []exprError) {
	for i, word := range words {
		step := strings.Index(word, "/") > 0 && word[0] != '*' && !strings.Contains(word, "-")
		if step || strings.Contains(word, "?") {
			warns = append(warns, exprErr(at[i], "write a star, or a range",
				": Beanstalk's daemon refuses %q, and a worker tier the deployment of this file", word)...)
		}
	}
	return warns
}

// parseMacro reads an expression that begins with @.
func parseMacro(w when) (Schedule, []exprError) {
	if e, ok := macros[w.expr]; ok {
		s, wrongs, _ := parseExpr(when{expr: e, loc: w.loc})
		return s, wrongs
	}
	word, rest, _ := strings.Cut(w.expr, " ")
	switch {
	case word == "@every":
		rest = strings.TrimSpace(rest)
		d, err := yamlnode.ParseDuration(rest)
		switch {
		case err != nil:
			const hint = "such as @every 90m or @every 1d"
			return nil, exprErr(len(word)+1, hint, ": @every wants a duration, not %q", rest)
		case d < time.Second || d%time.Second != 0:
			return nil, exprErr(len(word)+1, "",
				": @every wants whole seconds, at least one, not %q", rest)
		}
		return every{d, w.loc}, nil
	case word == "@reboot":
		return nil, exprErr(0, "start it from a .platform/hooks/postdeploy script, or as a process in the Procfile",
			": @reboot is not a time")
	case macros[strings.ToLower(word)] != "":
		return nil, exprErr(0, "write it in lower case", ": unknown macro %q", word)
	}
	const hint = "known are @yearly @monthly @weekly @daily @hourly and @every DURATION"
	return nil, exprErr(0, hint, ": unknown macro %q", word)
}

// checkCount says what is wrong with the number of words, or nil.
func checkCount(expr string, words []string, seconds bool) []exprError {
	want := 5
	if seconds {
		want = 6
	}
	switch n := len(words); {
	case strings.HasPrefix(expr, "TZ=") || strings.HasPrefix(expr, "CRON_TZ="):
		return exprErr(0, "use the key timezone, or in a crontab a line CRON_TZ=ZONE of its own",
			": the time zone does not belong into the schedule")
	case n == want:
		return nil
	case n == 0:
		return exprErr(0, `such as "0 3 * * *"`, " is empty")
	case n == 6 && !seconds:
		return exprErr(0, "if the first is for seconds, say seconds: true; else drop one",
			" has six fields where five are expected")
	case n == 5 && seconds:
		return exprErr(0, "seconds: true asks for a field for seconds before the minute",
			" has five fields where six are expected")
	default:
		return exprErr(0, "minute, hour, day of month, month, day of week",
			" has %d fields where %d are expected", n, want)
	}
}

// parseField gives the bits of one field as robfig's parser sees them.
func parseField(i int, word string) (mask uint64, wrongs, warns []exprError) {
	f := &fields[i]
	for at, part := range parts(word) {
		m, msg := parsePart(i, part)
		if msg != "" {
			wrongs = append(wrongs, exprErr(at, "", ": %s %q: %s", f.name, part, msg)...)
			continue
		}
		mask |= m
		if _, step, ok := strings.Cut(part, "/"); ok {
			if n, _ := strconv.Atoi(step); n > f.max-f.min {
				warns = append(warns, exprErr(at, "for a longer period use @every",
					": %s %q: the step is longer than the field, so it is due once in it", f.name, part)...)
			}
		}
	}
	return mask, wrongs, warns
}

// parsePart reads one element of a field's list, and says what is wrong with it. It refuses
// mistakes that robfig's parser accepts.
func parsePart(i int, part string) (mask uint64, wrong string) {
	f := &fields[i]
	body, step, stepped := strings.Cut(part, "/")
	low, high, ranged := strings.Cut(body, "-")
	switch {
	case part == "":
		return 0, "an element of the list is missing"
	case strings.ContainsFunc(part, notCron):
		return 0, f.expected()
	case ranged && (isStar(low) || isStar(high)):
		return 0, "a star cannot be part of a range"
	case stepped && !isNumber(step):
		return 0, "the step must be a number"
	case i == weekdays && !isStar(low):
		return parseWeekday(low, high, step, ranged, stepped)
	}
	s, err := f.parser.Parse(part)
	if err != nil {
		return 0, f.complain(err)
	}
	spec := s.(*cron.SpecSchedule)
	return [...]uint64{spec.Second, spec.Minute, spec.Hour, spec.Dom, spec.Month, spec.Dow}[i], ""
}

// parseWeekday adds to robfig's parser that Sunday is also 7, so that fri-sun is a range.
func parseWeekday(low, high, step string, ranged, stepped bool) (mask uint64, wrong string) {
	from, ok := weekday(low)
	to := from
	if ranged {
		var good bool
		to, good = weekday(high)
		ok = ok && good
		if to == 0 && from > 0 {
			to = 7
		}
	} else if stepped {
		to = max(from, 6)
	}
	by := 1
	if stepped {
		by, _ = strconv.Atoi(step) // 0 when it is too long to be one
	}
	switch {
	case !ok:
		return 0, fields[weekdays].expected()
	case from > to:
		return 0, "the range ends before it begins"
	case by < 1:
		return 0, "the step must be at least 1"
	}
	for d := from; d <= to; d += min(by, 7) {
		mask |= 1 << (d % 7)
	}
	return mask, ""
}

// weekday reads 0 to 7 or a name; Sunday is 0 unless written as 7.
func weekday(s string) (day int, ok bool) {
	if i := strings.Index("sun mon tue wed thu fri sat", strings.ToLower(s)); len(s) == 3 && i >= 0 && i%4 == 0 {
		return i / 4, true
	}
	if len(s) != 1 || s[0] < '0' || s[0] > '7' {
		return 0, false
	}
	return int(s[0] - '0'), true
}

// complain puts an error of robfig's parser into our words.
func (f *field) complain(err error) string {
	msg := err.Error()
	switch {
	case strings.HasPrefix(msg, "beginning of range") && strings.Contains(msg, "beyond"):
		return "the range ends before it begins"
	case strings.HasPrefix(msg, "step of range"):
		return "the step must be at least 1"
	}
	return f.expected()
}

func (f *field) expected() string {
	switch f.name {
	case "month":
		return "expected 1 to 12 or jan to dec"
	case "day of week":
		return "expected 0 to 7 (0 and 7 are Sunday) or sun to sat"
	}
	return fmt.Sprintf("expected numbers from %d to %d", f.min, f.max)
}

// split cuts an expression into words, with the byte at which each begins.
func split(expr string) (words []string, at []int) {
	for i := 0; i < len(expr); {
		n := strings.IndexAny(expr[i:], " \t\n")
		if n < 0 {
			n = len(expr) - i
		}
		if n > 0 {
			words, at = append(words, expr[i:i+n]), append(at, i)
		}
		i += n + 1
	}
	return words, at
}

// parts gives the elements of a list with the byte at which each begins.
func parts(list string) func(func(int, string) bool) {
	return func(yield func(int, string) bool) {
		at := 0
		for part := range strings.SplitSeq(list, ",") {
			if !yield(at, part) {
				return
			}
			at += len(part) + 1
		}
	}
}

// moved shifts errors of a word to the place of the word in the expression.
func moved(ws []exprError, by int) []exprError {
	for i := range ws {
		ws[i].at += by
	}
	return ws
}

func isStar(s string) bool { return s == "*" || s == "?" }

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// notCron reports whether no part of a field may contain r.
func notCron(r rune) bool {
	switch {
	case '0' <= r && r <= '9', 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z':
		return false
	}
	return !strings.ContainsRune("*?-/", r)
}
