package scheduler

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// parseSchedule reads an expression of its own; the error has all that is wrong with it.
func parseSchedule(expr string, seconds bool, loc *time.Location) (Schedule, error) {
	s, wrongs, _ := parseExpr(when{expr: expr, seconds: seconds, loc: loc})
	var errs []error
	for _, w := range wrongs {
		errs = append(errs, fmt.Errorf("schedule %q%s; %s", expr, w.message, w.hint))
	}
	return s, errors.Join(errs...)
}

func TestExpressionsThatMeanTheSame(t *testing.T) {
	for _, same := range [][]string{
		{"0 5 * * 0", "0 5 * * 7", "0 5 * * sun", "0 5 * * SUN", "0 5 * * 7-7"},
		{"0 5 * * 5-7", "0 5 * * fri-sun", "0 5 * * 0,5,6", "0 5 * * 5,6,7", "0 5 * * 5-6,sun"},
		{"0 5 * * 0-7", "0 5 * * *", "0 5 ? * ?", "0 5 * * mon-sun"},
		{"0 5 * * 1-7/2", "0 5 * * 0,1,3,5"},
		{"0 5 * * 1/2", "0 5 * * 1,3,5"},
		{"@daily", "@midnight", "0 0 * * *", "00 00 * * *", "0  0 *\t* * "},
		{"@weekly", "0 0 * * 7"},
		{"@yearly", "@annually", "0 0 1 jan *"},
		{"@hourly", "0 */1 * * *", "0 0-23 * * *", "@every 1h", "@every 60m"},
		{"5/20 * * * *", "5-59/20 * * * *", "5,25,45 * * * *"},
	} {
		var want []time.Time
		for _, expr := range same {
			s, err := parseSchedule(expr, false, time.UTC)
			if err != nil {
				t.Errorf("%q: %v", expr, err)
				continue
			}
			var got []time.Time
			at := time.Date(2027, 2, 26, 13, 7, 1, 0, time.UTC)
			for range 12 {
				at = s.Next(at)
				got = append(got, at)
			}
			if want == nil {
				want = got
			}
			for i := range got {
				if !got[i].Equal(want[i]) {
					t.Errorf("%q: run %d at %v, but %q then runs at %v", expr, i, got[i], same[0], want[i])
					break
				}
			}
		}
	}
}

func TestWrongExpressions(t *testing.T) {
	for expr, want := range map[string]string{
		"":                               "is empty",
		"* * * *":                        "has 4 fields where 5 are expected",
		"*/5 * * * * *":                  "has six fields where five are expected",
		"0 0 0 * * * 2027":               "has 7 fields",
		"60 * * * *":                     `minute "60": expected numbers from 0 to 59`,
		"* 24 * * *":                     `hour "24"`,
		"* * 0 * *":                      `day of month "0": expected numbers from 1 to 31`,
		"* * * 13 *":                     `month "13": expected 1 to 12 or jan to dec`,
		"* * * * 8":                      "0 and 7 are Sunday",
		"* * * * sunday":                 "sun to sat",
		"5-1 * * * *":                    "ends before it begins",
		"* * * * sat-mon":                "ends before it begins",
		"*/0 * * * *":                    "at least 1",
		"* * * * 1/0":                    "at least 1",
		"*/99999999999999999999 * * * *": "expected numbers",
		"1,,2 * * * *":                   "an element of the list is missing",
		", * * * *":                      "is missing",
		"*-5 * * * *":                    "a star cannot be part of a range",
		"+5 * * * *":                     "expected numbers",
		"5- * * * *":                     "expected numbers",
		"1-2-3 * * * *":                  "expected numbers",
		"l5 * * * *":                     "expected numbers",
		"0 0 31 2 *":                     "is never due",
		"0 0 30 feb *":                   "is never due",
		"0 0 31 4,6,9,11 *":              "is never due",
		"TZ=UTC":                         "time zone does not belong",
		"CRON_TZ=":                       "time zone does not belong",
		"CRON_TZ=UTC 0 5 * * *":          "use the key timezone",
		"@reboot":                        "is not a time",
		"@Daily":                         "lower case",
		"@fortnightly":                   "unknown macro",
		"@every":                         "wants a duration",
		"@every 0s":                      "at least one",
		"@every -1h":                     "wants a duration",
		"@every 1500ms":                  "whole seconds",
		"@every 5":                       "wants a duration",
		"@":                              "unknown macro",
	} {
		s, err := parseSchedule(expr, false, time.UTC)
		if err == nil {
			t.Errorf("%q: parses, next %v", expr, s.Next(midnight))
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want it to say %q", expr, err, want)
		}
	}
	if _, err := parseSchedule("0 5 * * *", true, time.UTC); err == nil || !strings.Contains(err.Error(), "has five fields where six") {
		t.Errorf("five fields with seconds: %v", err)
	}
}

