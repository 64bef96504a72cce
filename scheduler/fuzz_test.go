package scheduler

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// sameAgain fails unless what parsed prints to a file that parses to the same.
func sameAgain(t *testing.T, tab Table) {
	t.Helper()
	text := printed(tab)
	again, err := Parse("cron.yaml", text, ParseOptions{})
	if err != nil {
		t.Fatalf("what parsed does not parse when printed: %v\n%s", err, text)
	}
	if again.Group != tab.Group {
		t.Fatalf("group %q became %q", tab.Group, again.Group)
	}
	if len(again.Jobs) != len(tab.Jobs) {
		t.Fatalf("%d jobs became %d:\n%s", len(tab.Jobs), len(again.Jobs), text)
	}
	for i := range tab.Jobs {
		a, b := plain(tab.Jobs[i]), plain(again.Jobs[i])
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("printed as\n%s\n%+v became\n%+v", text, a, b)
		}
	}
}

// plain is a job without what depends on the file it came from, its slices nil when
// empty, its zone by name.
func plain(j Job) any {
	due := j.Schedule.Next(time.Date(2027, 3, 27, 12, 34, 56, 0, time.UTC))
	zone := j.Location.String()
	j.Line, j.Schedule, j.Location = 0, nil, nil
	for _, list := range []*[]string{&j.Args, &j.Env, &j.Notify, &j.Environments, &j.ProcessTypes} {
		if len(*list) == 0 {
			*list = nil
		}
	}
	return []any{j, zone, due.String()}
}

// checkFaults fails unless every fault has a place in the file and something to say.
func checkFaults(t *testing.T, data []byte, err error) {
	t.Helper()
	lines := strings.Count(string(data), "\n") + 1
	for _, f := range err.(Faults) {
		if f.Line < 1 || f.Line > lines || f.Column < 1 || f.Message == "" || strings.Contains(f.String(), "\n") {
			t.Fatalf("fault %+v in a file of %d lines", f, lines)
		}
	}
}

func fuzzFile(f *testing.F, name string) {
	f.Fuzz(func(t *testing.T, data []byte) {
		tab, err := Parse(name, data, ParseOptions{})
		if err != nil {
			checkFaults(t, data, err)
			return
		}
		checkFaults(t, data, tab.Warnings)
		sameAgain(t, tab)
		n, last := 0, time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
		for o := range tab.Upcoming(last, nil) {
			if _, ok := tab.Job(o.Job); !ok || o.At.Before(last) || strings.Contains(o.Note, "\n") {
				t.Fatalf("after %v comes %+v", last, o)
			}
			if n++; n > 5 {
				break
			}
			last = o.At
		}
	})
}

func FuzzParseCrontab(f *testing.F) {
	f.Add([]byte("# c\nA=b\nCRON_TZ=Europe/Berlin\n*/5 * * * * cd /x && y z\n@every 5m a\n0 0 * * fri-sun date +\\%Y\n"))
	f.Add([]byte("SHELL=/bin/bash\nX = 'y z'\n0 5 * * * root /bin/x\n* * * * * * x\n@reboot x\n0 0 31 2 * y\r\n"))
	f.Add([]byte("\ufeff0 0 29 2 * a%b\nTZ=UTC 0 5 * * * x\n1,2-4/2,5/10 * ? jan-mar,12 7 x"))
	fuzzFile(f, "crontab")
}

func FuzzParseYAML(f *testing.F) {
	f.Add([]byte(everyKey))
	f.Add([]byte("version: 1\nx-base: &b {timezone: Europe/Berlin}\ncron:\n- name: a\n  <<: *b\n  schedule: * * * * *\n- {name: b, url: /x, schedule: '@daily'}\n"))
	f.Add([]byte("cron: [{name: a, schedule: '0 0 31 2 *', command: |\n  a\n  b\n}]\n---\nb: 2"))
	f.Add([]byte("cron:\n  - name: \"a\n  - b\"\n    schedule: '@every 0s'\n    command: [x, *y]\n"))
	f.Add([]byte("*\n\n\n<\n\n\n="))
	f.Add([]byte("\ufeffversion: 1\r\ncron:\r\n - name: \"a\\nb\"\r\n   url: \"/a b\"\r\n   schedule: \"0 0 * * 7\"\r\n - name: a\r\n   url: http://x/\r\n   schedule: \"60 * * * *\"\r\n"))
	f.Add([]byte("version: 1\ncron:\n- {name: a, schedule: '* * * * *', command: [\"\\0\"], env: {A=B: \"\\x9b\", \"\": x}, dir: /etc, timeout: -1s, retries: 1e9, splay: 9999999h}\n- *a\n- null\n"))
	fuzzFile(f, "cron.yaml")
}

