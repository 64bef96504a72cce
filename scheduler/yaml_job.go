package scheduler

import (
	"errors"
	"fmt"
	"math"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// jobKeys reads each key of a job. Values that depend on other keys go into jobNodes.
var jobKeys = map[string]func(*cronYAML, *Job, *jobNodes, pair){
	"name":          (*cronYAML).name,
	"schedule":      func(_ *cronYAML, _ *Job, b *jobNodes, e pair) { b.schedule = e.Value },
	"command":       (*cronYAML).command,
	"url":           (*cronYAML).url,
	"timezone":      func(y *cronYAML, j *Job, _ *jobNodes, e pair) { y.timezone(j, e) },
	"environments":  func(y *cronYAML, j *Job, _ *jobNodes, e pair) { y.environments(j, e) },
	"enabled":       func(y *cronYAML, j *Job, _ *jobNodes, e pair) { y.enabled(j, e) },
	"process_types": func(y *cronYAML, j *Job, _ *jobNodes, e pair) { y.processTypes(j, e) },
	"dir":           (*cronYAML).dir,
	"env":           func(y *cronYAML, j *Job, _ *jobNodes, e pair) { j.Env = y.sharedEnv(e) },
	"notify":        func(y *cronYAML, j *Job, _ *jobNodes, e pair) { j.Notify, _ = y.Texts(e) },
	"lock":          func(y *cronYAML, j *Job, _ *jobNodes, e pair) { j.Lock, _ = y.Text(e) },
	"grace":         (*cronYAML).grace,
	"timeout":       func(y *cronYAML, j *Job, _ *jobNodes, e pair) { j.Timeout = y.duration(e, 0) },
	"backoff":       func(y *cronYAML, j *Job, _ *jobNodes, e pair) { j.Backoff = y.duration(e, DefaultBackoff) },
	"splay":         func(y *cronYAML, j *Job, _ *jobNodes, e pair) { j.Splay = y.duration(e, 0) },
	"catch_up":      (*cronYAML).catchUp,
	"retries":       func(y *cronYAML, j *Job, _ *jobNodes, e pair) { j.Retries = y.number(e, 100) },
	"max_output":    func(y *cronYAML, j *Job, _ *jobNodes, e pair) { j.MaxOutput = y.size(e) },
	"seconds":       func(y *cronYAML, j *Job, _ *jobNodes, e pair) { j.Seconds, _ = y.Boolean(e) },
	"retry_on_loss": func(y *cronYAML, j *Job, _ *jobNodes, e pair) { j.RetryOnLoss, _ = y.Boolean(e) },
	"on":            func(y *cronYAML, j *Job, _ *jobNodes, e pair) { j.On = On(y.choice(e, 0, "", "one", "all")) },
	"overlap": func(y *cronYAML, j *Job, _ *jobNodes, e pair) {
		j.Overlap = Overlap(y.choice(e, 0, "skip", "queue", "replace", "allow"))
	},
	"on_claim_error": func(y *cronYAML, j *Job, _ *jobNodes, e pair) {
		j.OnClaimError = ClaimError(y.choice(e, 0, "skip", "run"))
	},
	"on_owner_loss": func(y *cronYAML, j *Job, _ *jobNodes, e pair) {
		j.OnOwnerLoss = OwnerLoss(y.choice(e, 0, "report", "rerun"))
	},
	"lock_scope": func(y *cronYAML, j *Job, b *jobNodes, e pair) {
		b.lockScope = e.Value
		j.LockScope = LockScope(y.choice(e, 0, "host", "environment"))
	},
}

func (y *cronYAML) name(j *Job, b *jobNodes, e pair) {
	b.named = true
	t, ok := y.Text(e)
	if !ok {
		return
	}
	if err := checkName(t); err != nil {
		y.FaultAt(e.Value, "", "name %q %v", t, err)
		return
	}
	line, col := y.Place(e.Value)
	if y.claimName(t, line, col) {
		j.Name = t
	}
}

func (y *cronYAML) command(j *Job, b *jobNodes, e pair) {
	b.command, e.Free = e.Value, true
	v := y.Resolve(e.Value)
	line, col := y.Place(v)
	if list, ok := v.(*ast.SequenceNode); ok {
		args, ok := y.Texts(e)
		switch {
		case !ok:
		case len(args) == 0 || args[0] == "":
			y.FaultAt(list, "", "command is an empty list")
		default:
			j.Args = args
			line, col = y.Place(y.Resolve(list.Values[0]))
			y.checkCommand(args[0], line, col)
		}
		return
	}
	t, ok := y.Text(e)
	if ok && strings.TrimSpace(t) == "" {
		y.FaultAt(e.Value, "", "command is empty")
		return
	}
	j.Command = t
	if ok && v.GetToken().Type == token.StringType && line <= len(y.Lines) {
		y.noteComment(line, y.Lines[line-1])
	}
	y.checkText(t, line, col)
	y.checkShell(t, line, col)
}

// noteComment warns where a # without a blank after it ends a command: echo #5 prints an empty line.
func (y *cronYAML) noteComment(number int, line string) {
	before, after, found := strings.Cut(line, " #")
	if after = strings.TrimLeft(after, "#"); found && after != "" && after[0] != ' ' {
		const hint = "quote the command, if this is a part of it"
		y.Warn(number, utf8.RuneCountInString(before)+2, hint, "a comment begins here")
	}
}

func (y *cronYAML) url(j *Job, b *jobNodes, e pair) {
	b.url = e.Value
	t, ok := y.Text(e)
	if ok && (!strings.HasPrefix(t, "/") || strings.ContainsAny(t, " \t\n")) {
		y.FaultAt(e.Value, "such as /tasks/nightly; another server is reached with command: curl …",
			"url must be a path of the application that begins with a slash")
		return
	}
	j.URL = t
}

func (y *cronYAML) timezone(j *Job, e pair) {
	t, ok := y.Text(e)
	if !ok {
		return
	}
	line, col := y.Place(e.Value)
	if loc, ok := y.zone(t, line, col); ok {
		j.Location = loc
	}
}

func (y *cronYAML) environments(j *Job, e pair) {
	patterns, ok := y.Texts(e)
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil || p == "" && ok {
			y.FaultAt(e.Value, "such as [prod-*]", "environments: %q is no pattern", p)
		}
	}
	j.Environments = patterns
}

