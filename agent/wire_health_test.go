package main

import (
	"testing"

	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/health"
)

// The first entry that is one host, in each form in which such a list is written.
func TestFirstHost(t *testing.T) {
	for list, want := range map[string]string{
		"www.example.com":                     "www.example.com",
		" www.example.com ":                   "www.example.com",
		".example.com,*,www.example.com":      "www.example.com",
		"localhost 127.0.0.1":                 "localhost",
		`["www.example.com", "b.example"]`:    "www.example.com",
		"['.example.com','www.example.com']":  "www.example.com",
		"www.example.com:8443;b.example":      "www.example.com:8443",
		"[::1],www.example.com":               "[::1]",
		"https://www.example.com/, b.example": "b.example",
		"":                                    "",
		"*":                                   "",
		".example.com":                        "",
		"https://www.example.com/":            "",
		"[]":                                  "",
	} {
		if got := firstHost(list); got != want {
			t.Errorf("%q: got %q, want %q", list, got, want)
		}
	}
}

// A configured target's origin is what url: jobs post to and what is put before a path.
func TestOriginOfTargets(t *testing.T) {
	for target, want := range map[string]string{
		"http://127.0.0.1:8000/health/": "http://127.0.0.1:8000",
		"http://localhost":              "http://localhost:80",
		"unix:/run/app.sock:/up":        "unix:/run/app.sock:",
		"unix:/run/app.sock":            "unix:/run/app.sock:",
	} {
		got := origin(config.Config{Health: config.Health{Target: target}}, nil, nil)
		if got != want {
			t.Errorf("%s: got %q, want %q", target, got, want)
		}
		if _, err := health.ParseTarget(got + "/up"); err != nil {
			t.Error(err)
		}
	}
}
