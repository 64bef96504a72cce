package scheduler

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"beanstalk-agent/scheduler/yamlnode"
)

// A Fault is an error or a warning at one place of a cron file; Faults are all errors, in the order of its lines.
type (
	Fault  = yamlnode.Fault
	Faults = yamlnode.Faults
)

// Limits of a cron file, which the application's user can write.
const (
	maxFile  = 4 << 20 // ten thousand jobs are less than 2 MB
	maxLines = 400_000
	maxLine  = 16 << 10 // of a crontab
	maxJobs  = 10_000
	maxName  = 100
	maxEnv   = 500
	maxTable = 8 << 20 // of the jobs, references followed: see spend
)

// Sizes of parts of a table, rounded up.
const (
	jobBytes      = 320
	scheduleBytes = 80
	zoneBytes     = 6 << 10
	textBytes     = 16 // of a list, beside the text itself
)

// ParseOptions describe the host. The zero value serves where it is not known, as in cron check before a deployment.
type ParseOptions struct {
	// Location is the zone of jobs that name none. Optional: UTC.
	Location *time.Location

	// CheckCommand reports why a command cannot be found. It is called with the first word of
	// a list, and of a shell line that begins with an absolute path. Optional.
	CheckCommand func(name string) error

	// CheckDir reports why a job cannot start in dir. Optional.
	CheckDir func(dir string) error
}

// Parse reads a cron file: YAML when file ends in .yaml or .yml, else a crontab. It opens nothing: file is for its
// extension and for messages. The error is [Faults], all of them with their places. The table is then empty, or Partial
// where each fault is of one job alone: a job that runs is no reason to lose with another's typing error.
func Parse(file string, data []byte, opt ParseOptions) (Table, error) {
	if opt.Location == nil {
		opt.Location = time.UTC
	}
	p := &parser{
		Source:    yamlnode.Source{File: file},
		opt:       opt,
		zones:     map[string]*time.Location{},
		schedules: map[when]Schedule{},
		names:     map[string]int{},
		left:      maxTable,
	}
	p.parse(data)
	err := p.Err()
	if err != nil && p.whole {
		return Table{}, err
	}
	return p.table(err != nil), err
}

func (p *parser) table(partial bool) Table {
	return Table{Jobs: slices.Clone(p.jobs), Group: p.group, Warnings: p.Warnings.Sorted(), Partial: partial}
}

// parser is shared by both formats: it checks a job's parts, and collects jobs and faults.
// Zones and schedules are made once and shared between jobs.
type parser struct {
	unknowns int // keys of a cron.yaml that are unknown
	yamlnode.Source
	inJob bool // what is read now belongs to one job alone
	whole bool // a fault was not of one job alone: no job of the file can be taken

	opt       ParseOptions
	zones     map[string]*time.Location
	schedules map[when]Schedule
	names     map[string]int // line of each name
	jobs      []Job
	group     string
	left      int // bytes of maxTable; negative once it is exceeded
}

