package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// compile writes .config files and compiles them.
func compile(t *testing.T, leader bool, files map[string]string) Metadata {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m, err := Compile(dir, leader)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// carry runs a set and returns what the commands printed.
func carry(t *testing.T, m Metadata, set string) (string, error) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	i := Init{Log: log.New(io.Discard, "", 0), Output: out}
	runErr := i.Run(m, set)
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text), runErr
}

// inTemp lets a test's commands and files live in a directory of their own.
func inTemp(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	return dir
}

func TestFilesAreCompiledInOrderOfTheirNames(t *testing.T) {
	m := compile(t, true, map[string]string{
		"02.config": "commands: {a: {command: echo two}}\n",
		"01.config": "commands: {a: {command: echo one}}\ncontainer_commands: {a: {command: echo later}}\n",
	})
	out, err := carry(t, m, preBuild)
	if err != nil || strings.Index(out, "one") > strings.Index(out, "two") || strings.Contains(out, "later") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := carry(t, m, postBuild); err != nil || !strings.Contains(out, "later") {
		t.Errorf("container commands: %v\n%s", err, out)
	}
}

func TestFileWithAnUnknownKeyIsIgnoredWhole(t *testing.T) {
	m := compile(t, true, map[string]string{"01.config": "command: {}\ncommands: {a: {command: echo one}}\n"})
	if len(m.Warnings) != 1 || len(m.ConfigSets[preBuild]) != 0 {
		t.Errorf("got %+v", m)
	}
}

func TestLeaderOnlyIsForTheLeader(t *testing.T) {
	files := map[string]string{"01.config": "container_commands: {a: {command: echo led, leader_only: true}}\n"}
	for _, leader := range []bool{true, false} {
		out, err := carry(t, compile(t, leader, files), postBuild)
		if err != nil || strings.Contains(out, "led") != leader {
			t.Errorf("leader %v: %v\n%s", leader, err, out)
		}
	}
}

