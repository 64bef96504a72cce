package daemon

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"beanstalk-agent/agent/internal/config"
)

// What would keep the agent from starting, or from ever asking, is a fault of the
// file with its line. A password is not shown.
func TestHealthFaultsHaveTheirLine(t *testing.T) {
	for text, want := range map[string]string{
		`expect: "20"`:                              `a.yaml:2:11: health.expect: expected status "20"`,
		`expect: ""`:                                `a.yaml:2:11: health.expect:`,
		`headers: {Host: a}`:                        `health.headers: health header "Host": set health.host instead`,
		`headers: {X: "T0KEN\n"}`:                   `health.headers: health header "X": its value holds a control character`,
		`host: https://www.example.com`:             `a.yaml:2:9: health.host: health host: '/' cannot be part`,
		`path: "/up?deep=1"`:                        `a.yaml:2:9: health.path: expected a path that begins with a slash, without a query`,
		`method: POST`:                              `a.yaml:2:11: health.method: expected GET or HEAD, have "POST"`,
		`target: ftp://u:T0KEN@x/`:                  `a.yaml:2:11: health.target: expected an address without user and password`,
		`host: exämple`:                             `a.yaml:2:9: health.host: health host`,
		`target: https://127.0.0.1/`:                `a.yaml:2:11: health.target: health target "https://127.0.0.1/": want http://`,
		`target: http://u:T0KEN@127.0.0.1/`:         `a.yaml:2:11: health.target: expected an address without user and password`,
		`target: http://u:T0/KEN@127.0.0.1/`:        `a.yaml:2:11: health.target: expected`,
		`target: "unix:/run/a.sock:/a b"`:           `a.yaml:2:11: health.target: health target "unix:/run/a.sock:/a b"`,
		`headers: {Authorization: Bearer}`:          "",
		`host: "${ALLOWED_HOSTS}"`:                  "",
		`host: ""`:                                  "",
		`{expect: "200-299,401", unknown: healthy}`: "",
	} {
		section := "health:\n  " + text
		if strings.HasPrefix(text, "{") {
			section = "health: " + text
		}
		_, err := config.Parse("a.yaml", []byte(section+"\n"), Check)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if (want == "") != (got == "") || !strings.Contains(got, want) || strings.Contains(got, "KEN") {
			t.Errorf("%s: got %q, want %q in it", text, got, want)
		}
	}
}

// The page that lists the keys with their defaults is right.
func TestHealthPageShowsTheDefaults(t *testing.T) {
	page, err := os.ReadFile("../../../packaging/docs/health-checks.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "```yaml\n")
	block, _, _ = strings.Cut(block, "```")
	got, err := config.Parse("page", []byte(block), Check)
	if err != nil || !reflect.DeepEqual(got, config.Default()) {
		t.Errorf("the page says\n%+v\nthe defaults are\n%+v\n%v", got.Health, config.Default().Health, err)
	}
	keys := reflect.TypeFor[config.Health]()
	for i := range keys.NumField() {
		if name := keys.Field(i).Tag.Get("yaml"); !strings.Contains(block, "\n  "+name+": ") {
			t.Errorf("the page does not list %s", name)
		}
	}
}

// What keeps an agent from starting, or every slot from running, is a fault of the file with its line: config check and
// the installer's preflight passed it, and then the deployment stopped the agent.
func TestCronAndNoticeFaultsHaveTheirLine(t *testing.T) {
	for text, want := range map[string]string{
		"cron:\n  claims: s3://My_Bucket":                             `a.yaml:2:11: cron.claims: read claim store "s3://My_Bucket"`,
		"cron: {claims: 's3://b/../p'}":                               `a.yaml:1:16: cron.claims: read claim store`,
		"cron: {claims: 's3://bucket/a/b'}":                           "",
		"notify:\n- {type: slack}":                                    `a.yaml:2:3: notify[0].url: is missing`,
		"notify:\n- {type: slack, url: hooks.example/T0KEN}":          `a.yaml:2:22: notify[0].url: is not an http:// or https:// address`,
		"notify:\n- {type: rollbar}":                                  `notify[0].token: (post_server_item) is missing`,
		"notify:\n- {type: slack, url: 'https://x/', on: [faled]}":    `notify[0].on: "faled": want started,`,
		"notify:\n- {type: slack, url: 'https://x/', jobs: ['[']}":    `notify[0].jobs: pattern "[": syntax error`,
		"notify:\n- {type: webhook, url: '${HOOK}', on: [recovered]}": "",
	} {
		_, err := config.Parse("a.yaml", []byte(text+"\n"), Check)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if (want == "") != (got == "") || !strings.Contains(got, want) || strings.Contains(got, "T0KEN") {
			t.Errorf("%s: got %q, want %q in it", text, got, want)
		}
	}
}

// What run refuses check refuses, with its line: these were good for config check, and the agent did not start.
func TestWhatKeepsTheAgentFromStartingHasItsLine(t *testing.T) {
	for text, want := range map[string]string{
		"aws: {region: EU West}":                                                           `a.yaml:1:15: aws.region: read region "EU West": not an AWS region, such as eu-west-1`,
		"aws:\n  cloudwatch_endpoint: localhost":                                           `a.yaml:2:24: aws.cloudwatch_endpoint: read CloudWatch endpoint: not an absolute http or https URL`,
		"aws: {s3_endpoint: 'ftp://u:T0KEN@host/'}":                                        `a.yaml:1:20: aws.s3_endpoint: read S3 endpoint: not an absolute http or https URL`,
		"socket: /" + strings.Repeat("x", 120):                                             `a.yaml:1:9: socket: the socket's path "/xxx`,
		"aws: {region: eu-west-1, s3_endpoint: 'http://127.0.0.1:1'}\nsocket: /run/a.sock": "",
	} {
		_, err := config.Parse("a.yaml", []byte(text+"\n"), Check)
		if (err != nil) != (want != "") || err != nil && !strings.HasPrefix(err.Error(), want) || strings.Contains(fmt.Sprint(err), "T0KEN") {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// A name that is never sent would leave an alarm without data for ever.
func TestSendOnlyNamesWhatIsSent(t *testing.T) {
	for text, want := range map[string]string{
		"[mem_used_percent, cron_failed]":  "",
		"[]":                               "",
		"[mem_used_percent, mem_use_perc]": `metrics.send_only[1]: no metric "mem_use_perc" is sent`,
		"[Mem_Used_Percent]":               "did you mean mem_used_percent?",
		"[mem_total]":                      `metrics.send_only[0]: no metric "mem_total" is sent`, // kept on the instance
	} {
		_, err := config.Parse("a.yaml", []byte("metrics:\n  send_only: "+text+"\n"), Check)
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
