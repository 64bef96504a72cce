package scheduler

import (
	"fmt"
	"regexp"
	"strings"

	"beanstalk-agent/scheduler/yamlnode"
)

// foreign recognizes a schedule of another system, and a character that only looks like one of a schedule. It says what
// is wrong, at which byte, and what to write instead; what is empty for all other expressions.
func foreign(expr string) (at int, what, hint string) {
	if r, at := yamlnode.Odd(expr); at >= 0 {
		return at, " has " + yamlnode.CharName(r), "type it anew"
	}
	for _, known := range []func(string) (what, write string){inWords, eventBridge, quartz} {
		what, write := known(expr)
		if what == "" {
			continue
		}
		if write == "" {
			write = "minute, hour, day of month, month and day of week"
		}
		return 0, " is " + what, "write " + write
	}
	return 0, "", ""
}

// eventBridge reads rate(10 minutes) and cron(0 10 * * ? *), whose sixth field is the year and whose weekdays begin
// with 1 for Sunday. https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html
func eventBridge(expr string) (what, write string) {
	const name = "an expression of EventBridge"
	rule, rest, _ := strings.Cut(expr, "(")
	inside, _, closed := strings.Cut(rest, ")")
	words := strings.Fields(inside)
	switch {
	case !closed || rule != "cron" && rule != "rate" && rule != "at":
		return "", ""
	case rule == "cron" && len(words) == 6 && !strings.ContainsAny(inside, "LW#") && !digits(words[4]):
		return name, strings.ReplaceAll(strings.Join(words[:5], " "), "?", "*")
	case rule == "rate" && len(words) == 2 && len(words[0]) < 5 && digits(words[0]):
		units := map[string]string{"minute": "m", "hour": "h", "day": "d"}
		if unit := units[strings.TrimSuffix(words[1], "s")]; unit != "" {
			return name, "@every " + words[0] + unit
		}
	}
	return name, ""
}

// Marks that fields of Jenkins, cronie and Quartz may have, in capitals.
var (
	jenkins    = regexp.MustCompile(`^H([/(].*)?$`)
	quartzDays = regexp.MustCompile(`^(L|[0-7]L|[0-9]+W|.*#.*)$`)
)

// quartz recognizes such marks, and its seconds and year beside a question mark. What it returns continues a sentence.
func quartz(expr string) (what, write string) {
	words := strings.Fields(expr)
	if len(words) < 5 || len(words) > 7 {
		return "", ""
	}
	for _, w := range words {
		switch upper := strings.ToUpper(w); {
		case jenkins.MatchString(upper):
			return fmt.Sprintf("as Jenkins has it: %q spreads starts, as the key splay of cron.yaml does", w), ""
		case strings.Contains(w, "~"):
			return fmt.Sprintf("with a random time, %q: the key splay of cron.yaml spreads starts", w), ""
		case quartzDays.MatchString(upper):
			return fmt.Sprintf("as Quartz has it: for %q run daily and let the command look at the date", w), ""
		}
	}
	if len(words) == 7 && strings.Contains(expr, "?") {
		return "as Quartz has it, with seconds before and a year after the five fields",
			strings.ReplaceAll(strings.Join(words[1:6], " "), "?", "*")
	}
	return "", ""
}

func digits(s string) bool { return strings.Trim(s, "0123456789") == "" }
