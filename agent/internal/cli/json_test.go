package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/packaging/testbed/clidoc"
)

const documentPath = "../../../packaging/docs/cli.md"

// jsonArgs are the arguments with which each verb of the document is asked. DIR is a root where an agent is installed.
var jsonArgs = map[string][]string{
	"ps": {"ps", "--all"}, "status": {"status"}, "version": {"version"}, "capacity": {"capacity"},
	"cron history": {"cron", "history"}, "cron list": {"cron", "list"}, "cron list --cost": {"cron", "list", "--cost"},
	"cron next": {"cron", "next"}, "env": {"env"}, "env --diff": {"env", "--diff", "--values"},
	"metrics": {"metrics"}, "metrics --cost": {"metrics", "--cost"},
	"health": {"health"}, "health --history": {"health", "--history"}, "health --as-load-balancer": {"health", "--as-load-balancer"},
	"install": {"install", "--into", "DIR"}, "uninstall": {"uninstall", "--root", "DIR", "--dry-run"},
}

// plausible are values that decide what is printed, in place of the invented.
var plausible = strings.NewReplacer(`"kind":`+asJSON(evil), `"kind":"cron"`, `"at":`+asJSON(evil), `"at":"2027-03-28T03:00:00+02:00"`,
	`"facts":{`+asJSON(evil)+`:`+asJSON(evil)+`}`, `"facts":{"series":1,"sent":1,"waiting":1,"dropped":1,"duplicates":1}`)

func asJSON(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// Every verb with --json prints what packaging/docs/cli.md says, whatever the agent answers: each field has its line there
// and its type, and each line has its field. A new verb or flag, found by its command, needs its section.
func TestJSONIsDocumented(t *testing.T) {
	doc := clidoc.Read(t, documentPath)
	documented := map[string]bool{} // verbs, without their flags
	for verb := range doc.Fields {
		name, _, _ := strings.Cut(verb, " --")
		documented[name] = true
	}
	for path, c := range verbsByPath() {
		if has := c.Flags().Lookup("json") != nil; has != documented[path] {
			t.Errorf("agent %s: has --json: %v, has a section: %v", path, has, documented[path])
		}
		if !doc.Exits[path] {
			t.Errorf("agent %s has no line among the exit statuses", path)
		}
	}
	seen := map[string]map[string]bool{}
	for how, answer := range map[string]http.HandlerFunc{"full": answering(t, true), "sparse": answering(t, false), "empty": emptyAnswers} {
		socket := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			kept := httptest.NewRecorder()
			answer(kept, r)
			w.WriteHeader(kept.Code)
			plausible.WriteString(w, kept.Body.String())
		}))
		for verb := range doc.Fields {
			args, ok := jsonArgs[verb]
			if !ok {
				t.Errorf("agent %s --json has no arguments in jsonArgs", verb)
				continue
			}
			c := clidoc.Check{Doc: doc, Verb: verb}
			c.JSON(printed(t, socket, args))
			for _, f := range c.Faults {
				t.Errorf("%s answers: %s", how, f)
			}
			if seen[verb] == nil {
				seen[verb] = map[string]bool{}
			}
			for path := range c.Seen {
				seen[verb][path] = true
			}
		}
	}
	for verb, fields := range doc.Fields {
		for _, f := range fields {
			if !seen[verb][f.Path] && jsonArgs[verb] != nil {
				t.Errorf("agent %s --json never has %s", verb, f.Path)
			}
		}
	}
}

