package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestEmptyFileIsTheDefault(t *testing.T) {
	for _, text := range []string{"", "\n", "# only a comment\n", "---\n", "app:\n", "metrics: {}\n"} {
		c, err := Parse("agent.yaml", []byte(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if want := Default(); !reflect.DeepEqual(c, want) {
			t.Errorf("%q: got %+v, want the default", text, c)
		}
	}
}

// everyKey is a file that says everything.
const everyKey = `
app: {dir: /srv/app, user: deploy, env_files: [.env, .env.local]}
socket: /run/x.sock
state_dir: /var/x
aws: {region: eu-west-1, cloudwatch_endpoint: 'http://127.0.0.1:1', s3_endpoint: 'http://127.0.0.1:2'}
metrics:
  namespace: CWAgent
  interval: 30s
  sample: 2s
  send: on
  dimensions: [[EnvironmentName], [EnvironmentName, InstanceId], []]
  per_instance: true
  disks: [/, /data]
  groups:
    - {name: web, port: 8000}
    - {name: celery, match: 'celery .*worker'}
cron: {file: jobs/cron.yaml, timezone: Europe/Berlin, claims: s3://b/p, limit: 3, group: shop, share_output: true}
health:
  listen: localhost:9000
  host: www.example.com
  headers: {X-A: b, X-Forwarded-Proto: https}
  target: unix:/run/puma.sock:/up
  timeout: 2s
  unknown: healthy
exec: {allow: [deploy], audit: full, idle: 2h, session: 0s, no_new_privileges: true}
notify: [{type: slack, url: 'https://hooks.example.com/x', on: [failed]}]
notify_cooldown: 5m
`

func TestEveryKeyIsRead(t *testing.T) {
	c, err := Parse("agent.yaml", []byte(everyKey))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.App = App{"/srv/app", "deploy", []string{".env", ".env.local"}}
	want.Socket, want.StateDir = "/run/x.sock", "/var/x"
	want.AWS = AWS{"eu-west-1", "http://127.0.0.1:1", "http://127.0.0.1:2"}
	want.Metrics = Metrics{Namespace: "CWAgent", Interval: 30 * time.Second, Sample: 2 * time.Second, Send: "on",
		Dimensions: [][]string{{"EnvironmentName"}, {"EnvironmentName", "InstanceId"}, {}}, PerInstance: true, Disks: []string{"/", "/data"},
		Groups: []Group{{Name: "web", Port: 8000}, {Name: "celery", Match: "celery .*worker"}}}
	want.Cron = Cron{"jobs/cron.yaml", "Europe/Berlin", "s3://b/p", 3, "shop", true}
	want.Health.Listen, want.Health.Host, want.Health.Target = "localhost:9000", "www.example.com", "unix:/run/puma.sock:/up"
	want.Health.Headers = map[string]string{"X-A": "b", "X-Forwarded-Proto": "https"}
	want.Health.Timeout, want.Health.Unknown = 2*time.Second, "healthy"
	want.Exec = Exec{[]string{"deploy"}, "full", 2 * time.Hour, 0, true}
	want.Notify = []Notify{{Type: "slack", URL: "https://hooks.example.com/x", On: []string{"failed"}}}
	want.Cooldown = 5 * time.Minute
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

// What cron.yaml can have agent.yaml has too: a byte order mark, lines of Windows, anchors, days.
func TestWhatBothFilesCanHave(t *testing.T) {
	c, err := Parse("a.yaml", []byte("\ufeffhealth:\r\n  timeout: 1s\r\nexec: {session: 1d12h}\r\n"+
		"metrics:\r\n  groups: [&g {name: a, user: any, match: x}, {<<: *g, name: b}]\r\n"))
	if err != nil || c.Health.Timeout != time.Second || c.Exec.Session != 36*time.Hour || len(c.Metrics.Groups) != 2 ||
		c.Metrics.Groups[1] != (Group{Name: "b", User: "any", Match: "x"}) {
		t.Errorf("%+v, %v", c.Metrics.Groups, err)
	}
}

// Each fault is reported with its place, and all of a file at once.
func TestFaults(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"unknown key", "metrics:\n  intervall: 60s\n", `a.yaml:2:3: unknown key "intervall"; did you mean interval?`},
		{"unknown top", "zebra: 1\n", `a.yaml:1:1: unknown key "zebra"; one of app, aws, cron, exec, health, metrics, notify, notify_cooldown, socket, state_dir`},
		{"wrong type", "metrics:\n  interval: [60]\n", `a.yaml:2:13: metrics.interval: expected a duration, have a list`},
		{"not a duration", "metrics: {interval: 60}\n", `a.yaml:1:21: metrics.interval "60" has no unit; such as 90s, 5m, 2h or 1d`},
		{"not a list", "exec: {allow: root}\n", `a.yaml:1:15: exec.allow: expected a list, have a text`},
		{"not a mapping", "app: /var/app\n", `a.yaml:1:6: app: expected keys and values, have a text`},
		{"public listener", "health:\n  listen: 0.0.0.0:8127\n", `a.yaml:2:11: health.listen: expected a loopback address such as 127.0.0.1:8127, have "0.0.0.0:8127": nginx stands before it`},
		{"a port that is none", "health:\n  listen: 127.0.0.1:99999\n", `a.yaml:2:11: health.listen: expected ADDRESS:PORT with a port to 65535, have "127.0.0.1:99999"`},
		{"a state directory by the working one", "state_dir: state\n", `a.yaml:1:12: state_dir: expected an absolute path, have "state"`},
		{"a socket by the working directory", "socket: a.sock\n", `a.yaml:1:9: socket: expected an absolute path, have "a.sock"`},
		{"a cron file elsewhere", "cron: {file: ../cron.yaml}\n", `a.yaml:1:14: cron.file: expected a path below the application's directory, have "../cron.yaml"`},
		{"the host's time zone", "cron: {timezone: Local}\n", `a.yaml:1:18: cron.timezone: unknown time zone "Local"`},
		{"unknown as a status", "health: {unknown: 200}\n", `a.yaml:1:19: health.unknown: expected unhealthy, healthy, have "200"`},
		{"twice", "socket: /a\nsocket: /b\n", `a.yaml:2:1: key "socket" stands here twice; first in line 1`},
		{"a truth for a text", "metrics: {send: true}\n", `a.yaml:1:17: metrics.send: expected text, have true or false; put it in quotes`},
		{"a text for a truth", "metrics: {per_instance: yes}\n", `a.yaml:1:25: metrics.per_instance: expected true or false, have a text`},
		{"a text for a number", "health: {failures: few}\n", `a.yaml:1:20: health.failures: expected a whole number, have "few"`},
		{"star", "notify:\n- {type: slack, url: 'https://x/'}\nmetrics:\n  groups:\n  - name: web\n    match: * worker\n", `a.yaml:6:12: a reference to an anchor that is not there; quote a value that begins with a star`},
		{"at sign", "app:\n  user: @deploy\n", `a.yaml:2:9: a value cannot begin with @ in YAML; quote all of it, and double each quote inside: user: '…'`},
		{"colon", "health:\n  host: a: b\n", `a.yaml:2:10: ": " inside a value without quotes makes it a mapping in YAML`},
		{"tab", "health:\n\thost: a\n", "a.yaml:2:1: a tab cannot indent YAML; use blanks"},
		{"reference", "app: {user: *planted-5c1e}\n", "a.yaml:1:13: a reference to an anchor that is not there; quote a value that begins with a star"},
		{"two documents", "socket: /a\n---\nsocket: /b\n", "a.yaml:3:1: a second YAML document begins here"},
		{"not text", "app: {user: caf\xe9}\n", "a.yaml:1:16: a character that is not text; save the file as UTF-8 text"},
		{"out of range", "health: {timeout: 1h}\n", "a.yaml:1:19: health.timeout: expected 100ms to 1m, have 1h0m0s"},
		{"syntax", "app: {dir: [}\n", `a.yaml:1:`},
		{"two", "cron: {timezone: Mars/Base}\nexec: {audit: all}\nx: 1\n", "a.yaml:3:1: unknown key \"x\""},
		{"secret address is no list", "notify: https://hooks.example.com/planted-5c1e\n", "a.yaml:1:9: notify: expected a list, have a text"},
		{"secret header is no map", "health: {headers: 'Authorization: planted-5c1e'}\n", "a.yaml:1:19: health.headers: expected keys and values, have a text"},
		{"not a mapping at all", "planted-5c1e\n", "a.yaml:1:1: expected keys and values, have a text"},
		{"secret kept", "notify: [{type: slak, url: hooks.example.com/planted-5c1e}]\n", "a.yaml:1:17: notify[0].type: expected slack, webhook, rollbar, checkin, have \"slak\""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := Parse("a.yaml", []byte(tc.text))
			var faults Faults
			if !errors.As(err, &faults) {
				t.Fatalf("got %v, want Faults", err)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got\n%v\nwant\n%s", err, tc.want)
			}
			if strings.Contains(err.Error(), "planted-5c1e") {
				t.Error("the fault shows a secret")
			}
			if !reflect.DeepEqual(c, Default()) {
				t.Error("a faulty file must leave the default configuration")
			}
		})
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	_, err := Parse("a.yaml", []byte("metrics:\n  interval: x\n  sample: y\nfoo: 1\nexec: {allow: 3}\n"))
	if got := strings.Count(err.Error(), "\n") + 1; got != 4 {
		t.Errorf("got %d faults, want 4:\n%v", got, err)
	}
	// A misspelt key must not hide that a value is out of range, here or in another part's eyes: each round of
	// mending is a deployment.
	_, err = Parse("a.yaml", []byte("foo: 1\ncron: {timezone: Mars/Base}\nnotify: [{type: slack, url: 'https://x/y'}]\n"),
		func(_ Config, fault func(key, format string, a ...any)) { fault("notify[0]", "nobody reads it") })
	if got := strings.Count(err.Error(), "\n") + 1; got != 3 {
		t.Errorf("got %d faults, want 3:\n%v", got, err)
	}
}

// A feature's check runs beside the others, and does not repeat a fault.
func TestChecksOfFeaturesAddFaults(t *testing.T) {
	check := func(c Config, fault func(key, format string, a ...any)) {
		fault("health.timeout", "too long")
		fault("metrics.dimensions", "expected one of %d", 3)
		fault("metrics.dimensions", "expected another")
	}
	_, err := Parse("a.yaml", []byte("health: {timeout: 1h}\nmetrics:\n  dimensions: []\n"), check)
	want := "a.yaml:1:19: health.timeout: expected 100ms to 1m, have 1h0m0s\n" +
		"a.yaml:3:15: metrics.dimensions: expected one of 3\na.yaml:3:15: metrics.dimensions: expected another"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestMissingFile(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "no.yaml")
	if _, err := Load(missing, false); err != nil {
		t.Errorf("an unnamed missing file: %v", err)
	}
	if _, err := Load(missing, true); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a named missing file: got %v, want not-exist", err)
	}
}

