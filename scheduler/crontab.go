package scheduler

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"beanstalk-agent/scheduler/yamlnode"
)

// The grammar is that of crontab(5) as cronie has it, without the user column.
var (
	assignment = regexp.MustCompile(`^[ \t]*["']?([A-Za-z_][A-Za-z0-9_.-]*)["']?[ \t]*=[ \t]*(.*?)[ \t]*$`)
	halfQuoted = regexp.MustCompile(`^(?:"[^"]*(?:$|"[ \t]*[^ \t].*)|'[^']*(?:$|'[ \t]*[^ \t].*))$`)
	cronField  = regexp.MustCompile(`^([*?]|[0-9]+|(?i:sun|mon|tue|wed|thu|fri|sat)(-[a-z]+)?)([-/,][0-9*]+)*$`)
	program    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.+-]*$`)
	plainWord  = regexp.MustCompile(`^[A-Za-z][A-Za-z_.:-]*$`)
)

// maxWord bounds both of the last two. A count in the expression, {0,39}, would cost
// every start of the agent some 40 kB.
const maxWord = 40

// accounts are users that a line copied from /etc/crontab names between time and command: true where no program has
// that name, too.
var accounts = map[string]bool{
	"root": true, "webapp": true, "ec2-user": true, "www-data": true, "apache": true, "ubuntu": true, "nobody": true,
	"www": true, "debian": true, "centos": true, "bitnami": true,
	"nginx": false, "daemon": false, "deploy": false, "app": false,
}

// crontab is the part of the state that a line NAME=value changes for those below it.
type crontab struct {
	*parser
	env    []string
	shared bool // jobs have env, or the first part of it: it may grow, not change
	shell  string
	job    Job // the defaults of the next entry

	copies map[string]int // how many names got a number, by the name without it
}

func (p *parser) crontab() {
	c := &crontab{parser: p, job: newJob(0, p.opt.Location), copies: map[string]int{}}
	continued := false
	for i, line := range p.Lines {
		trimmed := strings.TrimLeft(line, " \t")
		if part := continued; part || trimmed == "" || trimmed[0] == '#' {
			continued = part && strings.HasSuffix(line, `\`)
			continue
		}
		if strings.HasPrefix(trimmed, "//") || trimmed[0] == ';' {
			c.inJob = true
			at := yamlnode.Column(line, len(line)-len(trimmed))
			c.fault(i+1, at, "begin it with #", "a comment of another language")
			c.inJob = false
			continue
		}
		if continued = strings.HasSuffix(line, `\`); continued {
			const hint = "write it on one line, or use cron.yaml"
			c.inJob = true
			c.fault(i+1, yamlnode.Column(line, len(line)-1), hint, "a crontab has no continued lines")
			c.inJob = false
			continue
		}
		if len(line) > maxLine {
			c.fault(i+1, 1, "put it into a script", "the line is %d bytes long, more than %d", len(line), maxLine)
			continue
		}
		if c.full() {
			return
		}
		if m := assignment.FindStringSubmatch(line); m != nil {
			at := yamlnode.Column(line, strings.LastIndex(line, m[2]))
			if c.isJob(m[2]) {
				const hint = "write the variable on a line of its own above"
				c.inJob = true
				c.fault(i+1, at, hint, "a job after %s= on its line, where cron reads a value", m[1])
				c.inJob = false
				continue
			}
			if halfQuoted.MatchString(m[2]) {
				const hint = "quote all of it, or nothing"
				c.fault(i+1, at, hint, "the value of %s does not end with the quote that it begins with", m[1])
				continue
			}
			c.assign(m[1], unquote(m[2]), i+1, at)
			continue
		}
		c.entry(line, i+1)
	}
}

// assign keeps NAME=value for the entries below.
func (c *crontab) assign(name, value string, line, col int) {
	switch name {
	case "CRON_TZ":
		if loc, ok := c.zone(value, line, col); ok {
			c.job.Location = loc
		}
		return
	case "MAILTO", "MAILFROM":
		c.Warn(line, 1, "see the key notify of cron.yaml", "%s has no effect: no mail is sent", name)
		return
	case "RANDOM_DELAY", "START_HOURS_RANGE":
		c.Warn(line, 1, "see the key splay of cron.yaml", "%s has no effect", name)
		return
	case "SHELL":
		c.shell = value
	case "PATH":
		const hint = "leave it out, or name the virtualenv's bin first"
		c.Warn(line, 1, hint, "PATH takes the place of the application's, also of its virtualenv")
	}
	if strings.ContainsAny(value, "$`") || value == "~" || strings.HasPrefix(value, "~/") {
		const hint = "write the value in full, or set the variable in the command"
		c.Warn(line, col, hint, "nothing is expanded in a crontab: the jobs below get %s as it is written", name)
	}
	kv := name + "=" + value
	if i := slices.IndexFunc(c.env, func(old string) bool { return strings.HasPrefix(old, kv[:len(name)+1]) }); i >= 0 {
		if c.shared {
			if !c.spend(textBytes*len(c.env), line, 1) {
				return
			}
			c.env, c.shared = slices.Clone(c.env), false
		}
		c.env = slices.Delete(c.env, i, i+1)
	}
	if !c.spend(textBytes+len(kv), line, 1) {
		return
	}
	if c.env = append(c.env, kv); len(c.env) > maxEnv {
		c.fault(line, 1, "", "more than %d variables", maxEnv)
		c.env = nil
	}
}