func (y *cronYAML) enabled(j *Job, e pair) {
	t, ok := y.Scalar(e)
	if !ok {
		return
	}
	if err := checkEnabled(t); err != nil {
		y.FaultAt(e.Value, "true, false, or ${NAME:-true}", "enabled %v", err)
		return
	}
	j.Enabled = t
}

func (y *cronYAML) dir(j *Job, _ *jobNodes, e pair) {
	t, ok := y.Text(e)
	if !ok || t == "" {
		return
	}
	j.Dir = t
	if y.opt.CheckDir == nil {
		return
	}
	if err := y.opt.CheckDir(t); err != nil {
		y.FaultAt(e.Value, "", "dir %q: %v", t, err)
	}
}

// variable is a name that a process can be given; a shell reads one with a hyphen or a dot as no variable.
var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

// sharedEnv reads an environment, or gives the one that an earlier reference to it gave.
func (y *cronYAML) sharedEnv(e pair) []string {
	if _, ok := e.Value.(*ast.AliasNode); !ok {
		return y.env(e)
	}
	before := len(y.Faults)
	to := y.Resolve(e.Value)
	env, ok := y.envs[to]
	if !ok && to != nil {
		if env = y.env(e); len(y.Faults) == before {
			y.envs[to] = env
		}
	}
	return env
}

