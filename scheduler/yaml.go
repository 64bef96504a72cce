package scheduler

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	yamlparser "github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// cronYAML walks the syntax tree of a cron.yaml by hand: goccy's strict decoding stops at
// the first unknown key, and all faults are reported.
type cronYAML struct {
	*parser
	shift  int  // lines of the file before the part being read
	broken bool // some part was not valid YAML

	versioned bool // it has the key version, or the missing one has been noted

	anchors map[string]ast.Node
	merges  int                   // merge keys the job may still have, against those that nest without end
	envs    map[ast.Node][]string // environments shared by references
	job     Job                   // the defaults of each job
}

// Limits of a part of the file: one job, or all the rest. goccy's parser recurses and takes
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

// yaml reads a cron.yaml. Its jobs are parsed one by one: a tree takes forty times the
// space of its text, and a syntax error in one job then hides no other's faults.
func (p *parser) yaml(text string) {
	head, jobs := cutJobs(p.lines)
	if y := p.newYAML(); !y.read(head, jobs) && len(jobs) > 0 && tooDeep(text) == "" && isYAML(text) {
		// The cut was wrong: a text over several lines looked like a list. Once more, whole.
		p.faults, p.warnings, p.jobs, p.left, p.whole = nil, nil, nil, maxTable, false
		clear(p.names)
		p.newYAML().read(text, nil)
	}
}

func (p *parser) newYAML() *cronYAML {
	return &cronYAML{parser: p, job: newJob(0, p.opt.Location),
		anchors: map[string]ast.Node{}, envs: map[ast.Node][]string{}}
}

// read reports whether all of it was YAML.
func (y *cronYAML) read(head string, jobs []part) bool {
	y.head(y.tree(head), len(jobs) > 0)
	for _, c := range jobs {
		if y.full() {
			break
		}
		y.shift = c.shift
		y.items(y.tree(c.text))
	}
	return !y.broken
}

// A part is some lines of a file, and how many come before them.
type part struct {
	text  string
	shift int
}

var cronKey = regexp.MustCompile(`^["']?cron["']?[ \t]*:[ \t]*(#.*)?$`)

// cutJobs cuts the items of the list below cron: out of a file, and leaves blank lines in
// their place. It goes by indentation alone, and gives no items where that is not clear.
func cutJobs(lines []string) (rest string, jobs []part) {
	begin := slices.IndexFunc(lines, cronKey.MatchString) + 1
	if begin == 0 {
		return strings.Join(lines, "\n"), nil
	}
	depth, start, i := -1, 0, begin
	end := func() {
		if start > 0 {
			text := strings.Join(lines[start-1:i], "\n")
			if i < len(lines) {
				text += "\n"
			}
			jobs = append(jobs, part{text, start - 1})
		}
	}
	for ; i < len(lines); i++ {
		body := strings.TrimLeft(lines[i], " ")
		if body == "" || body[0] == '#' || body[0] == '\t' && depth >= 0 { // a tab is its job's fault
			continue
		}
		item := body == "-" || strings.HasPrefix(body, "- ")
		at := len(lines[i]) - len(body)
		if depth < 0 && item {
			depth = at
		}
		if at > depth && depth >= 0 {
			continue
		}
		if !item || at < depth {
			break
		}
		end()
		start = i + 1
	}
	end()
	if len(jobs) == 0 {
		return strings.Join(lines, "\n"), nil
	}
	blank := slices.Clone(lines)
	clear(blank[begin:i])
	return strings.Join(blank, "\n"), jobs
}

func isYAML(text string) bool {
	_, err := parseYAML(text)
	return err == nil
}

// parseYAML makes an error of a panic of goccy's parser: the file is not trusted.
func parseYAML(text string) (file *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the parser gave up: %v", p)
		}
	}()
	return yamlparser.ParseBytes([]byte(text), 0, yamlparser.AllowDuplicateMapKey())
}

