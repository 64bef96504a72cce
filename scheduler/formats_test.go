package scheduler

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestCrontabAsCronReadsIt(t *testing.T) {
	tab := mustParse(t, "deploy/crontab", strings.Join([]string{
		"# comment",
		"   # another",
		"PATH=/usr/bin:/bin",
		`GREETING = "hello  there" `,
		"0 5 * * * first   --with  blanks  ",
		"CRON_TZ=Europe/Berlin",
		"GREETING=bye",
		`@daily PGPASSWORD=x pg_dump "a b" > /tmp/x-$(date +\%F)`,
		"SHELL=/bin/bash",
		"\t*/5\t*  * * *\t[[ -e x ]] && python manage.py clear_sessions planted-5c1e",
		"*/5 * * * * python manage.py clear_sessions",
		"@every 90s tick\r",
		"0 0 * * fri-sun no-newline",
	}, "\n"))
	var got []string
	for _, j := range tab.Jobs {
		got = append(got, fmt.Sprintf("%d %s %s %s %q%q %q", j.Line, j.Name, j.Expr, j.Location, j.Command, j.Args, j.Env))
	}
	path, hello, bye, bash := "PATH=/usr/bin:/bin", "GREETING=hello  there", "GREETING=bye", "SHELL=/bin/bash"
	want := []string{
		fmt.Sprintf("5 first 0 5 * * * UTC %q[] %q", "first   --with  blanks", []string{path, hello}),
		fmt.Sprintf("8 pg_dump @daily Europe/Berlin %q[] %q", `PGPASSWORD=x pg_dump "a b" > /tmp/x-$(date +%F)`, []string{path, bye}),
		fmt.Sprintf("10 python-manage.py-clear_sessions */5 * * * * Europe/Berlin \"\"%q %q", []string{"/bin/bash", "-c", "[[ -e x ]] && python manage.py clear_sessions planted-5c1e"}, []string{path, bye, bash}),
		fmt.Sprintf("11 python-manage.py-clear_sessions-2 */5 * * * * Europe/Berlin \"\"%q %q", []string{"/bin/bash", "-c", "python manage.py clear_sessions"}, []string{path, bye, bash}),
		fmt.Sprintf("12 tick @every 90s Europe/Berlin \"\"%q %q", []string{"/bin/bash", "-c", "tick"}, []string{path, bye, bash}),
		fmt.Sprintf("13 no-newline 0 0 * * fri-sun Europe/Berlin \"\"%q %q", []string{"/bin/bash", "-c", "no-newline"}, []string{path, bye, bash}),
	}
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A job's name is in logs, metrics and notices, so no part of a value that the shell is to set may be in it.
func TestNoPartOfAValueIsAJobsName(t *testing.T) {
	tab := mustParse(t, "crontab", strings.Join([]string{
		`@daily TOKEN="with planted-5c1e blanks" ./run it`, `@hourly TOKEN='a planted-5c1e b' ./run it`, `@weekly TZ="UTC" A='b' ./run it`,
		`@daily TOKEN=a\ planted-five ./run`, `@daily TOKEN="a\"b planted-five c" ./run`, "@daily TOKEN=`echo planted-five x` ./run", `@daily TOKEN=$(echo planted-five) ./run`,
		`@daily TOKEN=${X:-a planted-five b} ./run`, `@daily TOKEN="a && planted-five b" ./run`, `@daily D=$(date) X=${Y} ./run it`, `@daily cd "/my dir" && A=b ./run it`,
	}, "\n"))
	for i, want := range []string{"job", "job-2", "run-it", "job-3", "job-4", "job-5", "job-6", "job-7", "job-8", "run-it-2", "run-it-3"} {
		if got := tab.Jobs[i].Name; got != want {
			t.Errorf("line %d: a name of %d bytes, want %q", i+1, len(got), want)
		}
	}
}

func TestCrontabFaults(t *testing.T) {
	got := faultLines(t, "crontab", strings.Join([]string{
		"0 5 * * * root /usr/bin/x",
		"0   25  * * *   x",
		"0 */5 * * * * x",
		"@reboot x",
		`0 5 * * * date +%Y`,
		"0 5 * * *",
		"CRON_TZ=Europe/Berln",
		"0 0 31 2 * x",
		"webapp",
	}, "\n"))
	want := []string{
		`1:11: "root" looks like the user column of /etc/crontab; drop it: commands run as the application's user`,
		`2:5: schedule "0 25 * * *": hour "25": expected numbers from 0 to 23`,
		`3:1: six time fields where five are expected; drop the first, or use cron.yaml with seconds: true`,
		`4:1: schedule "@reboot": @reboot is not a time; start it from a .platform/hooks/postdeploy script, or as a process in the Procfile`,
		`5:17: cron would make % a line break and the rest standard input, which is not supported; write \% for a percent sign, or use cron.yaml`,
		`6:1: there is no command after the schedule; a line is five fields or a macro, then the command`,
		`7:9: unknown time zone "Europe/Berln"; name it as the tz database does, such as Europe/Berlin or UTC`,
		`8:5: schedule "0 0 31 2 *" is never due: no such month has such a day`,
		`9:1: schedule "webapp" has 1 fields where 5 are expected; minute, hour, day of month, month, day of week`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Lines of a crontab are often cut at odd places; what was probably not meant is
// said, and the job runs.
func TestWarnings(t *testing.T) {
	tab := mustParse(t, "crontab", "MAILTO=ops@example.com\n*/90 * * * * x\n")
	var got []string
	for _, w := range tab.Warnings {
		got = append(got, w.String())
	}
	want := []string{
		"crontab:1:1: MAILTO has no effect: no mail is sent; see the key notify of cron.yaml",
		`crontab:2:1: schedule "*/90 * * * *": minute "*/90": the step is longer than the field, so it is due once in it; for a longer period use @every`,
	}
	if len(tab.Jobs) != 1 || !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// However the list of jobs is written, the same jobs come out, with their lines.
func TestYAMLShapes(t *testing.T) {
	want := []string{"a 0 5 * * * x", "b 0 6 * * * - y\n- name: no\n"}
	for name, text := range map[string]string{
		"indented": "cron:\n  - name: a\n    schedule: '0 5 * * *'\n    command: x\n\n  # between\n# at the margin\n  - name: b\n    schedule: 0 6 * * *\n    command: |\n      - y\n      - name: no\nversion: 1\n",
		"flush":    "version: 1\ncron:   # here\n- name: a\n  schedule: '0 5 * * *'\n  command: x\n-\n  name: b\n  schedule: 0 6 * * *\n  command: |\n    - y\n    - name: no\n",
		"flow":     "cron: [{name: a, schedule: '0 5 * * *', command: x}, {name: b, schedule: '0 6 * * *', command: \"- y\\n- name: no\\n\"}]\n",
		"json":     `{"version": 1, "cron": [{"name": "a", "schedule": "0 5 * * *", "command": "x"}, {"name": "b", "schedule": "0 6 * * *", "command": "- y\n- name: no\n"}]}`,
		"anchors":  "x-base: &base\n  command: x\n  schedule: '0 5 * * *'\ncron:\n- <<: *base\n  name: a\n- <<: [*base]\n  name: b\n  schedule: &s 0 6 * * *\n  command: \"- y\\n- name: no\\n\"\n",
		"alias":    "x-jobs: &jobs\n- {name: a, schedule: '0 5 * * *', command: x}\n- {name: b, schedule: '0 6 * * *', command: \"- y\\n- name: no\\n\"}\ncron: *jobs\n",
		"quoted":   "'cron':\n- {name: a, schedule: '0 5 * * *',\n   command: x}\n- name: b\n  schedule: '0 6 * *\n    *'\n  command: \"- y\\n\\\n    - name: no\\n\"\n",
		"document": "---\ncron:\r\n- {name: a, schedule: '0 5 * * *', command: x}\r\n- {name: b, schedule: '0 6 * * *', command: \"- y\\n- name: no\\n\"}\r\n",
		"hidden":   "cron:\n- {name: a, schedule: '0 5 * * *', command: x}\n- name: b\n  command: \"- y\\n\\\n- name: no\\n\"\n  schedule: '0 6 * * *'\n",
	} {
		tab, err := Parse("cron.yml", []byte(text), ParseOptions{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, j := range tab.Jobs {
			got = append(got, j.Name+" "+j.Expr+" "+j.Command)
			if line := strings.Split(text, "\n")[j.Line-1]; name == "indented" && !strings.Contains(line, "name: "+j.Name) {
				t.Errorf("%s: job %s is said to begin in line %d, %q", name, j.Name, j.Line, line)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestEmptyFilesAreEmptyTables(t *testing.T) {
	for _, text := range []string{"", "\n\n", "# nothing\n", "version: 1\n", "cron:\n", "cron: []\n", "version: 1\ncron:\n# - name: x\n", "\ufeff"} {
		if tab, err := Parse("cron.yaml", []byte(text), ParseOptions{}); err != nil || len(tab.Jobs) != 0 {
			t.Errorf("%q: %d jobs, %v", text, len(tab.Jobs), err)
		}
	}
	if tab, err := Parse("crontab", nil, ParseOptions{}); err != nil || len(tab.Jobs) != 0 {
		t.Errorf("empty crontab: %d jobs, %v", len(tab.Jobs), err)
	}
}

// The host can say that a command or a directory is not there; shell lines are asked
// about only where the first word is plainly a path.
func TestMissingCommandsAreFaults(t *testing.T) {
	missing := errors.New("no such file")
	opt := ParseOptions{
		CheckCommand: func(name string) error {
			if strings.Contains(name, "missing") {
				return missing
			}
			return nil
		},
		CheckDir: func(dir string) error {
			if dir == "gone" {
				return missing
			}
			return nil
		},
	}
	_, err := Parse("cron.yaml", []byte(`cron:
- {name: a, schedule: '@daily', command: [missing, x]}
- {name: b, schedule: '@daily', command: /usr/bin/missing --now}
- {name: c, schedule: '@daily', command: missing or not, dir: gone}
- {name: d, schedule: '@daily', command: '/opt/$V/missing x'}
- {name: e, schedule: '@daily', command: [python]}
`), opt)
	want := `cron.yaml:2:43: command "missing": no such file
cron.yaml:3:42: command "/usr/bin/missing": no such file
cron.yaml:4:63: dir "gone": no such file`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

// What a message or an excerpt's owner prints must not give away an environment's value.
func TestFaultsDoNotTellValues(t *testing.T) {
	for _, text := range []string{
		"cron:\n- {name: a, schedule: '@daily', command: x, env: {BAD NAME: planted-5c1e}}\n",
		"cron:\n- {name: a, schedule: '@daily', command: x, env: [planted-5c1e]}\n",
		"cron:\n- {name: a, schedule: '@daily', command: x, env: {A: [planted-5c1e]}}\n",
		"cron:\n- {name: a, schedule: '@daily', command: [x, {planted-5c1e: 1}]}\n",
	} {
		_, err := Parse("cron.yaml", []byte(text), ParseOptions{})
		if err == nil || strings.Contains(err.Error(), "planted-5c1e") {
			t.Errorf("%s gave %v", text, err)
		}
	}
	_, err := Parse("crontab", []byte("PW=planted-5c1e\n0 5 * * * root curl -u me:planted-5c1e x\n* * * * * * curl planted-5c1e %\n"), ParseOptions{})
	if err == nil || strings.Contains(err.Error(), "planted-5c1e") {
		t.Errorf("crontab gave %v", err)
	}
}