// env reads NAME: value pairs, or a list of NAME=value. No message contains a value.
func (y *cronYAML) env(e pair) (env []string) {
	v := y.Resolve(e.Value)
	if v == nil {
		return nil
	}
	if _, ok := v.(*ast.SequenceNode); ok {
		e.Free = true
		env, ok = y.Texts(e)
		for _, kv := range env {
			if name, _, found := strings.Cut(kv, "="); ok && (!found || !variable.MatchString(name)) {
				y.FaultAt(v, "", "each of env must be NAME=value")
			}
		}
		return env
	}
	for _, kv := range y.Entries(e) {
		if !variable.MatchString(kv.Key) {
			const hint = "letters, digits, _, . and - only"
			y.FaultAt(kv.KeyNode, hint, "env: %q cannot be the name of a variable", kv.Key)
		}
		kv.Free = true
		value, ok := y.Scalar(kv)
		line, col := y.Place(kv.Value)
		if !y.parser.spend(len(kv.Key)+len(value)+32, line, col) {
			return env
		}
		if ok {
			env = append(env, kv.Key+"="+value)
		}
	}
	return env
}

func (y *cronYAML) catchUp(j *Job, _ *jobNodes, e pair) {
	if v, ok := y.Resolve(e.Value).(*ast.BoolNode); ok {
		j.CatchUp = 0
		if v.Value {
			j.CatchUp = CatchUpAlways
		}
		return
	}
	j.CatchUp = y.duration(e, DefaultCatchUp)
}

// duration reads a length of time, or gives def for a faulty one.
func (y *cronYAML) duration(e pair, def time.Duration) time.Duration {
	if d, ok := y.Duration(e); ok {
		return d
	}
	return def
}

func (y *cronYAML) number(e pair, most int) int {
	t, ok := y.Scalar(e)
	n, err := strconv.Atoi(t)
	if ok && (err != nil || n < 0 || n > most) {
		y.FaultAt(e.Value, "", "%s %q must be a number from 0 to %d", e.Key, t, most)
		return 0
	}
	return n
}

var sizeUnits = map[string]int64{
	"": 1, "b": 1, "k": 1 << 10, "kib": 1 << 10, "kb": 1000, "m": 1 << 20, "mib": 1 << 20, "mb": 1000 * 1000,
	"g": 1 << 30, "gib": 1 << 30, "gb": 1000 * 1000 * 1000,
}

func (y *cronYAML) size(e pair) int64 {
	t, ok := y.Scalar(e)
	if !ok {
		return 0
	}
	n, err := parseSize(t)
	if err != nil {
		y.FaultAt(e.Value, "such as 512kB, 10MB or 1GiB", "%s %v", e.Key, err)
	}
	return n
}

func parseSize(s string) (int64, error) {
	end := len(s) - len(strings.TrimLeft(s, "0123456789"))
	unit, known := sizeUnits[strings.ToLower(strings.TrimSpace(s[end:]))]
	n, err := strconv.ParseInt(s[:end], 10, 64)
	if err != nil || !known || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is not a number of bytes", s)
	}
	return n * unit, nil
}

// choice gives the index of a word in a list, or def for a faulty one.
func (y *cronYAML) choice(e pair, def int, words ...string) int {
	t, ok := y.Text(e)
	if !ok {
		return def
	}
	var known []string
	for i, w := range words {
		if w == t && w != "" {
			return i
		}
		if w != "" {
			known = append(known, w)
		}
	}
	y.FaultAt(e.Value, "one of "+strings.Join(known, ", "), "%s %q is not known", e.Key, t)
	return def
}

var reference = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}`)

// checkEnabled says what is wrong with the value of enabled, as far as is known without the environment.
func checkEnabled(s string) error {
	bare := reference.ReplaceAllString(s, "")
	switch {
	case strings.ContainsAny(bare, "${}"):
		return fmt.Errorf("%q is not a reference to a variable", s)
	case bare != s:
		return nil
	}
	_, err := truth(s)
	return err
}

// truth reads the usual words for yes and no.
func truth(s string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "", "true", "yes", "on", "1":
		return s != "", nil
	case "false", "no", "off", "0":
		return false, nil
	}
	return false, errors.New("is neither true nor false")
}
