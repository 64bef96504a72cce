package main

import (
	"cmp"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
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
	"agent/internal/daemon": {[]string{"agent/internal/*", "scheduler/yamlnode"},
		"it is the only place where parts meet"},
	"collectors": {[]string{"collectors/procread", "collectors/procstat"},
		"anyone may import it; it reads the kernel and knows nothing of agents"},
	"collectors/procread":     {nil, "who may not be held up by a process reads it so: it imports nothing of ours"},
	"collectors/procstat":     {nil, "one parser of /proc/PID/stat, for the supervisor too: it imports nothing of ours"},
	"scheduler/yamlnode":      {nil, "one reader of YAML, for the scheduler and the configuration: it imports nothing of ours"},
	"scheduler":               {[]string{"scheduler/yamlnode"}, "anyone may import it; it is pure, so that a year of it runs in a test"},
	"agent/internal/config":   {[]string{"scheduler/yamlnode"}, "no package takes config.Config: wiring translates"},
	"agent/internal/appenv":   {[]string{"agent/internal/appfile", "agent/internal/strictpath", "collectors/procread"}, "what the application gets must not depend on what the agent is doing"},
	"agent/internal/platform": {[]string{"collectors/procstat", "packaging/nginxconf"}, "facts about the host come before everything else"},
	"agent/internal/awsconf":  {nil, "the agent's own credentials must not meet the application's environment"},
	"agent/internal/capacity": {nil, "it is pure: figures in, advice out"},
	"agent/internal/metrics": {[]string{"agent/internal/api", "agent/internal/app", "agent/internal/capacity",
		"agent/internal/cloudwatch", "agent/internal/platform", "collectors"},
		"other features hand it their counters as funcs"},
	"agent/internal/cloudwatch": {[]string{"collectors"},
		"it sends samples and knows nothing of who measures them"},
	"agent/internal/claim":    {nil, "a claim is about a name and a time, whatever runs then"},
	"agent/internal/health":   {[]string{"agent/internal/api", "agent/internal/endpoint", "agent/internal/fdconn", "collectors"}, "a verdict must not wait for any other part"},
	"agent/internal/endpoint": {nil, "it is an address and its grammar"},
	"agent/internal/drain":    {[]string{"agent/internal/api", "agent/internal/runs", "agent/internal/strictpath"}, "a reason to leave must not wait for any other part"},
	"agent/internal/app": {[]string{"agent/internal/api", "agent/internal/appenv", "agent/internal/appfile", "agent/internal/endpoint",
		"agent/internal/platform", "collectors", "packaging"}, "it answers questions about the application and asks no feature"},
	"agent/internal/appfile":    {nil, "it is the one way to read what the application can write"},
	"agent/internal/notify":     {nil, "it tells what it is told"},
	"agent/internal/lifecycle":  {nil, "order is data; it knows no service"},
	"agent/internal/strictpath": {nil, "one rule of who can replace what a path leads to: it imports nothing of ours"},
	"agent/internal/statedir":   {[]string{"agent/internal/fdconn", "agent/internal/strictpath"}, "agent and supervisor share it, of whatever versions"},
	"agent/internal/fdconn":     {[]string{"agent/internal/strictpath"}, "it is a kind of socket"},
	"agent/internal/command":    {[]string{"agent/internal/fdconn", "collectors/procstat"}, "it starts one command and knows nobody who asks for one"},
	"agent/internal/session":    {[]string{"agent/internal/fdconn"}, "client and supervisor share it, nothing else does"},
	"agent/internal/runs": {[]string{"agent/internal/fdconn", "agent/internal/session"},
		"a run's record and output mean the same to everybody; words for people come from the daemon"},
	"agent/internal/supervisor": {[]string{"agent/internal/command", "agent/internal/fdconn", "agent/internal/runs", "agent/internal/session",
		"agent/internal/statedir", "agent/internal/strictpath"},
		"it must stay small and change rarely: it reads no configuration, no environment file, and does no network"},
	"agent/internal/cron": {[]string{"agent/internal/api", "agent/internal/app", "agent/internal/appenv", "agent/internal/appfile",
		"agent/internal/awsconf", "agent/internal/claim", "agent/internal/command", "agent/internal/notify",
		"agent/internal/platform", "agent/internal/runs", "agent/internal/strictpath", "collectors", "scheduler"},
		"what a firing does is in one place"},
	"agent/internal/cli": {[]string{"agent/internal/api", "agent/internal/app", "agent/internal/appenv", "agent/internal/buildinfo",
		"agent/internal/capacity", "agent/internal/cloudwatch", "agent/internal/command", "agent/internal/config", "agent/internal/cron",
		"agent/internal/drain", "agent/internal/health", "agent/internal/metrics", "agent/internal/runs", "agent/internal/session",
		"collectors", "packaging", "scheduler"},
		"a verb is a client: it may be of another version than the agent, and without one"},
	"agent/internal/buildinfo": {nil, "it is a string"},
	"agent/internal/api": {[]string{"agent/internal/fdconn", "agent/internal/session"},
		"both ends of the socket import it, and it imports neither"},
	"agent/internal/control": {[]string{"agent/internal/api", "agent/internal/fdconn", "agent/internal/session", "agent/internal/runs"},
		"routes know permissions and shapes; what answers them is wired in"},
	"agent/internal/launch": {[]string{"agent/internal/api", "agent/internal/appenv", "agent/internal/command", "agent/internal/runs", "scheduler"},
		"it is where a job and a typed command become the same thing"},
	"packaging":           {[]string{"packaging/nginxconf"}, "it is files, embedded, and how they get onto a host"},
	"packaging/nginxconf": {nil, "one reader of nginx's files, for the installer and the agent: it imports nothing of ours"},
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
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range imports {
		if name := strings.TrimSuffix(pkg, "/*"); !strings.Contains(string(readme), "\n| `"+name+"` | ") && name != "packaging/demo/site" {
			t.Errorf("the README's map does not have %s", name)
		}
		if _, err := os.Stat("../" + strings.TrimSuffix(pkg, "/*")); err != nil {
			t.Errorf("the table has %s, which is not there", pkg)
		}
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

// shipped calls each for every Go file that ends up in the binary: no tests, no test bed, no demo, no bench.
func shipped(t *testing.T, each func(path string)) {
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch slash := filepath.ToSlash(path); {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() != ".." && strings.HasPrefix(d.Name(), ".")),
			slash == "../packaging/testbed", slash == "../packaging/demo", slash == "../packaging/bench":
			return filepath.SkipDir
		case strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go"):
			each(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Sizes that were kept by prose alone decayed: package main had 36 files, 32 of them in one reference cycle. A file or
// function that is larger than these has a second subject.
func TestSizes(t *testing.T) {
	const anyFile, function, width = 400, 80, 120
	limits := map[string]int{"../agent/main.go": 60, "../agent/internal/daemon/run.go": 150}
	shipped(t, func(path string) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		limit := cmp.Or(limits[filepath.ToSlash(path)], anyFile)
		if strings.Contains(filepath.ToSlash(path), "/internal/cli/") {
			limit = 150 // a verb: its flags, one call, its printing
		}
		lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		if len(lines) > limit {
			t.Errorf("%s has %d lines, more than %d: it has a second subject", path, len(lines), limit)
		}
		for i, l := range lines {
			if n := utf8.RuneCountInString(strings.ReplaceAll(l, "\t", "    ")); n > width {
				t.Errorf("%s:%d: %d columns, more than %d", path, i+1, n, width)
			}
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if n := fset.Position(d.End()).Line - fset.Position(d.Pos()).Line + 1; n > function {
				if fn, ok := d.(*ast.FuncDecl); ok {
					t.Errorf("%s: %s has %d lines, more than %d", path, fn.Name.Name, n, function)
				}
			}
		}
	})
}

// What others wrote must not reach a terminal as it is: package cli prints by the printf of its print.go, which escapes.
func TestOnlyPrintPrints(t *testing.T) {
	files, _ := filepath.Glob("internal/cli/*.go")
	for _, file := range files {
		if filepath.Base(file) == "print.go" || strings.HasSuffix(file, "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, _ := s.X.(*ast.Ident)
			if pkg != nil && pkg.Name == "fmt" && (strings.HasPrefix(s.Sel.Name, "Fprint") || strings.HasPrefix(s.Sel.Name, "Print")) {
				t.Errorf("%s: fmt.%s: use printf", fset.Position(s.Pos()), s.Sel.Name)
			}
			return true
		})
	}
}

// The code is read by somebody on call, at night, through grep: these words are private where the field has its own
// (reported, recipients, caller, flush). capacity, hold and release are names of verbs and stay.
func TestWords(t *testing.T) {
	limits := map[string]int{"told": 40, "people": 10, "nobody": 30, "settle": 5, "thrift": 0}
	count := map[string]int{}
	word := regexp.MustCompile(`\pL+`)
	shipped(t, func(path string) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range word.FindAllString(strings.ToLower(string(text)), -1) {
			count[w]++
		}
	})
	for w, limit := range limits {
		if count[w] > limit {
			t.Errorf("%q stands %d times in shipped code, more than %d", w, count[w], limit)
		}
	}
}

// A cycle of files can only be read whole. The largest one left is the scheduler's.
func TestFileCycles(t *testing.T) {
	const most = 6
	folders := map[string][]string{}
	shipped(t, func(path string) {
		if ok, err := build.Default.MatchFile(filepath.Dir(path), filepath.Base(path)); err == nil && ok {
			folders[filepath.Dir(path)] = append(folders[filepath.Dir(path)], path)
		}
	})
	for dir, files := range folders {
		if cycle := largestCycle(t, files); len(cycle) > most {
			t.Errorf("%s: %d files refer to each other in one cycle: %s", dir, len(cycle), strings.Join(cycle, " "))
		}
	}
}

// largestCycle returns the files of one package that all reach each other by what they refer to. It needs no build:
// what other packages declare is left open.
func largestCycle(t *testing.T, paths []string) (largest []string) {
	fset := token.NewFileSet()
	var files []*ast.File
	for _, path := range paths {
		f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	info := types.Info{Uses: map[*ast.Ident]types.Object{}}
	c := types.Config{Importer: emptyPackages{}, Error: func(error) {}}
	pkg, _ := c.Check(filepath.Dir(paths[0]), fset, files, &info) // errors: of what is left open
	refers := map[string]map[string]bool{}
	for id, o := range info.Uses {
		from, to := fset.Position(id.Pos()).Filename, fset.Position(o.Pos()).Filename
		if o.Pkg() != pkg || from == to || o.Parent() != nil && o.Parent() != pkg.Scope() {
			continue
		}
		if refers[from] == nil {
			refers[from] = map[string]bool{}
		}
		refers[from][to] = true
	}
	reached := map[string]map[string]bool{}
	for from := range refers {
		reached[from] = map[string]bool{}
		for next := []string{from}; len(next) > 0; next = next[1:] {
			for to := range refers[next[0]] {
				if !reached[from][to] {
					reached[from][to] = true
					next = append(next, to)
				}
			}
		}
	}
	for a := range reached {
		var cycle []string
		for b := range reached[a] {
			if reached[b][a] {
				cycle = append(cycle, filepath.Base(b))
			}
		}
		if len(cycle) > len(largest) {
			largest = slices.Sorted(slices.Values(cycle))
		}
	}
	return largest
}

// emptyPackages imports every package as one without content.
type emptyPackages struct{}

func (emptyPackages) Import(path string) (*types.Package, error) {
	p := types.NewPackage(path, filepath.Base(path))
	p.MarkComplete()
	return p, nil
}

// opens says whose files are opened by another way than package appfile, which alone may open what the application's
// user can replace: a link to /dev/zero there took the agent's memory, and a FIFO held a thread for good.
var opens = map[string]string{
	"appenv/profile.go":           "the application's directory itself, to find its owner",
	"appenv/read.go":              "root's: Beanstalk's environment file, absolute env_files; and /proc/PID/environ",
	"appenv/text.go":              "root's: /etc/passwd, unit files",
	"appenv/unit.go":              "root's: unit files",
	"awsconf/awsconf.go":          "root's: a CA bundle of the agent's own environment",
	"awsconf/transport.go":        "root's: a CA bundle of the agent's own environment",
	"cli/cron_check.go":           "a file that the caller named, as the caller",
	"cli/env_file.go":             "a file that the caller named, as the caller",
	"cloudwatch/spool.go":         "the agent's own",
	"command/group_linux.go":      "the kernel's",
	"command/place_linux.go":      "the kernel's",
	"command/session_linux.go":    "the kernel's",
	"command/start_linux.go":      "the kernel's",
	"command/terminal_linux.go":   "the kernel's: a terminal",
	"config/config.go":            "root's: agent.yaml",
	"control/access.go":           "the kernel's",
	"control/foreign_linux.go":    "the kernel's",
	"cron/events.go":              "the agent's own",
	"cron/store.go":               "the agent's own",
	"daemon/supervisor.go":        "the agent's own: its state directory, and /dev/null",
	"fdconn/apart_linux.go":       "the kernel's",
	"fdconn/dying_linux.go":       "the kernel's",
	"fdconn/listen.go":            "the agent's own: the lock beside its socket",
	"health/fallback.go":          "the agent's own",
	"platform/files.go":           "root's and Beanstalk's",
	"platform/web_linux.go":       "the kernel's",
	"runs/output.go":              "the supervisor's: a run's output, read as a stream",
	"supervisor/attach.go":        "the supervisor's: a terminal's last output, bounded when it is written",
	"supervisor/direct_linux.go":  "the kernel's",
	"supervisor/record.go":        "the supervisor's",
	"supervisor/scan.go":          "the supervisor's: its state directory",
	"statedir/statedir.go":        "the agent's own: its state directory; and the kernel's",
	"strictpath/own.go":           "only what this user owns, under one name: a file of another's is refused",
	"strictpath/strictpath.go":    "root's: /etc/passwd and /etc/group",
	"strictpath/way.go":           "directories alone, on the way to a path; and the kernel's",
	"supervisor/spool.go":         "the supervisor's",
	"supervisor/store.go":         "the supervisor's",
	"command/kernelfile_linux.go": "the kernel's",
}

func TestOnlyAppfileOpensTheApplicationsFiles(t *testing.T) {
	opener := regexp.MustCompile(`\b(os|unix|syscall|root)\.(ReadFile|Open|OpenFile|OpenRoot|OpenInRoot|ReadDir|Openat2?)\(`)
	seen := map[string]bool{}
	shipped(t, func(path string) {
		name, inside := strings.CutPrefix(filepath.ToSlash(path), "../agent/internal/")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !inside || strings.HasPrefix(name, "appfile/") || !opener.Match(text) {
			return
		}
		seen[name] = true
		if opens[name] == "" {
			t.Errorf("%s opens files by itself: what the application's user can replace is opened by package appfile, "+
				"anything else has its line here", path)
		}
	})
	for name := range opens {
		if !seen[name] {
			t.Errorf("%s opens nothing: its line can go", name)
		}
	}
}