// emptyAnswers are those of an agent that has nothing to tell.
func emptyAnswers(w http.ResponseWriter, r *http.Request) {
	of, ok := answersOf[r.URL.Path]
	if !ok {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	json.NewEncoder(w).Encode(reflect.Zero(reflect.TypeOf(of)).Interface()) // its lists are null
}

// verbsByPath are all verbs that do something.
func verbsByPath() map[string]*cobra.Command {
	all := map[string]*cobra.Command{}
	var walk func(c *cobra.Command, before string)
	walk = func(c *cobra.Command, before string) {
		path := strings.TrimSpace(before + " " + c.Name())
		if !c.HasSubCommands() {
			all[path] = c
		}
		for _, sub := range c.Commands() {
			walk(sub, path)
		}
	}
	for _, c := range verbs(&globals{}) {
		walk(c, "")
	}
	return all
}

// printed is what a verb prints with --json.
func printed(t *testing.T, socket string, args []string) []byte {
	t.Helper()
	dir := t.TempDir()
	installed := filepath.Join(dir, "opt/agent/bin") // for uninstall
	if err := os.MkdirAll(installed, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(installed, "agent"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	args = append([]string{"--socket", socket}, args...)
	for i := range args {
		args[i] = strings.Replace(args[i], "DIR", dir, 1)
	}
	Main(append(args, "--json"), Stdio{null, out, null}, Programs{})
	out.Seek(0, io.SeekStart)
	text, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// One name is of one kind, whichever verb prints it, and says its unit.
func TestFieldsHaveOneMeaning(t *testing.T) {
	unit := regexp.MustCompile(`_(ns|us|ms|s|secs?|mins?|minutes|hours|kb|mb|mib|kib)$`)
	size := regexp.MustCompile(`memory|size|length|bytes`)
	for name, types := range clidoc.Read(t, documentPath).Names() {
		if len(types) > 1 {
			t.Errorf("%q is %s", name, strings.Join(types, " here and ")+" there")
		}
		if unit.MatchString(name) && name != "latency_ms" {
			t.Errorf("%q: a length of time is …_seconds, an amount …_bytes, a part …_share", name)
		}
		if number := types[0] == "integer" || types[0] == "number"; number && size.MatchString(name) && !strings.HasSuffix(name, "_bytes") {
			t.Errorf("%q is no …_bytes", name)
		}
	}
}

// The document tells of each name that api.Printed changes.
func TestRenamesAreDocumented(t *testing.T) {
	doc := clidoc.Read(t, documentPath)
	last := func(path string) string { return "`" + path[strings.LastIndex(path, ".")+1:] + "`" }
	for verb, names := range api.Printed {
		for was, is := range names {
			if !slices.ContainsFunc(doc.Renamed, func(r [3]string) bool {
				return strings.Contains(r[0], "`agent "+verb+"`") && strings.HasPrefix(r[1], last(was)) && r[2] == "`"+is+"`"
			}) {
				t.Errorf("agent %s: nothing tells that %s is %s", verb, was, is)
			}
		}
	}
}

// A page of help names no field that is not printed.
func TestHelpNamesNoOtherField(t *testing.T) {
	names := clidoc.Read(t, documentPath).Names()
	others := []string{"worker_headroom", // a metric
		"container_commands", "rebuild_index", "pg_dump"} // of others
	field := regexp.MustCompile(`\b[a-z0-9]+(_[a-z0-9]+)+\b|"[a-z_]+":`)
	for path, c := range verbsByPath() {
		for _, word := range field.FindAllString(c.Long+"\n"+c.Short+"\n"+c.Flags().FlagUsages(), -1) {
			if word = strings.Trim(word, `":`); names[word] == nil && !slices.Contains(others, word) {
				t.Errorf("agent help %s names %s, which nothing prints", path, word)
			}
		}
	}
}

// Times of the agent's zone, or of a job's, are printed in UTC, wherever they stand.
func TestTimesArePrintedInUTC(t *testing.T) {
	berlin := time.FixedZone("", 3600)
	at := time.Date(2026, 12, 1, 2, 30, 0, 5e8, berlin)
	var b bytes.Buffer
	v := struct {
		A time.Time
		B *time.Time
		C []struct{ D any }
		E *time.Time
		f time.Time
	}{at, &at, []struct{ D any }{{at}, {nil}}, nil, at}
	if err := printJSON(&b, "", v); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), `"2026-12-01T01:30:00.5Z"`); n != 3 || strings.Contains(b.String(), "+01:00") {
		t.Errorf("%s", &b)
	}
}