func FuzzParseSchedule(f *testing.F) {
	spring, leap := time.Date(2027, 3, 27, 0, 0, 0, 0, time.UTC).Unix(), time.Date(2040, 12, 30, 22, 0, 0, 0, time.UTC).Unix()
	for _, e := range append([]string{"TZ=UTC", "CRON_TZ=Europe/Berlin 0 5 * * *", "@every 0s", "@every -1h", "* * 31 2 *", "*/0 * * * *", "60 * * * *", "0 0 * * 5-7/2", ",, * * * *", "*-5 * * * *"}, oracleExprs...) {
		f.Add(e, false, spring)
		f.Add(e, false, leap)
	}
	f.Add("*/5 * * * * *", true, spring)
	loc := mustZone(f, "Europe/Berlin")
	f.Fuzz(func(t *testing.T, expr string, seconds bool, from int64) {
		s, err := parseSchedule(expr, seconds, loc)
		if err != nil {
			return
		}
		at := time.Unix(from%(1<<33), 1) // 1697 to 2242
		for range 3 {
			next := s.Next(at)
			if !next.After(at) || next.Nanosecond() != 0 {
				t.Fatalf("%q: after %v comes %v", expr, at, next)
			}
			explain(s, next)
			at = next
		}
	})
}

// everyKey is a job that says everything.
const everyKey = `version: 1
timezone: Europe/Berlin
environments: [prod-*, "staging"]
process_types: [web, clock]
group: ${CRON_GROUP:-shop}
cron:
  - name: everything
    schedule: "15 30 2 * * mon-fri"
    seconds: true
    command: [python, manage.py, "a b"]
    timezone: America/New_York
    on: one
    overlap: queue
    timeout: 1d2h
    retries: 3
    backoff: 45s
    splay: 5m
    catch_up: 90m
    env: {A: "1", PORT: 8000, DEBUG: false, EMPTY: ""}
    dir: tools
    notify: [ops, "https://hc.example/x"]
    enabled: ${CRON:-true}
    environments: prod-?
    process_types: worker
    lock: db
    lock_scope: environment
    grace: 2m
    on_owner_loss: rerun
    max_output: 10MB
    retry_on_loss: true
    on_claim_error: run
  - name: shell
    schedule: "@daily"
    command: |
      set -e
      echo "x: y" # not a comment
    catch_up: true
  - name: post
    schedule: "@every 90s"
    url: /tasks/x
    catch_up: false
`

func TestEveryKeyIsRead(t *testing.T) {
	tab := mustParse(t, "cron.yaml", everyKey)
	sameAgain(t, tab)
	j := tab.Jobs[0]
	got := fmt.Sprintf("%+v", plain(j))
	want := "[{Name:everything Line:0 Expr:15 30 2 * * mon-fri Source:<nil> Seconds:true Location:UTC Schedule:<nil> Command: Args:[python manage.py a b] URL: " +
		"Env:[A=1 PORT=8000 DEBUG=false EMPTY=] Dir:tools Timeout:26h0m0s Grace:2m0s MaxOutput:10000000 Notify:[ops https://hc.example/x] " +
		"Overlap:queue Retries:3 Backoff:45s Splay:5m0s CatchUp:1h30m0s Lock:db LockScope:environment On:one OnClaimError:run OnOwnerLoss:rerun RetryOnLoss:true " +
		"Enabled:${CRON:-true} Environments:[prod-?] ProcessTypes:[worker]} America/New_York 2027-03-29 02:30:15 -0400 EDT]"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if tab.Group != "${CRON_GROUP:-shop}" {
		t.Errorf("group is %q", tab.Group)
	}
	if sh := tab.Jobs[1]; sh.Grace != MinGrace || strings.Join(sh.ProcessTypes, " ") != "web clock" {
		t.Errorf("got %+v", sh)
	}
	if sh := tab.Jobs[1]; sh.Command != "set -e\necho \"x: y\" # not a comment\n" || sh.CatchUp != CatchUpAlways || sh.Environments[0] != "prod-*" {
		t.Errorf("got %+v", sh)
	}
	if post := tab.Jobs[2]; post.CatchUp != 0 || post.URL != "/tasks/x" || post.Location.String() != "Europe/Berlin" {
		t.Errorf("got %+v", post)
	}
}