// tree parses one part, and keeps its anchors. It is nil for an empty or faulty one.
func (y *cronYAML) tree(text string) ast.Node {
	if why := tooDeep(text); why != "" {
		y.fault(y.shift+1, 1, "", "%s", why)
		return nil
	}
	file, err := parseYAML(text)
	if err != nil {
		y.broken = true
		y.syntaxFault(err)
		return nil
	}
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil {
			bodies = append(bodies, doc.Body)
		}
	}
	if len(bodies) == 0 {
		return nil
	}
	if len(bodies) > 1 {
		y.faultAt(bodies[1], "", "a second YAML document begins here; one is expected")
	}
	if strings.Contains(text, "&") {
		f := anchorFinder{anchors: map[string]ast.Node{}}
		ast.Walk(&f, bodies[0])
		// An anchor of a job keeps the whole tree of that job.
		if len(f.anchors) > 0 && (y.shift == 0 || y.spend(bodies[0], nodeBytes*f.nodes)) {
			maps.Copy(y.anchors, f.anchors)
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

// syntaxFault reports text that is not YAML. The usual reason is a schedule that begins with
// a star and has no quotes: YAML reads that as a reference.
func (y *cronYAML) syntaxFault(err error) {
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
	line += y.shift
	for n := max(line-2, 1); n <= min(line+1, len(y.lines)); n++ {
		text := y.lines[n-1]
		if at, why, hint := unquoted(text); why != "" {
			y.fault(n, column(text, at), hint, "%s", why)
			return
		}
		indent := text[:len(text)-len(strings.TrimLeft(text, " \t"))]
		if tab := strings.Index(indent, "\t"); tab >= 0 {
			y.fault(n, tab+1, "use blanks", "a tab cannot indent YAML")
			return
		}
	}
	y.fault(line, col, "", "not valid YAML: %s", msg)
}

// head reads the keys beside the jobs, and the jobs too where they were not cut out before.
func (y *cronYAML) head(n ast.Node, cut bool) {
	if n == nil {
		return
	}
	var list ast.Node
	for _, e := range y.entries(n) {
		switch {
		case e.key == "version":
			y.versioned = true
			if t, ok := y.scalar(e); ok && t != "1" {
				y.faultAt(e.value, "", "version %q is not known; expected 1", t)
			}
		case e.key == "cron":
			list = e.value
		case e.key == "timezone":
			y.timezone(&y.job, e)
		case e.key == "environments":
			y.environments(&y.job, e)
		case e.key == "enabled":
			y.enabled(&y.job, e)
		case e.key == "process_types":
			y.processTypes(&y.job, e)
		case e.key == "group":
			y.fleetGroup(e)
		case strings.HasPrefix(e.key, "x-"): // a place for anchors
		default:
			y.unknown(e, true,
				[]string{"version", "cron", "timezone", "environments", "enabled", "process_types", "group"})
		}
	}
	if !cut && list != nil {
		y.items(list)
	}
}

func (y *cronYAML) items(n ast.Node) {
	if n == nil {
		return
	}
	switch list := y.resolve(n).(type) {
	case nil, *ast.NullNode:
	case *ast.SequenceNode:
		for _, n := range list.Values {
			y.item(n)
		}
	default:
		y.faultAt(list, `each job begins with "- name: …"`, "cron must be a list of jobs")
	}
}

// item reads one job.
func (y *cronYAML) item(n ast.Node) {
	if y.full() {
		return
	}
	y.merges, y.inJob = 20, true
	defer func() { y.inJob = false }()
	before := len(y.faults)
	b := jobNodes{}
	j := y.job
	j.Line, _ = y.place(n)
	entries := y.entries(n)
	if len(entries) > 0 {
		j.Line, _ = y.place(entries[0].keyNode)
	}
	posted := slices.ContainsFunc(entries, func(e pair) bool { return e.key == "url" })
	for _, e := range entries {
		read, ok := jobKeys[e.key]
		if !ok {
			y.unknown(e, posted, slices.Collect(maps.Keys(jobKeys)))
			continue
		}
		read(y, &j, &b, e)
	}
	if len(entries) > 0 {
		y.finish(&j, &b)
	}
	text := len(j.Name) + len(j.Expr) + len(j.Command) + len(j.URL) + len(j.Dir) + len(j.Lock) + len(j.Enabled)
	if y.spend(n, jobBytes+text) && len(y.faults) == before {
		y.add(j)
	}
}

// jobNodes are the values that can be checked only beside others.
type jobNodes struct {
	schedule, command, url, lockScope ast.Node
	named                             bool
}

// finish checks conditions on more than one key.
func (y *cronYAML) finish(j *Job, b *jobNodes) {
	fault := func(hint, format string, args ...any) { y.fault(j.Line, y.indent(j.Line), hint, format, args...) }
	what := "the job"
	if j.Name != "" {
		what = "job " + j.Name
	}
	if !b.named {
		fault("", "%s has no name", what)
	}
	if b.lockScope != nil && j.Lock == "" {
		y.faultAt(b.lockScope, "add lock: NAME", "%s has a lock_scope and no lock", what)
	}
	switch {
	case b.command == nil && b.url == nil:
		fault("", "%s has neither command nor url", what)
	case b.command != nil && b.url != nil:
		y.faultAt(b.url, "keep one", "%s has both command and url", what)
	}
	if b.url != nil && !y.versioned {
		y.versioned = true
		const text = "there is no version: 1, without which a worker tier refuses the deployment of this file"
		y.warn(j.Line, y.indent(j.Line), "begin the file with it", text)
	}
	if b.schedule == nil {
		fault("", "%s has no schedule", what)
		return
	}
	if t, ok := y.text(pair{key: "schedule", value: b.schedule, free: true}); ok {
		t = strings.TrimSpace(t)
		line, col := y.place(b.schedule)
		if k := y.resolve(b.schedule).GetToken().Type; k == token.DoubleQuoteType || k == token.SingleQuoteType {
			col++
		}
		j.Expr = t
		j.Schedule, _ = y.schedule(when{t, j.Seconds, b.url != nil, j.Location}, line, col)
	}
}

// indent gives the column at which a line's text begins.
func (y *cronYAML) indent(line int) int {
	if line > len(y.lines) || line < 1 {
		return 1
	}
	l := y.lines[line-1]
	return len(l) - len(strings.TrimLeft(l, " -")) + 1
}