func (p *parser) parse(data []byte) {
	if len(data) > maxFile {
		p.fault(1, 1, "", "the file is %d bytes long, more than %d", len(data), maxFile)
		return
	}
	if n := bytes.Count(data, []byte("\n")); n > maxLines {
		p.fault(1, 1, "", "the file has %d lines, more than %d", n, maxLines)
		return
	}
	text, ok := p.Read(data)
	if !ok {
		p.whole = true
		return
	}
	switch strings.ToLower(path.Ext(strings.ReplaceAll(p.File, `\`, "/"))) {
	case ".yaml", ".yml":
		p.yaml(text)
	default:
		p.crontab()
	}
}

// fault adds an error at line and column, with a hint what to do about it.
func (p *parser) fault(line, column int, hint, format string, args ...any) {
	p.whole = p.whole || !p.inJob
	p.Fault(line, column, hint, format, args...)
}

// spend takes n bytes of the table's budget and reports whether they were left. Call it
// before the memory is allocated. A negative budget is a fault already, and ends parsing.
func (p *parser) spend(n, line, column int) bool {
	if p.left < 0 {
		return false
	}
	if p.left -= n; p.left < 0 {
		p.whole = true
		const hint = "a reference counts wherever it is used, " +
			"and all variables again where one is changed between two entries"
		p.fault(line, column, hint, "the jobs up to here take more than the %d MB that a cron file may", maxTable>>20)
	}
	return p.left >= 0
}

// full reports whether a limit of the table is exceeded, which is a fault already.
func (p *parser) full() bool { return p.left < 0 || len(p.jobs) > maxJobs }

// zone looks up the time zone named at line and column, once a file.
func (p *parser) zone(name string, line, column int) (*time.Location, bool) {
	if loc, ok := p.zones[name]; ok {
		return loc, true
	}
	if !p.spend(zoneBytes, line, column) {
		return nil, false
	}
	loc, err := time.LoadLocation(name)
	if err != nil || name == "" || name == "Local" {
		p.fault(line, column, "name it as the tz database does, such as Europe/Berlin or UTC",
			"unknown time zone %q", name)
		return nil, false
	}
	p.zones[name] = loc
	return loc, true
}

// schedule reads an expression that begins at line and column, and reports whether it is valid.
func (p *parser) schedule(w when, line, column int) (Schedule, bool) {
	if s, ok := p.schedules[w]; ok {
		return s, true
	}
	s, wrongs, warns := parseExpr(w)
	for _, x := range wrongs {
		p.fault(line, column+x.at, x.hint, "schedule %q%s", w.expr, x.message)
	}
	for _, x := range warns {
		p.Warn(line, column+x.at, x.hint, "schedule %q%s", w.expr, x.message)
	}
	if len(wrongs) > 0 || !p.spend(scheduleBytes, line, column) {
		return nil, false
	}
	if len(warns) == 0 {
		p.schedules[w] = s
	}
	return s, true
}

// checkCommand adds a fault when a command cannot be found on the host.
func (p *parser) checkCommand(name string, line, column int) {
	if p.opt.CheckCommand == nil || name == "" {
		return
	}
	if err := p.opt.CheckCommand(name); err != nil {
		p.fault(line, column, "", "command %q: %v", name, err)
	}
}

// checkText refuses a command whose first word has a character that only looks like a blank, a quote or a hyphen, since
// no program has it in its name, and warns of an invisible one anywhere else: it may be a text for people.
func (p *parser) checkText(command string, line, column int) {
	word, _, _ := strings.Cut(command, " ")
	if r, at := yamlnode.Odd(word); at >= 0 {
		column += utf8.RuneCountInString(word[:at])
		p.fault(line, column, "type it anew", "the command begins with %s", yamlnode.CharName(r))
	} else if at := strings.IndexFunc(command, yamlnode.IsInvisible); at >= 0 {
		r, _ := utf8.DecodeRuneInString(command[at:])
		p.Warn(line, column+utf8.RuneCountInString(command[:at]), "", "the command has %s", yamlnode.CharName(r))
	}
}

// checkShell does what checkCommand does for a shell line that begins with an absolute path.
func (p *parser) checkShell(command string, line, column int) {
	if !strings.HasPrefix(command, "/") {
		return
	}
	word, _, _ := strings.Cut(command, " ")
	if !strings.ContainsAny(word, "\t\n'\"\\$`;&|<>(){}*?[]~#=%") {
		p.checkCommand(word, line, column)
	}
}

// claimName takes a name, and reports whether it was free.
func (p *parser) claimName(name string, line, column int) bool {
	if first, taken := p.names[name]; taken {
		p.fault(line, column, "give each job a name of its own", "name %q is already taken in line %d", name, first)
		return false
	}
	p.names[name] = line
	return true
}

// add adds a job to the table.
func (p *parser) add(j Job) {
	if p.jobs = append(p.jobs, j); len(p.jobs) == maxJobs+1 {
		p.whole = true
		p.fault(j.Line, 1, "", "more than %d jobs", maxJobs)
	}
}

// checkName says why a name will not do: it becomes a metric's dimension, an argument
// of cron run, and part of the names of files and S3 objects.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("is empty")
	case len(name) > maxName:
		return fmt.Errorf("is longer than %d bytes", maxName)
	case strings.TrimSpace(name) != name:
		return errors.New("begins or ends with a blank")
	case strings.HasPrefix(name, "-"), strings.HasPrefix(name, "."):
		return fmt.Errorf("begins with %q", name[:1])
	case strings.Contains(name, "/"), strings.ContainsFunc(name, yamlnode.IsCommand):
		return errors.New("contains a slash or a control character")
	}
	return nil
}

// newJob gives a job with the defaults.
func newJob(line int, loc *time.Location) Job {
	return Job{Line: line, Location: loc, Backoff: DefaultBackoff, CatchUp: DefaultCatchUp, Grace: MinGrace}
}