// entry reads one line of five fields, or a macro, and a command.
func (c *crontab) entry(line string, number int) {
	words, at := split(line)
	c.inJob = words[0] != "export" // the jobs below may need the variable
	defer func() { c.inJob = false }()
	if words[0] == "export" {
		const text = "a crontab is no shell script: export is no schedule"
		c.fault(number, yamlnode.Column(line, at[0]), "write NAME=value", "%s", text)
		return
	}
	n := 5
	if strings.HasPrefix(words[0], "@") {
		n = 1
		if words[0] == "@every" {
			n = 2
		}
	}
	fail := func(byteAt int, hint, format string, args ...any) {
		c.fault(number, yamlnode.Column(line, byteAt), hint, format, args...)
	}
	if len(words) <= n {
		before := len(c.Faults)
		if words[0] == "@reboot" || n == 5 {
			c.schedule(when{expr: strings.Join(words, " "), loc: c.job.Location}, number, yamlnode.Column(line, at[0]))
		}
		if len(c.Faults) > before {
			return // one fault per line is enough
		}
		fail(at[0], "a line is five fields or a macro, then the command", "there is no command after the schedule")
		return
	}
	j := c.job
	j.Line, j.Env = number, c.env[:len(c.env):len(c.env)]
	c.shared = true
	j.Expr = strings.Join(words[:n], " ")
	var ok bool
	j.Schedule, ok = c.spaced(when{expr: j.Expr, loc: j.Location}, number, line, at)
	switch {
	case ok && n == 5 && cronField.MatchString(words[5]):
		fail(at[0], "drop the first, or use cron.yaml with seconds: true", "six time fields where five are expected")
		return
	case ok && n == 1 && cronField.MatchString(words[1]):
		fail(at[1], "a macro stands for all five fields: drop it, or what follows",
			"a time field after the macro %s; an anacrontab is not read", words[0])
		return
	case len(words) > n+1 && (accounts[words[n]] || isHome(words[n+1], words[n])) && words[n+1][0] != '-':
		fail(at[n], "drop it: commands run as the application's user",
			"%q looks like the user column of /etc/crontab", words[n])
		return
	}
	if program, known := accounts[words[n]]; known && !program && len(words) > n+1 && words[n+1][0] != '-' {
		const hint = "if it is meant so, drop it: commands run as the application's user"
		c.Warn(number, yamlnode.Column(line, at[n]), hint,
			"%q is taken for the program, and not for the user column of /etc/crontab", words[n])
	}
	if words[n] == "-n" && len(words) > n+1 {
		c.Warn(number, yamlnode.Column(line, at[n]), "drop it", "-n before a command has no effect: no mail is sent")
		n++
	}
	command, wrong := commandOf(strings.TrimRight(line[at[n]:], " \t"))
	if wrong != nil {
		fail(at[n]+wrong.at, wrong.hint, "%s", wrong.message)
		return
	}
	c.checkText(command, number, yamlnode.Column(line, at[n]))
	c.checkShell(command, number, yamlnode.Column(line, at[n]))
	if c.shell != "" && c.shell != "/bin/sh" {
		j.Args = []string{c.shell, "-c", command}
		c.checkCommand(c.shell, number, yamlnode.Column(line, at[n]))
	} else {
		j.Command = command
	}
	if ok && c.spend(jobBytes+len(line), number, 1) {
		j.Name = c.nameFor(command)
		c.claimName(j.Name, number, 1)
		c.add(j)
	}
}

