package appenv

import (
	"fmt"
	"slices"
	"strings"
)

// maxDotenvVars is the most that a .env file has, which its user can write, and a file of another program.
const maxDotenvVars = 5000

// ParseDotenv reads a .env file as python-dotenv does: a line that it does not read is dropped, and the next one is
// read. Where python-dotenv reads nothing, or reads on in another line, and Node's dotenv has a reading that leaves no
// doubt ("NAME: value", 'it's', "C:\\"), that one counts. A byte order mark is ignored. ${NAME} and ${NAME:-default}
// are replaced from the lines before; nothing else is. File.Notes says what other readers read otherwise. The error is
// [Faults]: bytes with which no process can be started, or more than the limits.
//
// The judge is python-dotenv, because its load_dotenv keeps what is set: a value of ours wins over its own reading.
func ParseDotenv(data []byte) (File, error) { return parseDotenv(data, nil) }

// parseDotenv takes the variables for ${NAME} that the file does not have from outer, which may be nil.
func parseDotenv(data []byte, outer func(name string) (string, bool)) (File, error) {
	if len(data) > maxTheirs {
		return File{}, Faults{tooLarge(data)}
	}
	if f := wrongEncoding(data); f != nil {
		return File{}, Faults{*f}
	}
	d := newDotenv(string(data), outer)
	for {
		st, problem, ok := d.next()
		if !ok {
			break
		}
		if d.read++; d.read > maxDotenvVars {
			d.fault(statement{}, st.at, tooManyVars)
			break
		}
		if problem != "" {
			d.drop(st, problem)
		} else if !d.assign(st) {
			break
		}
	}
	vars := slices.DeleteFunc(merge(d.vars), func(v Var) bool { return v.value == nil })
	d.faults = append(d.faults, oversized(vars)...)
	sortFaults(d.faults)
	sortFaults(d.notes)
	if len(d.faults) > 0 {
		return File{}, d.faults
	}
	return File{Vars: vars, Dropped: d.dropped, Notes: d.notes}, nil
}

// dotenv is a file that is being read.
type dotenv struct {
	dotenvScanner
	outer func(name string) (string, bool)

	read, size             int // statements, and bytes of their values
	values                 map[string]string
	vars                   []Var // without a value: not set
	faults, dropped, notes Faults
}

func newDotenv(text string, outer func(name string) (string, bool)) *dotenv {
	d := &dotenv{outer: outer, values: map[string]string{}}
	text, bom := strings.CutPrefix(text, "\ufeff")
	// Python opens files with universal newlines, and Node's dotenv replaces the same.
	d.init(strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n"))
	if bom {
		d.note(statement{}, 0, "the byte order mark is ignored, as Node's dotenv does; "+
			"python-dotenv takes it for a part of the first name")
	}
	if i := invalidUTF8(d.src); i >= 0 {
		d.note(statement{}, i, "is not valid UTF-8; python-dotenv refuses the whole file")
	}
	return d
}

// drop leaves a statement out. A name alone, without "=", takes away what the name had, as in python-dotenv.
func (d *dotenv) drop(st statement, problem string) {
	first, _ := d.seen.of(st.at)
	if last, _ := d.seen.of(d.pos); last > first {
		problem += fmt.Sprintf("; lines %d to %d are dropped", first, last)
	}
	d.dropped = append(d.dropped, d.at(st, st.faulty, problem))
	if st.alone != "" {
		d.values[st.alone] = ""
		d.vars = append(d.vars, Var{Name: st.alone})
	}
}

// assign adds a statement's variable. It reports false when nothing after it can be read.
func (d *dotenv) assign(st statement) bool {
	literal := d.literal(st)
	value, unset, ok := expand(literal, d.lookup, maxEnviron-d.size)
	d.size += len(value)
	switch {
	case !ok:
		d.fault(st, st.value, fmt.Sprintf("once each ${NAME} is replaced, the values up to here are more than %d "+
			"bytes; no process can be started with them", maxEnviron))
		return false
	case invalidUTF8(d.src[st.at:st.end]) >= 0:
		d.fault(st, st.at+invalidUTF8(d.src[st.at:st.end]), "is not valid UTF-8")
		return true
	case strings.IndexByte(st.name+value, 0) >= 0:
		d.fault(st, st.at, nulProblem)
		return true
	}
	d.values[st.name] = value
	d.vars = append(d.vars, Var{Name: st.name, Line: d.at(st, st.at, "").Line, value: &value})
	d.compare(st, literal)
	if unset >= 0 {
		d.note(st, st.value+max(0, strings.Index(d.src[st.value:st.end], "${")), "a variable in the value is set "+
			"neither in the lines before nor outside of the file; nothing stands in its place")
	}
	return true
}

// lookup finds a variable for ${NAME}.
func (d *dotenv) lookup(name string) (string, bool) {
	value, ok := d.values[name]
	if !ok && d.outer != nil {
		return d.outer(name)
	}
	return value, ok
}

// at returns a fault at an offset.
func (d *dotenv) at(st statement, offset int, problem string) Fault {
	line, column := d.seen.of(offset)
	return Fault{Line: line, Column: column, Name: nameOnly(st.name), Problem: problem}
}

func (d *dotenv) fault(st statement, offset int, problem string) {
	d.faults = append(d.faults, d.at(st, offset, problem))
}

func (d *dotenv) note(st statement, offset int, problem string) {
	d.notes = append(d.notes, d.at(st, offset, problem))
}
