package scheduler

import (
	"slices"
	"strconv"
	"strings"
)

// inWords reads what Heroku Scheduler's page offers ("Every 10 minutes", "Hourly at :30", "Daily at 2:30 AM UTC"), what
// App Engine's cron.yaml has ("every 24 hours", "every mon,fri 09:00", "1st monday of march 17:00"), and the name of a
// macro alone.
func inWords(expr string) (what, write string) {
	const (
		heroku    = "as Heroku Scheduler says it"
		appEngine = "as App Engine's cron.yaml says it"
	)
	words := strings.Fields(strings.ToLower(expr))
	if len(words) == 1 && macros["@"+words[0]] != "" {
		return "a macro without its first letter", "@" + words[0]
	}
	if len(words) < 3 {
		return "", ""
	}
	last := words[len(words)-1]
	switch {
	case words[0] == "hourly" && words[1] == "at":
		return heroku, dailyAt(strings.TrimPrefix(words[2], ":"), "*", "*")
	case words[0] == "daily" && words[1] == "at":
		return heroku, dailyAtClock(words[2], words[3:])
	case words[0] == "every" && digits(words[1]) && strings.HasPrefix(words[2], "min"):
		if n, _ := strconv.Atoi(words[1]); n > 0 && 60%n != 0 {
			return appEngine, "@every " + words[1] + "m"
		}
		return heroku, dailyAt("*/"+words[1], "*", "*")
	case words[0] == "every" && digits(words[1]) && strings.HasPrefix(words[2], "hour"):
		switch n, _ := strconv.Atoi(words[1]); {
		case n == 24:
			return appEngine, "0 0 * * *"
		case n > 0 && 24%n == 0: // a worker tier's daemon does not know @every
			return appEngine, "0 */" + words[1] + " * * *"
		}
		return appEngine, "@every " + words[1] + "h"
	case words[0] == "every" && strings.Contains(last, ":"):
		minute, hour := last[strings.Index(last, ":")+1:], last[:strings.Index(last, ":")]
		if words[1] == "day" {
			return appEngine, dailyAt(minute, hour, "*")
		}
		return appEngine, dailyAt(minute, hour, shortDays(words[1]))
	case slices.Contains(words, "of") && strings.Contains(last, ":"):
		return appEngine, ""
	}
	return "", ""
}

// dailyAtClock is the schedule of 2:30, or of 2:30 with PM after it.
func dailyAtClock(clock string, after []string) string {
	hour, minute, _ := strings.Cut(clock, ":")
	h, err := strconv.Atoi(hour)
	if err != nil || len(after) == 0 {
		return ""
	}
	if after[0] == "pm" || after[0] == "am" {
		h %= 12
	}
	if after[0] == "pm" {
		h += 12
	}
	return dailyAt(minute, strconv.Itoa(h), "*")
}

// dailyAt is a daily, weekly or hourly schedule, or "" when one of its fields is not one.
func dailyAt(minute, hour, days string) string {
	number := strings.TrimPrefix(minute, "*/")
	n, err := strconv.Atoi(number)
	if err != nil {
		return ""
	}
	if h, err := strconv.Atoi(hour); err == nil {
		hour = strconv.Itoa(h)
	}
	write := strings.Replace(minute, number, strconv.Itoa(n), 1) + " " + hour + " * * " + days
	if _, wrongs, _ := parseExpr(when{expr: write}); len(wrongs) > 0 {
		return ""
	}
	return write
}

// shortDays writes mon for monday, in a list.
func shortDays(list string) string {
	days := strings.Split(list, ",")
	for i, d := range days {
		days[i] = d[:min(len(d), 3)]
	}
	return strings.Join(days, ",")
}