func TestCommandsSortAsStringsAndStopAtTheFirstFailure(t *testing.T) {
	inTemp(t)
	m := compile(t, true, map[string]string{"01.config": `commands:
  "9": {command: echo nine}
  "10": {command: echo ten}
  "8": {command: "false"}
`})
	out, err := carry(t, m, preBuild)
	if err == nil || !strings.Contains(out, "ten") || strings.Contains(out, "nine") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestCommandDetails(t *testing.T) {
	inTemp(t)
	t.Setenv("INHERITED", "yes")
	for name, c := range map[string]struct {
		command Command
		want    string
		fails   bool
	}{
		"shell":                      {Command{Command: "echo $INHERITED"}, "yes\n", false},
		"list":                       {Command{Command: []any{"echo", "$INHERITED"}}, "$INHERITED\n", false},
		"env replaces":               {Command{Command: "echo ${INHERITED:-no} $X", Env: map[string]string{"X": "1"}}, "no 1\n", false},
		"test skips":                 {Command{Command: "echo ran", Test: "false"}, "", false},
		"bash in test skips":         {Command{Command: "echo ran", Test: "[[ a = a ]] && unknown"}, "", false},
		"ignored failure":            {Command{Command: "false", IgnoreErrors: "yes"}, "", false},
		"cwd missing, never ignored": {Command{Command: "true", Cwd: "/no/such", IgnoreErrors: true}, "", true},
	} {
		m := Metadata{map[string][]string{preBuild: {"x"}}, map[string]Config{"x": {Commands: map[string]Command{"c": c.command}}}, nil}
		out, err := carry(t, m, preBuild)
		_, out, _ = strings.Cut(out, "\n")
		if out != c.want || (err != nil) != c.fails {
			t.Errorf("%s: got %q, %v", name, out, err)
		}
	}
}

func TestBackgroundChildHoldingTheOutputHangs(t *testing.T) {
	inTemp(t)
	m := compile(t, true, map[string]string{"01.config": `commands: {a: {command: "(while [ ! -e end ]; do sleep 0.01; done) & echo $! >pid"}}` + "\n"})
	done := make(chan error, 1)
	go func() {
		_, err := carry(t, m, preBuild)
		done <- err
	}()
	select {
	case <-done:
		t.Error("it did not wait for the child")
	case <-time.After(100 * time.Millisecond):
	}
	if err := os.WriteFile("end", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestFileKeepsABackupEvenOfTheSame(t *testing.T) {
	needRoot(t)
	dir := inTemp(t)
	path := filepath.Join(dir, "sub/f")
	m := Metadata{map[string][]string{preBuild: {"x"}}, map[string]Config{"x": {Files: map[string]File{path: {Content: "same", Mode: "000600"}}}}, nil}
	for range 2 {
		if _, err := carry(t, m, preBuild); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{path, path + ".bak"} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", p, info, err)
		}
	}
}

func TestFileFaults(t *testing.T) {
	dir := inTemp(t)
	path := filepath.Join(dir, "f")
	for name, f := range map[string]File{
		"empty":         {Content: ""},
		"mode a number": {Content: "x", Mode: 644},
		"no such owner": {Content: "x", Owner: "nobody-of-that-name"},
	} {
		i := Init{changed: map[string]bool{}}
		if err := i.file(path, f); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestLinkModeChangesItsTarget(t *testing.T) {
	needRoot(t)
	dir := inTemp(t)
	target := filepath.Join(dir, "target")
	if err := os.WriteFile(target, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	i := Init{changed: map[string]bool{}}
	if err := i.file(filepath.Join(dir, "link"), File{Content: target, Mode: "120644"}); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(target); info.Mode().Perm() != 0o644 {
		t.Errorf("target has mode %v, the real tool makes it 0644", info.Mode())
	}
}

func TestShortDownloadCountsAsSuccessAndMissingOneFails(t *testing.T) {
	needRoot(t)
	dir := inTemp(t)
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/missing" {
			asked++
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "short")
	}))
	defer server.Close()
	i := Init{changed: map[string]bool{}, Pause: time.Millisecond}
	path := filepath.Join(dir, "f")
	if err := i.file(path, File{Source: server.URL + "/short"}); err != nil {
		t.Error(err)
	}
	if err := i.file(path, File{Source: server.URL + "/missing"}); err == nil || asked != tries {
		t.Errorf("%v after %d tries", err, asked)
	}
	if got, _ := os.ReadFile(path); string(got) != "short" {
		t.Errorf("the old file is %q after a failure", got)
	}
}

// What Beanstalk stores is JSON, so nothing may be lost on the way.
func TestMetadataSurvivesJSON(t *testing.T) {
	m := compile(t, true, map[string]string{"01.config": `
files: {/tmp/x: {content: text, mode: "000644"}}
commands: {a: {command: [echo, a], cwd: /, test: "true", ignoreErrors: true, env: {A: b}}}
services: {systemd: {x.service: {enabled: true, ensureRunning: "true", files: [/tmp/x]}}}
container_commands: {b: {command: "echo b"}}
`})
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var back Metadata
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	again, _ := json.Marshal(back)
	if string(again) != string(data) || len(m.Warnings) > 0 {
		t.Errorf("got %s\nwant %s\n%v", again, data, m.Warnings)
	}
}

func FuzzCompile(f *testing.F) {
	f.Add("commands: {a: {command: echo}}\n")
	f.Add("files:\n  /x: {content: {a: 1}, mode: 0644}\n")
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		os.WriteFile(filepath.Join(dir, "a.config"), []byte(text), 0o644)
		if _, err := Compile(dir, true); err != nil {
			t.Error(err)
		}
	})
}

// needRoot is for what gives files away, as cfn-init does.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root: files are given to it")
	}
	t.Skip("needs root: files are given to it")
}
