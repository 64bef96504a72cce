package scheduler

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// What people write who come from another scheduler is one fault, and says what to write instead.
func TestOtherSchedulersAreNamed(t *testing.T) {
	for expr, want := range map[string]string{
		"Every 10 minutes":        "as Heroku Scheduler says it; write */10 * * * *",
		"Hourly at :30":           "as Heroku Scheduler says it; write 30 * * * *",
		"Hourly at :00":           "write 0 * * * *",
		"Daily at 2:30 AM UTC":    "write 30 2 * * *",
		"Daily at 12:00 AM UTC":   "write 0 0 * * *",
		"Daily at 12:30 PM UTC":   "write 30 12 * * *",
		"rate(10 minutes)":        "an expression of EventBridge; write @every 10m",
		"rate(1 day)":             "write @every 1d",
		"rate(5 fortnights)":      "write minute, hour",
		"cron(0 10 * * ? *)":      "an expression of EventBridge; write 0 10 * * *",
		"cron(15 10 ? * 6L 2026)": "write minute, hour",
		"cron(0 10 ? * 2 *)":      "write minute, hour", // Monday there
		"H 3 * * *":               "as Jenkins has it",
		"H/15 * * * *":            "as Jenkins has it",
		"0~30 3 * * *":            "a random time",
		"0 3 L * *":               "as Quartz has it",
		"0 3 15W * *":             "as Quartz has it",
		"0 3 * * 1#2":             "as Quartz has it",
		"0 0 3 ? * 6L":            "as Quartz has it",
		"0/30 0/1 * 1/1 * ? *":    "as Quartz has it, with seconds before and a year after the five fields; write 0/1 * 1/1 * *",
		"at(2026-01-01T00:00:00)": "an expression of EventBridge; write minute, hour",

		"every 24 hours":                   "as App Engine's cron.yaml says it; write 0 0 * * *",
		"every 12 hours synchronized":      "write 0 */12 * * *",
		"every 36 hours":                   "write @every 36h",
		"every 10 mins":                    "write */10 * * * *",
		"every 7 minutes":                  "as App Engine's cron.yaml says it; write @every 7m",
		"every day 00:00":                  "as App Engine's cron.yaml says it; write 0 0 * * *",
		"every monday 09:05":               "write 5 9 * * mon",
		"every tuesday,sat 23:00":          "write 0 23 * * tue,sat",
		"every weekday 09:00":              "write minute, hour", // no word of theirs, and none of ours
		"1st monday of month 17:00":        "as App Engine's cron.yaml says it; write minute, hour",
		"2nd,third mon,wed of march 17:00": "as App Engine's cron.yaml says it",
		"daily":                            "a macro without its first letter; write @daily",
		"Weekly":                           "write @weekly",
		"The job is not enabled":           "is no schedule; minute, hour",
		"1 5 cron.daily nice run-parts":    "is no schedule", // of an anacrontab
		"0 3\u00a0* * *":                   "a no-break space (U+00A0)",
		"“0 3 * * *”":                      "a curved quote (U+201C)",
		"0 3 * * 1–5":                      "an en dash (U+2013)",
	} {
		_, wrongs, _ := parseExpr(when{expr: expr, loc: time.UTC})
		if len(wrongs) != 1 || !strings.Contains(wrongs[0].message+"; "+wrongs[0].hint, want) {
			t.Errorf("%q: %+v, want one that says %q", expr, wrongs, want)
		}
	}
}

