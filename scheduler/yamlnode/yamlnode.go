// Package yamlnode reads a file of YAML by its syntax tree, for cron.yaml and agent.yaml alike: each value with its
// place, and all faults in one round, since each further round is a deployment.
//
// The library's own strict decoding stops at the first unknown key, knows no suggestion, and takes quadratic time and
// memory for hostile text. No message has a value of the file, which may be a secret.
package yamlnode

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Reader reads the nodes of one file.
type Reader struct {
	Lines  []string // of the file: required
	Report func(line, column int, hint, format string, args ...any)

	// Spend takes n bytes of a budget, and reports whether they were left; too little is a fault that it has reported.
	// Optional.
	Spend func(n, line, column int) bool

	// Words are the keys, as alternatives of a regular expression, whose value is one text: where the YAML is broken,
	// the reason is searched for in their values. Optional.
	Words string

	Shift  int  // lines of the file before the part that is read
	Merges int  // merge keys that may still be followed, against those that nest without end
	Broken bool // some part was not valid YAML

	anchors map[string]ast.Node
	valued  *regexp.Regexp // of Words
}

// Limits of a part of a file: one job of a cron.yaml, or all the rest. goccy's parser recurses and takes
// quadratic time: 30 kB of brackets took 1.5 GB and 20 seconds.
const (
	maxPart     = 64 << 10
	maxPartLine = 1000
	maxMarks    = 4000 // brackets, commas, colons and quotes
	maxDepth    = 50
)

// deepLine matches deep nesting on one line without a bracket.
var deepLine = regexp.MustCompile(`(?:(?:[-?:]|[&!*][^ \t\n]*)[ \t]+){20}`)

// tooDeep says why a part must not be given to the parser, or "".
func tooDeep(text string) string {
	depth, marks, bytes, lines := 0, 0, 0, 0
	for i := range len(text) {
		bytes++
		switch text[i] {
		case '[', '{':
			depth++
			marks++
		case ']', '}':
			depth = max(depth-1, 0)
		case ',', ':', '"', '\'':
			marks++
		case '\n':
			if lines++; i > 0 && text[i-1] == '\n' { // blank, as where jobs were cut out
				bytes--
				lines--
			}
		}
		if depth > maxDepth {
			return "brackets nest too deep"
		}
	}
	switch {
	case bytes > maxPart, lines > maxPartLine, marks > maxMarks:
		return fmt.Sprintf("%d bytes in %d lines with %d marks", bytes, lines, marks) +
			" are too many for one job, or for all beside the list of jobs"
	case deepLine.MatchString(text):
		return "a line nests too deep"
	}
	return ""
}

// Valid reports whether a text is YAML within the limits.
func Valid(text string) bool {
	if tooDeep(text) != "" {
		return false
	}
	_, err := parse(text)
	return err == nil
}

// parse makes an error of a panic of goccy's parser: a cron.yaml is not trusted.
func parse(text string) (file *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the parser gave up: %v", p)
		}
	}()
	return parser.ParseBytes([]byte(text), 0, parser.AllowDuplicateMapKey())
}

// Tree parses one part, and keeps its anchors. It is nil for an empty or faulty one.
func (r *Reader) Tree(text string) ast.Node {
	if why := tooDeep(text); why != "" {
		r.Report(r.Shift+1, 1, "", "%s", why)
		return nil
	}
	file, err := parse(text)
	if err != nil {
		r.Broken = true
		r.syntaxFault(err)
		return nil
	}
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if !IsNull(doc.Body) {
			bodies = append(bodies, doc.Body)
		}
	}
	if len(bodies) == 0 {
		return nil
	}
	if len(bodies) > 1 {
		r.FaultAt(bodies[1], "", "a second YAML document begins here; one is expected")
	}
	if strings.Contains(text, "&") {
		f := anchorFinder{anchors: map[string]ast.Node{}}
		ast.Walk(&f, bodies[0])
		// An anchor of a job keeps the whole tree of that job.
		if len(f.anchors) > 0 && (r.Shift == 0 || r.spend(bodies[0], nodeBytes*f.nodes)) {
			if r.anchors == nil {
				r.anchors = map[string]ast.Node{}
			}
			maps.Copy(r.anchors, f.anchors)
		}
	}
	return bodies[0]
}

type anchorFinder struct {
	anchors map[string]ast.Node
	nodes   int
}

func (f *anchorFinder) Visit(n ast.Node) ast.Visitor {
	f.nodes++
	if a, ok := n.(*ast.AnchorNode); ok && a.Value != nil {
		f.anchors[a.Name.GetToken().Value] = a.Value
	}
	return f
}

// syntaxFault reports text that is not YAML. The usual reason is a value that begins with a star and has no quotes:
// YAML reads that as a reference.
func (r *Reader) syntaxFault(err error) {
	line, col, msg := 1, 1, err.Error()
	if e, ok := errors.AsType[interface {
		error
		GetToken() *token.Token
		GetMessage() string
	}](err); ok {
		msg = e.GetMessage()
		if t := e.GetToken(); t != nil && t.Position != nil {
			line, col = t.Position.Line, t.Position.Column
		}
	}
	line += r.Shift
	for n := max(line-2, 1); n <= min(line+1, len(r.Lines)); n++ {
		text := r.Lines[n-1]
		if at, why, hint := r.unquoted(text); why != "" {
			r.Report(n, Column(text, at), hint, "%s", why)
			return
		}
		indent := text[:len(text)-len(strings.TrimLeft(text, " \t"))]
		if c, at := Odd(text[len(indent):]); at == 0 {
			r.Report(n, Column(text, len(indent)), "type it anew", "the line begins with %s", CharName(c))
			return
		}
		if tab := strings.Index(indent, "\t"); tab >= 0 {
			r.Report(n, tab+1, "use blanks", "a tab cannot indent YAML")
			return
		}
	}
	if line <= len(r.Lines) {
		text := []rune(r.Lines[line-1])
		for i := max(col-2, 0); i < min(col, len(text)); i++ {
			if strings.ContainsRune("*&@`%", text[i]) {
				r.Report(line, i+1, "put it in quotes", "a value cannot begin with %c in YAML", text[i])
				return
			}
		}
	}
	r.Report(line, col, "", "not valid YAML: %s", msg)
}
