package scheduler

import (
	"errors"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"
)

// faultLines gives what Parse finds wrong, one line each, without the file's name.
func faultLines(t *testing.T, file, text string) []string {
	t.Helper()
	_, err := Parse(file, []byte(text), ParseOptions{})
	if err == nil {
		return nil
	}
	fs, ok := errors.AsType[Faults](err)
	if !ok {
		t.Fatalf("Parse gave %T, want Faults", err)
	}
	var out []string
	for _, f := range fs {
		out = append(out, strings.TrimPrefix(f.String(), file+":"))
	}
	return out
}

// mustParse gives the table of a file without faults.
func mustParse(t testing.TB, file, text string) Table {
	t.Helper()
	tab, err := Parse(file, []byte(text), ParseOptions{})
	if err != nil {
		t.Fatalf("parse %s:\n%v", file, err)
	}
	return tab
}

// A worker tier's cron.yaml as AWS documents it runs unchanged.
func TestWorkerTierFileParses(t *testing.T) {
	tab := mustParse(t, "cron.yaml", `version: 1
cron:
 - name: "backup-job"          # required - unique across all entries in this file
   url: "/backup"              # required - does not need to be unique
   schedule: "0 */12 * * *"    # required - does not need to be unique
 - name: "audit"
   url: "/audit"
   schedule: "0 23 * * *"
`)
	if len(tab.Jobs) != 2 {
		t.Fatalf("got %d jobs, want 2", len(tab.Jobs))
	}
	j := tab.Jobs[1]
	if j.Name != "audit" || j.URL != "/audit" || j.Location != time.UTC || j.Line != 6 {
		t.Errorf("got %+v", j)
	}
	at := j.Schedule.Next(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC))
	if want := time.Date(2027, 1, 1, 23, 0, 0, 0, time.UTC); !at.Equal(want) {
		t.Errorf("audit is due %v, want %v", at, want)
	}
	if off := j.OffReason(Host{Worker: true}); off == "" {
		t.Error("a worker tier's own daemon posts url: jobs, but this one would run here too")
	}
}

// Everything wrong with a file is reported at once, each with its place.
func TestAllFaultsAreToldAtOnce(t *testing.T) {
	got := faultLines(t, "cron.yaml", `version: 1
cron:
  - name: a
    schedule: * * * * *
    command: x
  - name: b
    schedul: "0 0 31 2 *"
    timeout: 30
    command: foo
  - name: c
    schedule: "0 25 31 2 8"
    url: foo
    on: two
  - name: b
    schedule: "0 0 31 2 *"
    command: [1]
  - name: d
    schedule: "0 4 * * *"
	command: x
  - {name: d, schedule: "0 24 * * *", command: x}
timezone: Mars/Base
`)
	want := []string{
		`4:15: a star that begins a value is a reference in YAML; quote it: schedule: "* * * * *"`,
		`6:5: job b has no schedule`,
		`7:5: unknown key "schedul"; did you mean schedule?`,
		`8:14: timeout "30" has no unit; such as 90s, 5m, 2h or 1d`,
		`11:18: schedule "0 25 31 2 8": hour "25": expected numbers from 0 to 23`,
		`11:26: schedule "0 25 31 2 8": day of week "8": expected 0 to 7 (0 and 7 are Sunday) or sun to sat`,
		`12:10: url must be a path of the application that begins with a slash; such as /tasks/nightly; another server is reached with command: curl …`,
		`13:9: on "two" is not known; one of one, all`,
		`14:11: name "b" is already taken in line 6; give each job a name of its own`,
		`15:20: schedule "0 0 31 2 *" is never due: no such month has such a day`,
		`16:15: each of command: expected text, have a number; put it in quotes`,
		`19:1: a tab cannot indent YAML; use blanks`,
		`20:28: schedule "0 24 * * *": hour "24": expected numbers from 0 to 23`,
		`21:11: unknown time zone "Mars/Base"; name it as the tz database does, such as Europe/Berlin or UTC`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A skipped time runs when the gap ends, and says so.
func TestUpcomingExplainsDaylightSaving(t *testing.T) {
	tab := mustParse(t, "crontab", "CRON_TZ=Europe/Berlin\n30 2 * * * nightly\n")
	var got []Occurrence
	for o := range tab.Upcoming(time.Date(2027, 3, 27, 12, 0, 0, 0, time.UTC), nil) {
		if got = append(got, o); len(got) == 2 {
			break
		}
	}
	if at := got[0].At.Format(time.RFC3339); at != "2027-03-28T03:00:00+02:00" {
		t.Errorf("runs at %s, want 2027-03-28T03:00:00+02:00", at)
	}
	if want := "2027-03-28 02:30 does not exist in Europe/Berlin: runs 03:00"; got[0].Note != want {
		t.Errorf("note %q, want %q", got[0].Note, want)
	}
	if at := got[1].At.Format(time.RFC3339); at != "2027-03-29T02:30:00+02:00" || got[1].Note != "" {
		t.Errorf("then at %s with note %q, want 2027-03-29T02:30:00+02:00 without", at, got[1].Note)
	}
}
