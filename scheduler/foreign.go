package scheduler

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// foreign recognizes a schedule of another system, and a character that only looks like one of a schedule. It says what
// is wrong, at which byte, and what to write instead; what is empty for all other expressions.
func foreign(expr string) (at int, what, hint string) {
	if r, at := odd(expr); at >= 0 {
		return at, " has " + charName(r), "type it anew"
	}
	for _, known := range []func(string) (what, write string){heroku, eventBridge, quartz} {
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

// heroku reads what Heroku Scheduler's page offers: "Every 10 minutes", "Hourly at :30", "Daily at 2:30 AM UTC".
func heroku(expr string) (what, write string) {
	const name = "as Heroku Scheduler says it"
	words := strings.Fields(strings.ToLower(expr))
	switch {
	case len(words) < 3:
	case words[0] == "every" && strings.HasPrefix(words[2], "minute"):
		return name, fields5("*/"+words[1], "*")
	case words[0] == "hourly" && words[1] == "at":
		return name, fields5(strings.TrimPrefix(words[2], ":"), "*")
	case words[0] == "daily" && words[1] == "at":
		hour, minute, _ := strings.Cut(words[2], ":")
		h, err := strconv.Atoi(hour)
		if err != nil || len(words) < 4 {
			return name, ""
		}
		if words[3] == "pm" || words[3] == "am" {
			h %= 12
		}
		if words[3] == "pm" {
			h += 12
		}
		return name, fields5(minute, strconv.Itoa(h))
	}
	return "", ""
}

// fields5 is a daily or hourly schedule, or "" when minute is not one.
func fields5(minute, hour string) string {
	n, err := strconv.Atoi(strings.TrimPrefix(minute, "*/"))
	if err != nil || n < 0 || n > 59 {
		return ""
	}
	return strings.Replace(minute, strings.TrimPrefix(minute, "*/"), strconv.Itoa(n), 1) + " " + hour + " * * *"
}

// eventBridge reads rate(10 minutes) and cron(0 10 * * ? *), whose sixth field is the year and whose weekdays begin
// with 1 for Sunday. https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html
func eventBridge(expr string) (what, write string) {
	const name = "an expression of EventBridge"
	rule, rest, _ := strings.Cut(expr, "(")
	inside, _, closed := strings.Cut(rest, ")")
	words := strings.Fields(inside)
	switch {
	case !closed || rule != "cron" && rule != "rate":
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

// quartz recognizes such marks. What it returns continues a sentence.
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
	return "", ""
}

func digits(s string) bool { return strings.Trim(s, "0123456789") == "" }

// isInvisible reports whether a reader takes r for a blank, or does not see it, and programs do neither: a no-break
// space, a zero width space, a soft hyphen.
func isInvisible(r rune) bool {
	return r > unicode.MaxASCII && (unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zs, r))
}

// isLookalike reports whether r is what an editor or a web page puts in the place of a quote or a hyphen.
func isLookalike(r rune) bool {
	return strings.ContainsRune("‘’“”„«»–—−‐‑•", r)
}

// charName is r as a message can show it.
func charName(r rune) string {
	names := map[rune]string{'\u00a0': "a no-break space", '\u200b': "a zero width space", '\u2013': "an en dash",
		'\u2014': "an em dash", '\u201c': "a curved quote", '\u201d': "a curved quote", '\ufeff': "a byte order mark"}
	if name, known := names[r]; known {
		return fmt.Sprintf("%s (%U)", name, r)
	}
	return fmt.Sprintf("the character %U", r)
}

// odd returns the first character of s that is invisible or a look-alike, and where it is.
func odd(s string) (r rune, at int) {
	at = strings.IndexFunc(s, func(r rune) bool { return isInvisible(r) || isLookalike(r) })
	if at < 0 {
		return 0, -1
	}
	r, _ = utf8.DecodeRuneInString(s[at:])
	return r, at
}
