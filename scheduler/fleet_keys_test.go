package scheduler

import (
	"strings"
	"testing"
	"time"

	"beanstalk-agent/scheduler/yamlnode"
)

// One bundle makes an environment for each process type: a file that does not say so runs in the web one alone, and
// each job in the one it names.
func TestProcessTypesSayWhichEnvironmentRunsAJob(t *testing.T) {
	tab := mustParse(t, "cron.yaml", "cron:\n- {name: plain, schedule: '@daily', command: x}\n"+
		"- {name: jobs, schedule: '@daily', command: x, process_types: [worker, clock]}\n"+
		"- {name: web, schedule: '@daily', command: x, process_types: web}\n")
	runs := map[string]string{"": "plain web", "web": "plain web", "worker": "jobs", "clock": "jobs", "Web": "", "\x1b[31m": ""}
	for have, want := range runs {
		h := Host{Getenv: func(n string) (string, bool) { return have, n == "PROCESS_TYPE" && have != "" }}
		var got []string
		for _, j := range tab.Jobs {
			why := j.OffReason(h)
			if why == "" {
				got = append(got, j.Name)
			} else if !strings.Contains(why, "PROCESS_TYPE") || strings.ContainsFunc(why, yamlnode.IsCommand) {
				t.Errorf("%s is off where PROCESS_TYPE is %q: %q", j.Name, have, why)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("where PROCESS_TYPE is %q %q run, want %q", have, got, want)
		}
	}
}

// A worker whose environment cannot be read for a while is still a worker, and a web process is still one.
func TestUnreadEnvironmentKeepsAWorker(t *testing.T) {
	file := "cron:\n- {name: a, schedule: '*/10 * * * *', command: x}\n"
	for process, want := range map[string]string{"worker": "", "web": "10m0s a scheduled|20m0s a scheduled"} {
		unread := false
		cfg := Config{Host: func() Host {
			return Host{Getenv: func(n string) (string, bool) { return process, n == "PROCESS_TYPE" && !unread },
				Unread: func() bool { return unread }}
		}}
		inBubble(t, file, lasts(time.Second), cfg, func(r *rig) {
			r.after(5 * time.Minute)
			unread = true
			r.set(file)
			r.after(10 * time.Minute)
			unread = false
			r.set(file)
			r.after(10 * time.Minute)
			if want == "" {
				r.want()
			} else {
				r.want(strings.Split(want, "|")...)
			}
		})
	}
}

// Blue and green share a group by a variable; one that is not set is no group, and one that cannot be a name is an
// error that does not show it.
func TestGroupComesFromTheEnvironment(t *testing.T) {
	env := map[string]string{"GROUP": "shop", "SECRET": "a/b c", "LONG": strings.Repeat("n", 101), "EMPTY": ""}
	h := Host{Getenv: func(n string) (string, bool) { v, ok := env[n]; return v, ok }}
	for raw, want := range map[string]string{"": "", "shop": "shop", "${GROUP}": "shop", "${GROUP}-jobs": "shop-jobs", "${EMPTY}": "",
		"${NONE}": "", "${NONE:-other}": "other", "${SECRET}": "error", "${LONG}": "error"} {
		got, err := h.Group(raw)
		if err != nil {
			got = "error"
			if strings.Contains(err.Error(), "a/b") || strings.Contains(err.Error(), "nnn") {
				t.Errorf("%s: the value is shown: %v", raw, err)
			}
		}
		if got != want {
			t.Errorf("group %q is %q, want %q", raw, got, want)
		}
	}
	h.Unread = func() bool { return true }
	if _, err := h.Group("${GROUP}"); err == nil {
		t.Error("a group of an environment that cannot be read is taken for none")
	}
}

func TestFaultsOfTheFleetsKeys(t *testing.T) {
	job := func(keys string) string { return "cron:\n- {name: a, schedule: '@daily', command: x, " + keys + "}\n" }
	for text, want := range map[string]string{
		job("grace: 4s"):                           "2:52: grace 4s must be from 5s to 10m",
		job("grace: 11m"):                          "must be from 5s to 10m",
		job("grace: soon"):                         "is not a length of time",
		job("lock_scope: environment"):             "has a lock_scope and no lock",
		job("lock: a, lock_scope: world"):          `lock_scope "world" is not known`,
		job("on_owner_loss: retry"):                `on_owner_loss "retry" is not known`,
		job("process_types: [a b]"):                `process_types: "a b" is no process type`,
		job("process_types: []"):                   "process_types is an empty list",
		job("group: x"):                            `unknown key "group"`,
		"group: a/b\n" + job("lock: a"):            `1:8: group "a/b" contains a slash`,
		"group: $NAME\n" + job("lock: a"):          `group "$NAME" is not a reference`,
		"process_types: [web, '']\n" + job("env:"): `process_types: "" is no process type`,
	} {
		_, err := Parse("cron.yaml", []byte(text), ParseOptions{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot  %v\nwant %s", text, err, want)
		}
	}
}