// FuzzParse: a faulty file changes nothing, and each fault has a place in it and one line to say.
func FuzzParse(f *testing.F) {
	f.Add([]byte(everyKey))
	for _, s := range []string{"", "a: b", "metrics: {interval: 60s}", "exec:\n  allow: [a, b]\n", "app: !!str x", "x: &a 1\ny: *a", "- 1", "? a\n: b", "health: {headers: {a: b}}", "<<: {a: 1}", "a: |\n  b",
		"app: {dir: x}\nmetrics:\n  interval: 1ns\n  groups: [{name: a}, {name: a, port: -1, unit: b, match: '('}]\nnotify: [{type: x}]\n",
		"health:\n  listen: 0.0.0.0:1\n  path: x\n  target: http://u:p@h/\n", "a: 1\n---\nb: 2", "app:\n\tdir: /x", "\"a\nb\": 1", "\"a\\nb\": 1", "app: [}", "exec: {allow: \"a\n  - b}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f.yaml", data)
		if err == nil {
			return
		}
		if !reflect.DeepEqual(c, Default()) {
			t.Error("faulty input changed the configuration")
		}
		lines := 1 + strings.Count(string(data), "\n") + strings.Count(string(data), "\r")
		for _, fault := range err.(Faults) {
			if fault.Line < 1 || fault.Line > lines || fault.Column < 1 || fault.Message == "" || strings.ContainsAny(fault.Message, "\r\n") {
				t.Errorf("fault %+v in a file of %d lines", fault, lines)
			}
		}
	})
}
