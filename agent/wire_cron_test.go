package main

import (
	"strings"
	"testing"

	"beanstalk-agent/agent/internal/config"
)

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
		_, err := config.Parse("a.yaml", []byte(text+"\n"), checkConfig)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if (want == "") != (got == "") || !strings.Contains(got, want) || strings.Contains(got, "T0KEN") {
			t.Errorf("%s: got %q, want %q in it", text, got, want)
		}
	}
}