// Each of these lines was taken for something else than what cron or its writer takes it for: silently, or with up to
// seven faults.
func TestLinesThatAreReadOtherwise(t *testing.T) {
	for line, want := range map[string][]string{
		"TZ=Europe/Berlin 0 3 * * * python manage.py x": {`1:4: a job after TZ= on its line, where cron reads a value; write the variable on a line of its own above`},
		"A=b C=d @daily python manage.py x":             {`1:3: a job after A= on its line, where cron reads a value; write the variable on a line of its own above`},
		`0 3 * * * python \` + "\n  manage.py x":        {`1:18: a crontab has no continued lines; write it on one line, or use cron.yaml`},
		"export FOO=bar":                                {`1:1: a crontab is no shell script: export is no schedule; write NAME=value`},
		"Daily at 2:30 AM UTC python manage.py x":       {`1:1: schedule "Daily at 2:30 AM UTC" is as Heroku Scheduler says it; write 30 2 * * *`},
		"0 3 * * *\u00a0python manage.py x":             {`1:10: schedule "0 3 * * *\u00a0python" has a no-break space (U+00A0); type it anew`},
		"0 3 * * * \u200bpython manage.py x":            {`1:11: the command begins with a zero width space (U+200B); type it anew`},
		"0 3 * * * “python manage.py x”":                {`1:11: the command begins with a curved quote (U+201C); type it anew`},
		"0 9 * * * -x y":                                {`1:11: a command cannot begin with a hyphen, which is an option of cron's`},
		"*/5 * * * * ? x":                               {`1:1: six time fields where five are expected; drop the first, or use cron.yaml with seconds: true`},
		"// nightly":                                    {`1:1: a comment of another language; begin it with #`},
		"0 3 * * * x\n  ; nightly":                      {`2:3: a comment of another language; begin it with #`},
		"@monthly 45 cron.monthly nice x":               {`1:10: a time field after the macro @monthly; an anacrontab is not read; a macro stands for all five fields: drop it, or what follows`},
		"@daily * * * * x":                              {`1:8: a time field after the macro @daily; an anacrontab is not read; a macro stands for all five fields: drop it, or what follows`},
		"*/5 * * * * ann /home/ann/x.sh":                {`1:13: "ann" looks like the user column of /etc/crontab; drop it: commands run as the application's user`},
		`A="b" c` + "\n@daily x":                        {`1:3: the value of A does not end with the quote that it begins with; quote all of it, or nothing`},
		"A='b\n@daily x":                                {`1:3: the value of A does not end with the quote that it begins with; quote all of it, or nothing`},
		`A="b" and "c"` + "\n@daily x":                  {`1:3: the value of A does not end with the quote that it begins with; quote all of it, or nothing`},
		"0 3 * * * root /usr/bin/x":                     {`1:11: "root" looks like the user column of /etc/crontab; drop it: commands run as the application's user`},
	} {
		if got := faultLines(t, "crontab", line); !slices.Equal(got, want) {
			t.Errorf("%q:\n%q, want\n%q", line, got, want)
		}
	}
}

// Jobs that were refused, or that were read without a word about what cron makes of them.
func TestJobsWithANote(t *testing.T) {
	for line, want := range map[string]string{ // "": no note
		"0 5 * * * nginx -s reload":             "",
		"0 5 * * * apache -k graceful":          "",
		"0 5 * * * deploy production":           `"deploy" is taken for the program`,
		"0 5 * * * nginx /usr/bin/x":            `"nginx" is taken for the program`,
		"PATH=$PATH:/opt/tools\n@daily x":       "the jobs below get PATH as it is written",
		"PATH=/usr/bin:/bin\n@daily x":          "PATH takes the place of the application's",
		"APP=$HOME/x\n@daily x":                 "nothing is expanded in a crontab",
		"A=`date`\n@daily x":                    "nothing is expanded in a crontab",
		"HOME=~/app\n@daily x":                  "nothing is expanded in a crontab",
		"A=a~b\n@daily x":                       "",
		"0 9 * * * -n x -n":                     "-n before a command has no effect",
		"NOTE=run at 0 3 * * *\n@daily x":       "",
		`NOTE="a 0 3 * * * b c"` + "\n@daily x": "",
		"@every 1d x":                           "",
		"0 9 1-7 * 0 x":                         "also on each such weekday, as in crontab(5); for the first Sunday",
		"0 9 1-7 * */7 x":                       "only if it is such a weekday too",
		"0 9 */2 * 1 x":                         "only if it is such a weekday too",
		"0 9 * * 1-5 x":                         "",
		"0 9 1-7 * * x":                         "",
		"0 9 1-31 * 1 x":                        "due every day",
		"0 9 1 * 0-6 x":                         "due every day",
		"0 9 */1 * 1 x":                         "",
		"0 3 * * * echo '10\u00a0€'":            "the command has a no-break space (U+00A0)",
		"0 3 * * * echo – done":                 "",
	} {
		tab := mustParse(t, "crontab", line)
		var got []string
		for _, w := range tab.Warnings {
			got = append(got, w.String())
		}
		all := strings.Join(got, "\n")
		if len(tab.Jobs) != 1 || !strings.Contains(all, want) || want == "" && all != "" {
			t.Errorf("%q: %d jobs, %q, want %q", line, len(tab.Jobs), all, want)
		}
	}
}

// Names of variables that cron takes; a job whose line has "=" further on is no variable.
func TestVariablesOfACrontab(t *testing.T) {
	tab := mustParse(t, "crontab", "A-B=1\n\"C\" = 'two words'\nd.e=\"x\"\nF=it's\n* * * * * G=1 x\n")
	if got := strings.Join(tab.Jobs[0].Env, "|"); got != "A-B=1|C=two words|d.e=x|F=it's" || tab.Jobs[0].Command != "G=1 x" {
		t.Errorf("%s, %q", got, tab.Jobs[0].Command)
	}
}

