package cron

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"beanstalk-agent/agent/internal/claim"
)

// printable is a name that came from the register, which others write, for a message.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	return fmt.Sprintf("%.100s", s)
}

// clock is a time in a sentence: 02:30:00 UTC (20m ago).
func clock(t time.Time) string {
	form := "15:04:05 MST"
	ago := time.Since(t)
	if ago > 20*time.Hour {
		form = "2006-01-02 15:04:05 MST"
	}
	return fmt.Sprintf("%s (%s ago)", t.UTC().Format(form), short(max(ago, 0)))
}

// short is a length of time in its two largest units.
func short(d time.Duration) string {
	switch {
	case d >= 24*time.Hour:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return d.Round(time.Second).String()
}

// where names the instance of a run, and its environment where several share the register.
func where(r claim.Run) string {
	if r.Environment == "" {
		return printable(r.Owner)
	}
	return printable(r.Owner) + " of " + printable(r.Environment)
}
