package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"beanstalk-agent/packaging/testbed/gotool"
	"beanstalk-agent/packaging/testbed/planted"
)

// Packages as go test meets them: the tests of each, and where the secret is seen.
var packages = map[string]string{
	"quiet": `
func TestLogs(t *testing.T) { t.Log("quiet") }
func TestSkips(t *testing.T) { t.Skip("no reason") }`,
	"leaks": `
func TestPrints(t *testing.T) { t.Run("below", func(t *testing.T) { fmt.Println("a log line with", secret, "in it") }) }
func TestLogs(t *testing.T) { t.Logf("%q", secret) }
func TestStarts(t *testing.T) { exec.Command("sh", "-c", "echo "+secret+" >/proc/$PPID/fd/2").Run() }
func TestLongLine(t *testing.T) { fmt.Println(strings.Repeat("x", 4090) + secret) }
func TestSkips(t *testing.T) { t.Log(secret); t.Skip("no reason") }`,
	"fails": `
func TestFails(t *testing.T) { t.Run("beside", func(t *testing.T) { t.Log(secret) }); t.Error("got", secret) }
func TestPasses(t *testing.T) { t.Log("quiet") }`,
	"panics": `
func TestPanics(t *testing.T) { t.Run("beside", func(t *testing.T) { t.Log("quiet") }); panic("at once") }`,
	"wrong": `
func TestWrong(t *testing.T) { undefined() }`,
	"none": "",
}

var leaks = []string{
	`m/fails TestFails/beside: x_test.go:14: SECRET`,
	`m/leaks TestLogs: x_test.go:15: "SECRET"`,
	`m/leaks TestLongLine: ` + strings.Repeat("x", 4090) + "SECRET",
	`m/leaks TestPrints/below: a log line with SECRET in it`,
	`m/leaks TestSkips: x_test.go:18: SECRET`,
	`m/leaks TestStarts: SECRET`,
}

// A test that takes long is shown with its package's line, and a leak in it is one.
func TestShowsWhatTookLong(t *testing.T) {
	var out strings.Builder
	n, err := overhear(strings.NewReader(`{"Action":"output","Package":"m/p","Test":"TestLong","Output":"`+planted.Value+`\n"}
		{"Action":"pass","Package":"m/p","Test":"TestLong","Elapsed":7.2}
		{"Action":"pass","Package":"m/p","Test":"TestQuick","Elapsed":0.1}
		{"Action":"output","Package":"m/p","Output":"ok  \tm/p\t7.3s\n"}
		{"Action":"pass","Package":"m/p","Elapsed":7.3}`), &out)
	if err != nil || n != 1 || !strings.HasPrefix(out.String(), "ok  \tm/p\t7.3s\n    \t7 s TestLong\n") || strings.Contains(out.String(), "Quick") {
		t.Errorf("%d leaks, %v, shown:\n%s", n, err, &out)
	}
}

// The reader of the gate sees what plain go test shows, and each leak with its package and its test.
func TestShowsWhatGoTestShows(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 10 s: it runs go test twice")
	}
	if _, err := exec.LookPath("go"); err != nil {
		gotool.Need(t, "Go")
	}
	dir := t.TempDir()
	put(t, dir, "go.mod", "module m\n\ngo 1.26\n")
	for name, tests := range packages {
		put(t, dir, name+"/x.go", "package "+name+"\n")
		if tests != "" {
			put(t, dir, name+"/x_test.go", "package "+name+"\n\nimport (\n\t\"fmt\"\n\t\"os/exec\"\n\t\"strings\"\n\t\"testing\"\n)\n\n"+
				"const secret = \""+planted.Value+"\"\n\nvar _, _, _ = fmt.Sprint(), exec.Cmd{}, strings.Builder{}\n"+tests+"\n")
		}
	}
	run := func(args ...string) string {
		cmd := exec.Command("go", append([]string{"test", "-p", "1"}, args...)...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOFLAGS=", "CGO_ENABLED=0")
		out, _ := cmd.Output() // some fail
		return string(out)
	}
	var out strings.Builder
	n, err := overhear(strings.NewReader(run("-json", "./...")), &out)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	shown := leak.ReplaceAllStringFunc(out.String(), func(s string) string {
		told = append(told, leak.ReplaceAllString(s, "$1: $2"))
		return ""
	})
	slices.Sort(told)
	if want := strings.ReplaceAll(strings.Join(leaks, "\n"), "SECRET", planted.Value); n != len(leaks) || strings.Join(told, "\n") != want {
		t.Errorf("%d leaks, told as\n%s\nwant\n%s", n, strings.Join(told, "\n"), want)
	}
	if plain := run("./..."); alike(shown) != alike(plain) {
		t.Errorf("shown:\n%s\nplain go test shows:\n%s", shown, plain)
	}
}

var leak = regexp.MustCompile(`ci: a planted value is seen in the output of (.*):\n    (.*)\n`)

// alike leaves out what differs between two runs, what the compiler says (to stderr, without -json), the last line,
// and the order of lines: a test is told before what it logged, or with -json after.
func alike(s string) string {
	s = regexp.MustCompile(`\d+\.\d+s|\(cached\)|0x[0-9a-f]+|goroutine \d+|#.*\n|.*undefined\n|FAIL\n$`).ReplaceAllString(s, "")
	return strings.Join(slices.Sorted(strings.Lines(s)), "")
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