// isHome reports whether a path is in the home of a user of that name.
func isHome(path, user string) bool { return strings.HasPrefix(path, "/home/"+user+"/") }

// isJob reports whether a value without quotes around it all has a schedule and a command after its first word: cron
// takes all of it for the value, and runs nothing.
func (c *crontab) isJob(value string) bool {
	words := strings.Fields(value)
	if len(words) < 3 || unquote(value) != value {
		return false
	}
	from := 1
	for from < len(words) && strings.Contains(words[from], "=") {
		from++
	}
	n := 5
	if from < len(words) && words[from][0] == '@' {
		n = 1
	}
	if len(words) <= from+n {
		return false
	}
	_, wrongs, _ := parseExpr(when{expr: strings.Join(words[from:from+n], " "), loc: time.UTC})
	return len(wrongs) == 0
}

// spaced reads the schedule of a line whose words stand at the given bytes, so that its
// faults point into the line and not into the words joined by single blanks.
func (c *crontab) spaced(w when, number int, line string, at []int) (Schedule, bool) {
	before := len(c.Faults)
	s, ok := c.schedule(w, number, 1)
	for i := range c.Faults[before:] {
		f := &c.Faults[before+i]
		offset := f.Column - 1 // in w.expr
		word := strings.Count(w.expr[:min(offset, len(w.expr))], " ")
		inWord := offset - strings.LastIndex(w.expr[:min(offset, len(w.expr))], " ") - 1
		*f = c.At(number, yamlnode.Column(line, at[word]+inWord), f.Hint, f.Message)
	}
	return s, ok
}

// commandOf gives the command as cron hands it to the shell, or what cron would take otherwise.
func commandOf(s string) (command string, wrong *exprError) {
	if s[0] == '-' {
		return "", &exprError{0, "a command cannot begin with a hyphen, which is an option of cron's", ""}
	}
	for i := range len(s) {
		if s[i] == '%' && (i == 0 || s[i-1] != '\\') {
			const text = "cron would make % a line break and the rest standard input, which is not supported"
			return "", &exprError{i, text, `write \% for a percent sign, or use cron.yaml`}
		}
	}
	return strings.ReplaceAll(s, `\%`, "%"), nil
}

// unquote takes the quotes off a value that begins and ends with the same one.
func unquote(s string) string {
	if n := len(s); n >= 2 && (s[0] == '"' || s[0] == '\'') && s[n-1] == s[0] {
		return s[1 : n-1]
	}
	return s
}

// nameFor makes a job name from a command, since a crontab has none: from its first words,
// as long as they are plain, since the rest may be a secret. A second job of the same name
// gets -2. A name changes with the command, not with the line's place.
func (c *crontab) nameFor(command string) string {
	if i := strings.LastIndex(command, "&&"); i >= 0 {
		if before := command[:i]; strings.Contains(before, "=") && unclosed(before) {
			command = "" // it is part of a value
		} else {
			command = command[i+2:]
		}
	}
	var kept []string
	for _, word := range strings.Fields(command) {
		if len(kept) == 0 {
			if strings.Contains(word, "=") { // NAME=value before the command
				if unclosed(word) {
					break // the next word is more of the value
				}
				continue
			}
			word = path.Base(word)
		}
		good := plainWord.MatchString(word) || len(kept) == 0 && program.MatchString(word)
		if !good || len(word) > maxWord || len(kept) == 3 {
			break
		}
		kept = append(kept, word)
	}
	name := strings.Join(kept, "-")
	if checkName(name) != nil {
		name = "job"
	}
	for base := name; c.names[name] != 0; {
		c.copies[base]++
		name = base + "-" + strconv.Itoa(c.copies[base]+1)
	}
	return name
}

// unclosed reports whether a shell may read what follows s as more of its last word.
func unclosed(s string) bool {
	return strings.ContainsAny(s, "\\`") || strings.Count(s, `"`)%2 == 1 || strings.Count(s, "'")%2 == 1 ||
		strings.Count(s, "(") != strings.Count(s, ")") || strings.Count(s, "{") != strings.Count(s, "}")
}