// What robfig's Next would give up on after five years, and what ends for good.
func TestRareSchedules(t *testing.T) {
	for expr, want := range map[string]string{
		"0 0 29 2 *":    "2104-02-29T00:00:00Z", // 2100 is no leap year
		"0 0 29 2 1":    "2097-02-04T00:00:00Z", // that day, or any Monday in February
		"59 23 31 12 *": "2096-12-31T23:59:00Z",
	} {
		s, err := parseSchedule(expr, false, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Next(time.Date(2096, 3, 1, 0, 0, 0, 0, time.UTC)).Format(time.RFC3339); got != want {
			t.Errorf("%q: next %s, want %s", expr, got, want)
		}
	}
}

// Restarts and instances agree on the slots of @every, before 1970 too.
func TestEverySlotsAreAnchored(t *testing.T) {
	s, err := parseSchedule("@every 7m", false, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []time.Time{midnight, midnight.Add(time.Second), time.Unix(-1, 0), time.Unix(0, 1), time.Unix(-420, 0)} {
		at := s.Next(from)
		if at.Unix()%420 != 0 || !at.After(from) || at.Sub(from) > 7*time.Minute {
			t.Errorf("after %v comes %v", from, at)
		}
	}
}

func TestNotesExplainWhatTheClockDoes(t *testing.T) {
	for _, c := range []struct{ zone, expr, from, at, note string }{
		{"Europe/Berlin", "30 2 * * *", "2027-03-28T00:00:00Z", "2027-03-28T03:00:00+02:00", "2027-03-28 02:30 does not exist in Europe/Berlin: runs 03:00"},
		{"Europe/Berlin", "*/10 1-2 * * *", "2027-03-28T00:50:00Z", "2027-03-28T03:00:00+02:00", "2027-03-28 02:00 to 02:50 do not exist in Europe/Berlin: runs once at 03:00"},
		{"Europe/Berlin", "0 3 * * *", "2027-03-28T00:00:00Z", "2027-03-28T03:00:00+02:00", ""},
		{"Europe/Berlin", "30 2 * * *", "2027-10-30T12:00:00Z", "2027-10-31T02:30:00+02:00", "2027-10-31 02:30 happens twice in Europe/Berlin: runs the first time"},
		{"Europe/Berlin", "30 3 * * *", "2027-10-30T12:00:00Z", "2027-10-31T03:30:00+01:00", ""},
		{"Europe/Berlin", "30 * * * *", "2027-10-31T00:45:00Z", "2027-10-31T02:30:00+01:00", "2027-10-31 02:30 happens twice in Europe/Berlin: this is the second time"},
		{"America/Sao_Paulo", "0 0 * * *", "2018-11-03T12:00:00Z", "2018-11-04T01:00:00-02:00", "2018-11-04 00:00 does not exist in America/Sao_Paulo: runs 01:00"},
		{"Pacific/Apia", "0 5 30 12 *", "2011-12-01T00:00:00Z", "2011-12-31T00:00:00+14:00", "2011-12-30 05:00 does not exist in Pacific/Apia: runs 2011-12-31 00:00"},
		{"Australia/Lord_Howe", "15 2 * * *", "2027-10-02T00:00:00Z", "2027-10-03T02:30:00+11:00", "2027-10-03 02:15 does not exist in Australia/Lord_Howe: runs 02:30"},
	} {
		from, err := time.Parse(time.RFC3339, c.from)
		if err != nil {
			t.Fatal(err)
		}
		s, err := parseSchedule(c.expr, false, mustZone(t, c.zone))
		if err != nil {
			t.Fatal(err)
		}
		at := s.Next(from)
		if got := at.Format(time.RFC3339); got != c.at || explain(s, at) != c.note {
			t.Errorf("%s %q after %s:\n got %s %q\nwant %s %q", c.zone, c.expr, c.from, got, explain(s, at), c.at, c.note)
		}
	}
}
