package daemon

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/packaging/testbed/planted"
)

// systemd hears that the agent is ready when its clients are answered, not when it has been made.
func TestReadyIsAnnouncedOnceClientsAreAnswered(t *testing.T) {
	asked, readyAfter := 0, 0
	alive := func(context.Context) error {
		if asked++; asked < 3 {
			return errors.New("not yet")
		}
		return nil
	}
	if err := announce(t.Context(), alive, func() { readyAfter = asked }); err != nil || readyAfter != 3 {
		t.Errorf("%v; ready after %d questions", err, readyAfter)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	never := func() { t.Error("an agent that is stopped first is not ready") }
	if err := announce(ctx, func(context.Context) error { return errors.New("no") }, never); err != nil {
		t.Error(err)
	}
}

// What the start refuses `agent config check` refuses, with its line: the installer relies on it. And what it passes
// can be started.
func TestCheckAndStartRefuseTheSame(t *testing.T) {
	for text, valid := range map[string]bool{
		"":                                 true,
		"notify: [{type: slack, name: a}]": false, // no url
		"notify: [{type: slack, name: a, url: 'https://hooks.example/x', on: [faild]}]":  false,
		"notify: [{type: slack, name: a, url: 'https://hooks.example/x', on: [failed]}]": true,
		"metrics: {dimensions: []}":               false,
		"metrics: {dimensions: [[InstanceId]]}":   true,
		"cron: {claims: 's3://My_Bucket'}":        false,
		"cron: {claims: 's3://my-bucket/prefix'}": true,
		"cron: {timezone: Mars/Olympus}":          false,
		"health: {expect: '20'}":                  false,
		"health: {headers: {Host: a}}":            false,
	} {
		cfg, err := config.Parse("agent.yaml", []byte(text), Check)
		if (err == nil) != valid {
			t.Errorf("%s: config check: %v", text, err)
		}
		if err != nil {
			continue
		}
		dir := t.TempDir()
		cfg.Socket, cfg.StateDir, cfg.App.Dir = filepath.Join(dir, "s"), dir, dir
		ln, err := Options{}.listen(cfg, planted.Log(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := build(t.Context(), cfg, nil, ln, planted.Log(t)); err != nil {
			t.Errorf("%s: the start: %v", text, err)
		}
		ln.Close()
	}
}
