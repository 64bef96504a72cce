package scheduler

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"beanstalk-agent/scheduler/yamlnode"
)

type pair = yamlnode.Pair

// cronYAML reads a cron.yaml.
type cronYAML struct {
	*parser
	*yamlnode.Reader

	jobKeys   []string // by name
	versioned bool     // it has the key version, or the missing one has been noted

	envs map[ast.Node][]string // environments shared by references
	job  Job                   // the defaults of each job
}

// yaml reads a cron.yaml. Its jobs are parsed one by one: a tree takes forty times the
// space of its text, and a syntax error in one job then hides no other's faults.
func (p *parser) yaml(text string) {
	head, jobs := cutJobs(p.Lines)
	if y := p.newYAML(); !y.read(head, jobs) && len(jobs) > 0 && yamlnode.Valid(text) {
		// The cut was wrong: a text over several lines looked like a list. Once more, whole.
		p.Faults, p.Warnings, p.jobs, p.left, p.whole = nil, nil, nil, maxTable, false
		clear(p.names)
		p.newYAML().read(text, nil)
	}
}

func (p *parser) newYAML() *cronYAML {
	r := &yamlnode.Reader{Lines: p.Lines, Report: p.fault, Spend: p.spend,
		Words: "schedule|command|name|url|timezone"}
	return &cronYAML{parser: p, Reader: r, jobKeys: slices.Collect(maps.Keys(jobKeys)),
		job: newJob(0, p.opt.Location), envs: map[ast.Node][]string{}}
}

// read reports whether all of it was YAML.
func (y *cronYAML) read(head string, jobs []part) bool {
	y.head(y.Tree(head), len(jobs) > 0)
	for _, c := range jobs {
		if y.full() {
			break
		}
		y.Shift = c.shift
		y.items(y.Tree(c.text))
	}
	return !y.Broken
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

// head reads the keys beside the jobs, and the jobs too where they were not cut out before.
func (y *cronYAML) head(n ast.Node, cut bool) {
	if n == nil {
		return
	}
	var list, other ast.Node
	for _, e := range y.Entries(pair{Value: n}) {
		switch {
		case e.Key == "version":
			y.versioned = true
			if t, ok := y.Scalar(e); ok && t != "1" {
				y.FaultAt(e.Value, "", "version %q is not known; expected 1", t)
			}
		case e.Key == "cron":
			list = e.Value
		case e.Key == "timezone":
			y.timezone(&y.job, e)
		case e.Key == "environments":
			y.environments(&y.job, e)
		case e.Key == "enabled":
			y.enabled(&y.job, e)
		case e.Key == "process_types":
			y.processTypes(&y.job, e)
		case e.Key == "group":
			y.fleetGroup(e)
		case strings.HasPrefix(e.Key, "x-"): // a place for anchors
		default:
			if other == nil {
				other = e.KeyNode
			}
			y.unknown(e, true,
				[]string{"version", "cron", "timezone", "environments", "enabled", "process_types", "group"})
		}
	}
	switch {
	case cut:
	case list != nil:
		y.items(list)
	case other != nil: // of another program, or with another name for the list
		y.FaultAt(other, "the jobs are a list below the key cron", "the file has no key cron")
	}
}

func (y *cronYAML) items(n ast.Node) {
	if n == nil {
		return
	}
	switch list := y.Resolve(n).(type) {
	case nil, *ast.NullNode:
	case *ast.SequenceNode:
		for _, n := range list.Values {
			y.item(n)
		}
	default:
		y.FaultAt(list, `each job begins with "- name: …"`, "cron must be a list of jobs")
	}
}

// item reads one job.
func (y *cronYAML) item(n ast.Node) {
	if y.full() {
		return
	}
	y.Merges, y.inJob = 20, true
	defer func() { y.inJob = false }()
	before := len(y.Faults)
	b := jobNodes{}
	j := y.job
	j.Line, _ = y.Place(n)
	entries := y.Entries(pair{Value: n})
	if len(entries) > 0 {
		j.Line, _ = y.Place(entries[0].KeyNode)
	}
	posted := slices.ContainsFunc(entries, func(e pair) bool { return e.Key == "url" })
	for _, e := range entries {
		read, ok := jobKeys[e.Key]
		if !ok {
			y.unknown(e, posted, y.jobKeys)
			continue
		}
		read(y, &j, &b, e)
	}
	if len(entries) > 0 {
		y.finish(&j, &b)
	}
	text := len(j.Name) + len(j.Expr) + len(j.Command) + len(j.URL) + len(j.Dir) + len(j.Lock) + len(j.Enabled)
	if y.parser.spend(jobBytes+text, j.Line, 1) && len(y.Faults) == before {
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
		y.FaultAt(b.lockScope, "add lock: NAME", "%s has a lock_scope and no lock", what)
	}
	switch {
	case b.command == nil && b.url == nil:
		fault("", "%s has neither command nor url", what)
	case b.command != nil && b.url != nil:
		y.FaultAt(b.url, "keep one", "%s has both command and url", what)
	}
	if b.url != nil && !y.versioned {
		y.versioned = true
		const text = "there is no version: 1, without which a worker tier refuses the deployment of this file"
		y.Warn(j.Line, y.indent(j.Line), "begin the file with it", text)
	}
	if b.schedule == nil {
		fault("", "%s has no schedule", what)
		return
	}
	if t, ok := y.Text(pair{Key: "schedule", Value: b.schedule, Free: true}); ok {
		t = strings.TrimSpace(t)
		line, col := y.Place(b.schedule)
		if k := y.Resolve(b.schedule).GetToken().Type; k == token.DoubleQuoteType || k == token.SingleQuoteType {
			col++
		}
		j.Expr = t
		j.Schedule, _ = y.schedule(when{t, j.Seconds, b.url != nil, j.Location}, line, col)
	}
}

// indent gives the column at which a line's text begins.
func (y *cronYAML) indent(line int) int {
	if line > len(y.Lines) || line < 1 {
		return 1
	}
	l := y.Lines[line-1]
	return len(l) - len(strings.TrimLeft(l, " -")) + 1
}

// maxUnknown is how many unknown keys of a file are compared with those that there are: a file has room for a million.
const maxUnknown = 1000

// unknown reports an unknown key. Where Beanstalk's daemon, or others, read the file too, a key that is like none of
// ours is theirs, and no fault.
func (y *cronYAML) unknown(e pair, shared bool, known []string) {
	if y.unknowns++; y.unknowns > maxUnknown {
		if !shared {
			y.FaultAt(e.KeyNode, "", "unknown key %q", e.Key)
		}
		return
	}
	if shared && yamlnode.Suggest(e.Key, known) == "" {
		line, column := y.Place(e.KeyNode)
		y.Warn(line, column, "", "key %q has no meaning here", e.Key)
		return
	}
	if ours := elsewhere[strings.ToLower(e.Key)]; slices.Contains(known, ours) {
		y.FaultAt(e.KeyNode, "did you mean "+ours+"?", "unknown key %q", e.Key)
		return
	}
	y.Unknown(e, known)
}

// elsewhere are other schedulers' words for our keys.
var elsewhere = map[string]string{
	"path": "url", "endpoint": "url", "uri": "url", "cmd": "command", "run": "command", "script": "command",
	"cron": "schedule", "expression": "schedule", "when": "schedule", "time": "schedule",
	"tz": "timezone", "zone": "timezone", "id": "name", "title": "name", "label": "name",
	"cwd": "dir", "workdir": "dir", "working_directory": "dir", "environment": "env", "jobs": "cron", "tasks": "cron",
	"schedules": "cron",
}
