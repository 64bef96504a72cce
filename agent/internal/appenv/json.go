package appenv

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"unicode/utf8"
)

// ParseJSON reads one JSON object of strings, as `heroku config --json` and `agent env --json` print it. The error is
// [Faults]: all values that are no strings, or the place where the text is no JSON. Of a name's values the last counts.
func ParseJSON(data []byte) (File, error) {
	if len(data) > maxTheirs {
		return File{}, Faults{tooLarge(data)}
	}
	d := jsonFile{text: strings.TrimPrefix(string(data), "\ufeff")}
	d.seen.text = d.text
	d.dec = json.NewDecoder(strings.NewReader(d.text))
	if i := invalidUTF8(d.text); i >= 0 {
		d.fault(i, "", "is not valid UTF-8") // the decoder would replace it
	} else {
		d.object()
	}
	vars := merge(d.vars)
	if d.faults = append(d.faults, oversized(vars)...); len(d.faults) > 0 {
		return File{}, d.faults
	}
	return File{Vars: vars}, nil
}

type jsonFile struct {
	text   string
	seen   placer // in text
	read   int    // members
	dec    *json.Decoder
	vars   []Var
	faults Faults
}

const expectedJSON = "expected one JSON object of strings, as `heroku config --json` prints it, found "

func (d *jsonFile) object() {
	at := d.start()
	switch t, err := d.dec.Token(); {
	case err != nil:
		d.broken(err)
		return
	case t != json.Delim('{'):
		d.fault(at, "", expectedJSON+kind(d.text[at]))
		return
	}
	for d.dec.More() {
		if !d.member() {
			return
		}
	}
	if _, err := d.dec.Token(); err != nil {
		d.broken(err)
		return
	}
	at = d.start()
	if _, err := d.dec.Token(); err != io.EOF {
		d.fault(at, "", expectedJSON+"more after it")
	}
}

// member reads one name and value, and reports whether another can follow.
func (d *jsonFile) member() bool {
	at := d.start()
	if d.read++; d.read > maxDotenvVars {
		d.fault(at, "", tooManyVars)
		return false
	}
	t, err := d.dec.Token()
	if err != nil {
		d.broken(err)
		return false
	}
	name, _ := t.(string) // a decoder takes nothing else there
	valueAt := d.start()
	var raw json.RawMessage
	if err := d.dec.Decode(&raw); err != nil {
		d.broken(err)
		return false
	}
	var value string
	switch err := json.Unmarshal(raw, &value); {
	case err != nil || raw[0] != '"':
		d.fault(valueAt, name, "expected a string, found "+kind(raw[0]))
	case name == "" || strings.ContainsAny(name, "=\x00"):
		d.fault(at, "", "the name is empty or has a \"=\" or NUL; no process can be started with it")
	case strings.IndexByte(value, 0) >= 0:
		d.fault(valueAt, name, nulProblem)
	case lostSurrogate(value, raw):
		d.fault(valueAt, name, "has half of a surrogate pair, which is no character")
	default:
		line, _ := d.seen.of(at)
		d.vars = append(d.vars, Var{Name: name, Line: line, value: &value})
	}
	return true
}

// lostSurrogate reports whether the decoder has replaced a part of raw, which is valid UTF-8.
func lostSurrogate(value string, raw []byte) bool {
	return strings.Count(value, string(utf8.RuneError)) >
		bytes.Count(raw, []byte(string(utf8.RuneError)))+bytes.Count(bytes.ToLower(raw), []byte(`\ufffd`))
}

// start returns the offset of the next token.
func (d *jsonFile) start() int {
	i := int(d.dec.InputOffset())
	return i + len(d.text[i:]) - len(strings.TrimLeft(d.text[i:], " \t\r\n,:"))
}

// broken is the fault of text that is no JSON. The decoder's own error may quote it.
func (d *jsonFile) broken(err error) {
	at := int(d.dec.InputOffset())
	if syntax, ok := err.(*json.SyntaxError); ok {
		at = max(at, int(syntax.Offset)-1)
	}
	problem := "is not JSON from here on"
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		at, problem = len(d.text), "the JSON ends early"
	}
	d.fault(at, "", problem)
}

func (d *jsonFile) fault(at int, name, problem string) {
	line, column := d.seen.of(at)
	d.faults = append(d.faults, Fault{Line: line, Column: column, Name: nameOnly(name), Problem: problem})
}

// kind names the JSON value that begins with c.
func kind(c byte) string {
	switch c {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	}
	return "a number"
}
