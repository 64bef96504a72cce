package metrics

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"beanstalk-agent/collectors"
)

// documented reads the tables of the page: names with their units, by section.
func documented(t *testing.T) map[string]map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../../packaging/docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("^\\| `([a-z0-9_]+)` \\| ([A-Za-z/]+) \\|")
	sections, section := map[string]map[string]string{}, ""
	for line := range strings.Lines(string(text)) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			section = strings.TrimSpace(title)
			sections[section] = map[string]string{}
		} else if m := row.FindStringSubmatch(line); m != nil {
			if sections[section][m[1]] != "" {
				t.Errorf("%s is there twice", m[1])
			}
			sections[section][m[1]] = m[2]
		}
	}
	return sections
}

// named finds the samples that the source can make: a Sample with a constant
// name and unit, or a call that makes one of counts.
func named(t *testing.T) map[string]string {
	t.Helper()
	units := map[string]collectors.Unit{"None": collectors.None, "Count": collectors.Count, "Percent": collectors.Percent, "Bytes": collectors.Bytes,
		"Seconds": collectors.Seconds, "Milliseconds": collectors.Milliseconds, "BytesPerSecond": collectors.BytesPerSecond, "CountPerSecond": collectors.CountPerSecond}
	found := map[string]string{}
	for _, dir := range []string{".", "../../../collectors", "../cloudwatch", "../cron", "../health", "../.."} {
		files, _ := filepath.Glob(dir + "/*.go")
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(tree, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CompositeLit:
					for _, l := range samplesIn(n) {
						if name, unit := sampleOf(l); name != "" {
							found[name] = string(units[unit])
						}
					}
				case *ast.CallExpr:
					if f, ok := n.Fun.(*ast.Ident); ok && (f.Name == "count" || f.Name == "add") && len(n.Args) > 0 {
						if name := constant(n.Args[0]); name != "" {
							found[name] = string(collectors.Count)
						}
					}
				}
				return true
			})
		}
	}
	return found
}

// samplesIn returns l when it is a Sample, or those in it when it is a slice of
// them, where the type is left out.
func samplesIn(l *ast.CompositeLit) (found []*ast.CompositeLit) {
	if last(l.Type) == "Sample" {
		return []*ast.CompositeLit{l}
	}
	if a, ok := l.Type.(*ast.ArrayType); ok && last(a.Elt) == "Sample" {
		for _, e := range l.Elts {
			if s, ok := e.(*ast.CompositeLit); ok {
				found = append(found, s)
			}
		}
	}
	return found
}

// sampleOf returns the name and the unit's identifier in Sample{"x", Unit, …}.
func sampleOf(l *ast.CompositeLit) (name, unit string) {
	if len(l.Elts) < 2 {
		return "", ""
	}
	of := func(e ast.Expr) ast.Expr {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			return kv.Value
		}
		return e
	}
	return constant(of(l.Elts[0])), last(of(l.Elts[1]))
}

func last(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

func constant(e ast.Expr) string {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return ""
	}
	s, _ := strconv.Unquote(l.Value)
	return s
}

// The page lists every metric that can be made, with its unit, and whether it is sent. The names of the host's pressure
// are put together at run time, so they are listed here.
func TestEveryMetricIsDocumented(t *testing.T) {
	made := named(t)
	for _, name := range []string{"memory_some", "memory_full", "cpu_some", "io_some", "io_full"} {
		made["pressure_"+name] = string(collectors.Percent)
	}
	if len(made) < 40 {
		t.Fatalf("found only %v", slices.Sorted(maps.Keys(made)))
	}
	page := documented(t)
	sections := map[bool]string{false: "Sent", true: "Kept on the instance"}
	for name, unit := range made {
		if got := page[sections[unpublished[name]]][name]; got != unit {
			t.Errorf("%s, %s: the page has %q under %q", name, unit, got, sections[unpublished[name]])
		}
	}
	for _, section := range sections {
		for name := range page[section] {
			if made[name] == "" {
				t.Errorf("the page has %s, which nothing makes", name)
			}
		}
	}
}
