package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// imports is who may import whom among our own packages, tests excepted. What
// is not listed is forbidden; a new package needs its line here, and its
// sentence in the README's map.
var imports = map[string]struct {
	may []string
	why string // nothing else, because …
}{
	"agent": {[]string{"agent/internal/cli", "agent/internal/daemon", "agent/internal/supervisor"},
		"it chooses one of the three and knows nothing of what they do"},
	"agent/internal/daemon": {[]string{"agent/internal/*", "collectors"},
		"it is the only place where parts meet"},
	"collectors": {[]string{"collectors/procstat"},
		"anyone may import it; it reads the kernel and knows nothing of agents"},
	"collectors/procstat":     {nil, "one parser of /proc/PID/stat, for the supervisor too: it imports nothing of ours"},
	"scheduler":               {nil, "anyone may import it; it is pure, so that a year of it runs in a test"},
	"agent/internal/config":   {nil, "no package takes config.Config: wiring translates"},
	"agent/internal/appenv":   {[]string{"agent/internal/appfile"}, "what the application gets must not depend on what the agent is doing"},
	"agent/internal/platform": {[]string{"collectors/procstat"}, "facts about the host come before everything else"},
	"agent/internal/awsconf":  {nil, "the agent's own credentials must not meet the application's environment"},
	"agent/internal/capacity": {nil, "it is pure: figures in, advice out"},
	"agent/internal/metrics": {[]string{"agent/internal/api", "agent/internal/app", "agent/internal/capacity",
		"agent/internal/cloudwatch", "agent/internal/platform", "collectors"},
		"other features hand it their counters as funcs"},
	"agent/internal/cloudwatch": {[]string{"collectors"},
		"it sends samples and knows nothing of who measures them"},
	"agent/internal/claim":    {nil, "a claim is about a name and a time, whatever runs then"},
	"agent/internal/health":   {[]string{"agent/internal/api", "agent/internal/endpoint", "collectors"}, "a verdict must not wait for any other part"},
	"agent/internal/endpoint": {nil, "it is an address and its grammar"},
	"agent/internal/drain":    {[]string{"agent/internal/api", "agent/internal/runs"}, "a reason to leave must not wait for any other part"},
	"agent/internal/app": {[]string{"agent/internal/api", "agent/internal/appenv", "agent/internal/appfile", "agent/internal/endpoint",
		"agent/internal/platform", "collectors", "packaging"}, "it answers questions about the application and asks no feature"},
	"agent/internal/appfile":   {nil, "it is the one way to read what the application can write"},
	"agent/internal/notify":    {nil, "it tells what it is told"},
	"agent/internal/lifecycle": {nil, "order is data; it knows no service"},
	"agent/internal/fdconn":    {nil, "it is a kind of socket"},
	"agent/internal/command":   {[]string{"agent/internal/fdconn", "collectors/procstat"}, "it starts one command and knows nobody who asks for one"},
	"agent/internal/session":   {[]string{"agent/internal/fdconn"}, "client and supervisor share it, nothing else does"},
	"agent/internal/runs": {[]string{"agent/internal/fdconn", "agent/internal/session"},
		"a run's record and output mean the same to everybody; words for people come from the daemon"},
	"agent/internal/supervisor": {[]string{"agent/internal/command", "agent/internal/fdconn", "agent/internal/runs", "agent/internal/session"},
		"it must stay small and change rarely: it reads no configuration, no environment file, and does no network"},
	"agent/internal/cron": {[]string{"agent/internal/api", "agent/internal/app", "agent/internal/appenv", "agent/internal/appfile",
		"agent/internal/awsconf", "agent/internal/claim", "agent/internal/command", "agent/internal/notify",
		"agent/internal/platform", "agent/internal/runs", "collectors", "scheduler"},
		"what a firing does is in one place"},
	"agent/internal/cli": {[]string{"agent/internal/api", "agent/internal/app", "agent/internal/appenv", "agent/internal/buildinfo",
		"agent/internal/capacity", "agent/internal/cloudwatch", "agent/internal/command", "agent/internal/config", "agent/internal/cron",
		"agent/internal/drain", "agent/internal/health", "agent/internal/metrics", "agent/internal/runs", "agent/internal/session",
		"collectors", "packaging", "scheduler"},
		"a verb is a client: it may be of another version than the agent, and without one"},
	"agent/internal/buildinfo": {nil, "it is a string"},
	"agent/internal/api": {[]string{"agent/internal/fdconn", "agent/internal/runs", "agent/internal/session"},
		"both ends of the socket import it, and it imports neither"},
	"agent/internal/control": {[]string{"agent/internal/api", "agent/internal/fdconn", "agent/internal/session", "agent/internal/runs"},
		"routes know permissions and shapes; what answers them is wired in"},
	"agent/internal/launch": {[]string{"agent/internal/api", "agent/internal/appenv", "agent/internal/command", "agent/internal/runs", "scheduler"},
		"it is where a job and a typed command become the same thing"},
	"packaging":           {nil, "it is files, embedded, and how they get onto a host"},
	"packaging/bench/*":   {[]string{"agent/internal/runs", "agent/internal/session"}, "a benchmark drives what is built"},
	"packaging/demo":      {[]string{"packaging/demo/site"}, "it drives the built binary, as a person does"},
	"packaging/demo/site": {nil, "it is an application like any other"},
	"packaging/testbed/*": {[]string{"packaging/testbed/*"}, "a test bed proves nothing if it shares code with what it tests"},
}

func TestImports(t *testing.T) {
	const module = "beanstalk-agent/"
	seen := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			if d != nil && d.IsDir() && (d.Name() == "testdata" || d.Name() == ".git") {
				return filepath.SkipDir
			}
			return err
		}
		pkg := filepath.ToSlash(filepath.Dir(strings.TrimPrefix(path, "../")))
		key := rule(pkg)
		if _, ok := imports[key]; !ok {
			if !seen[pkg] {
				t.Errorf("%s is not in the table: give it its line, and its sentence in the README's map", pkg)
			}
			seen[pkg] = true
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range f.Imports {
			name, _ := strconv.Unquote(i.Path.Value)
			target, ours := strings.CutPrefix(name, module)
			if ours && !allowed(imports[key].may, target) {
				t.Errorf("%s imports %s: %s", path, target, imports[key].why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// rule is the line of the table that governs pkg.
func rule(pkg string) string {
	if _, ok := imports[pkg]; ok {
		return pkg
	}
	for key := range imports {
		if allowed([]string{key}, pkg) {
			return key
		}
	}
	return ""
}

func allowed(may []string, pkg string) bool {
	return slices.ContainsFunc(may, func(m string) bool {
		prefix, any := strings.CutSuffix(m, "*")
		return m == pkg || any && strings.HasPrefix(pkg, prefix)
	})
}

// The supervisor is the long-lived half: a library it links is memory for
// months and a reason to replace it. What it shares with the agent is the
// binary, but its own code must need none of the heavy ones.
func TestSupervisorStaysSmall(t *testing.T) {
	for _, pkg := range []string{"internal/supervisor", "internal/runs", "internal/command", "internal/session", "internal/fdconn"} {
		files, _ := filepath.Glob(filepath.Join(pkg, "*.go"))
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range f.Imports {
				name, _ := strconv.Unquote(i.Path.Value)
				if strings.Contains(name, ".") && !strings.HasPrefix(name, "golang.org/x/") {
					t.Errorf("%s imports %s", file, name)
				}
			}
		}
	}
}