// A file of another program, or with another name for the list, was good and had no jobs, without a word but on its keys.
func TestFilesWithoutAListOfJobs(t *testing.T) {
	for text, want := range map[string]string{
		"apiVersion: batch/v1\nkind: CronJob\n":          "1:1: the file has no key cron; the jobs are a list below the key cron",
		"version: 1\njobs:\n- {name: a, url: /a}\n":      "2:1: the file has no key cron",
		"foo:\n  minute: '*/5'\nbar: 1\n":                "1:1: the file has no key cron",
		"version: 1\ncrons:\n- name: a\n":                "did you mean cron?",
		"version: 1\n":                                   "",
		"":                                               "",
		"version: 1\nowner: ops\ncron:\n":                "",
		"version: 1\nx-a: &a {}\n":                       "",
		"version: 1\ncron:\n — name: a\n   url: /a\n":    "3:2: the line begins with an em dash (U+2014); type it anew",
		"— name: a\n":                                    `1:1: key "— name" has an em dash (U+2014); type it anew`,
		"version: 1\ncron:\n– name: a\n  url: /a\n":      "3:1: the line begins with an en dash (U+2013)",
		"version: 1\ncron:\n• name: a\n":                 "the character U+2022",
		"version: 1\ncron:\n- name: a\n\u00a0 url: /a\n": "a no-break space (U+00A0)",
	} {
		_, err := Parse("cron.yaml", []byte(text), ParseOptions{})
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// A job with a url is due as on a worker tier, whose daemon takes the first five of six words and robfig's rule for days.
func TestURLJobsAreDueAsTheDaemonHasThem(t *testing.T) {
	parse := func(schedule string) (Table, time.Time) {
		tab := mustParse(t, "cron.yaml", "version: 1\ncron:\n- {name: a, url: /a, schedule: '"+schedule+"'}\n")
		return tab, tab.Jobs[0].Schedule.Next(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC))
	}
	tab, next := parse("*/30 * * * * *")
	if got := next.Format(time.DateTime); got != "2026-01-05 09:30:00" || len(tab.Warnings) != 1 ||
		!strings.Contains(tab.Warnings[0].String(), "ignores a sixth field") {
		t.Errorf("six words: %s, %v", got, tab.Warnings)
	}
	if _, next = parse("0 9 */2 * 1"); next.Format(time.DateOnly) != "2026-01-07" {
		t.Errorf("both fields of days: %s, want each odd day and each Monday", next)
	}
}

// A faulty job is left out and the others are there; a fault of more than one job leaves nothing to take.
func TestFaultyJobsAreLeftOut(t *testing.T) {
	const head, good = "version: 1\ncron:\n", "- {name: a, schedule: '0 5 * * *', command: x}\n"
	for text, want := range map[string]int{ // how many jobs are left
		head + good + "- {name: b, schedule: '0 25 * * *', command: y}\n":             1,
		head + good + "- {name: b, schedul: '0 5 * * *', command: y}\n":               1,
		head + good + "- {name: a, schedule: '0 6 * * *', command: y}\n":              1,
		head + good + "- {name: b, schedule: '0 5 * * *'}\n" + "- just a text\n":      1,
		head + good + "- name: b\n  schedule: * * * * *\n  command: y\n":              0, // not YAML
		"timezone: Mars/Base\n" + head + good:                                         0,
		"environment: [x]\n" + head + good:                                            0,
		"version: 2\ncron:\n" + good:                                                  0,
		head + strings.Repeat("- {name: b, schedule: '0 25 * * *', command: y}\n", 2): 0,
	} {
		tab, err := Parse("cron.yaml", []byte(text), ParseOptions{})
		if err == nil || len(tab.Jobs) != want || tab.Partial != (want > 0 || strings.Count(text, "25 *") == 2) {
			t.Errorf("%s%d jobs, partial %v, %v; want %d", text, len(tab.Jobs), tab.Partial, err, want)
		}
	}
	tab, err := Parse("crontab", []byte("0 5 * * * x\n0 25 * * * y\nTZ=UTC 0 3 * * * z\n"), ParseOptions{})
	if err == nil || len(tab.Jobs) != 1 || !tab.Partial {
		t.Errorf("crontab: %d jobs, %v", len(tab.Jobs), err)
	}
	if tab, _ = Parse("crontab", []byte("CRON_TZ=Mars/Base\n0 5 * * * x\n"), ParseOptions{}); tab.Partial || len(tab.Jobs) > 0 {
		t.Errorf("a zone that is not known: %+v", tab)
	}
}

// Keys of others are no fault where others read the file too, unless one of ours may have been meant.
func TestKeysOfOthersAreNoFault(t *testing.T) {
	for text, want := range map[string]string{
		"description: jobs\nversion: 1\ncron:\n- {name: a, url: /a, schedule: '0 5 * * *', description: x}\n": "",
		"version: 1\ncron:\n- {name: a, url: /a, schedule: '0 5 * * *', time_out: 5m}\n":                      "did you mean timeout?",
		"version: 1\ntime_zone: UTC\ncron:\n- {name: a, url: /a, schedule: '0 5 * * *'}\n":                    "did you mean timezone?",
		"version: 1\ncron:\n- {name: a, command: x, schedule: '0 5 * * *', description: x}\n":                 "unknown key",
	} {
		tab, err := Parse("cron.yaml", []byte(text), ParseOptions{})
		if want == "" && (err != nil || len(tab.Jobs) != 1 || len(tab.Warnings) != 2) {
			t.Errorf("%s%+v, %v", text, tab, err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s%v, want %q", text, err, want)
		}
	}
}

// Other schedulers' words for a key are known.
func TestOthersKeysAreKnown(t *testing.T) {
	for key, want := range map[string]string{"path": "did you mean url?", "cmd": "did you mean command?", "Run": "did you mean command?",
		"tz": "did you mean timezone?", "nmae": "did you mean name?", "colour": "one of backoff, catch_up, command"} {
		_, err := Parse("cron.yaml", []byte("cron:\n- {name: a, schedule: '@daily', command: x, "+key+": y}\n"), ParseOptions{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", key, err, want)
		}
	}
}

// What follows a # is lost: with a blank after it that is meant.
func TestACommentThatMayBeOfTheCommandIsNoted(t *testing.T) {
	for command, want := range map[string]bool{"echo #5": true, "curl http://h/ #top": true, "x # nightly": false, "x ##": false,
		"'echo #5'": false, "x#5": false, "|\n    echo #5": false} {
		tab := mustParse(t, "cron.yaml", "cron:\n- name: a\n  schedule: '@daily'\n  command: "+command+"\n")
		if got := strings.Contains(tab.Warnings.Error(), "a comment begins here"); got != want {
			t.Errorf("%s: %v, want %v", command, tab.Warnings, want)
		}
	}
}

// What YAML takes for something else is said by the value and not by one spelling of its line.
func TestValuesThatNeedQuotes(t *testing.T) {
	for line, want := range map[string]string{
		"schedule:  */5 * * * *":           `quote it: schedule: "*/5 * * * *"`,
		"schedule: @daily":                 `quote it: schedule: "@daily"`,
		"schedule: *":                      "is a reference",
		`command: "python" manage.py x`:    "goes on after the quotes",
		"command: echo a: b":               "makes it a mapping",
		"command: 'it' && echo planted-5c": "goes on after the quotes",
		"command: `date`":                  "cannot begin with `",
		"schedule: */5 * * * *  # five":    `quote it: schedule: "*/5 * * * *"`,
		"command: 'it's'":                  "goes on after the quotes",
		`command: "a" && "planted-5c"`:     "goes on after the quotes",
		`command: "a \" b" c`:              "goes on after the quotes",
		`schedule:"0 5 * * *"`:             "a blank is missing after the colon",
		"command:python x.py":              "a blank is missing after the colon",
		"command: [echo, *]":               "a value cannot begin with * in YAML; put it in quotes",
		"command: {{ planted-5c }}":        "put it in quotes",
		"command: {x}":                     "command: expected text, have keys and values; put it in quotes",
	} {
		_, err := Parse("cron.yaml", []byte("version: 1\ncron:\n- name: a\n  "+line+"\n  url: /a\n"), ParseOptions{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "planted") {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

// A file that the worker tier's own daemon would refuse fails a deployment there.
func TestWhatTheWorkersDaemonRefusesIsNoted(t *testing.T) {
	for schedule, want := range map[string]string{
		"0 5 ? * *": `refuses "?"`, "5/20 * * * *": `refuses "5/20"`, "*/20 * * * *": "", "5-59/20 * * * *": ""} {
		for version, missing := range map[string]string{"version: 1\n": "", "": "there is no version: 1"} {
			tab := mustParse(t, "cron.yaml", version+"cron:\n- {name: a, url: /a, schedule: '"+schedule+"'}\n- {name: b, url: /b, schedule: '0 5 * * *'}\n")
			all := tab.Warnings.Error()
			if !strings.Contains(all, want) || !strings.Contains(all, missing) || (want == "" && missing == "") != (all == "") {
				t.Errorf("%s%s: %q, want %q and %q", version, schedule, all, want, missing)
			}
		}
	}
}
