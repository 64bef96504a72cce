package appenv

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// parseProperties reads the output of `get-config environment`: one flat JSON object of strings. A property whose name
// is no variable is dropped, as systemd drops it: the web process does not have it.
func parseProperties(data []byte) (File, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return File{}, errors.New("expected a JSON object of strings")
	}
	var file File
	for dec.More() {
		name, value, err := property(dec)
		if err != nil {
			return File{}, err
		}
		v := NewVar(name, value)
		f := checkSystemd(v, AmazonLinux2023)
		if f == nil && bytes.IndexByte([]byte(value), 0) >= 0 {
			f = &lineFault{Fault{Name: nameOnly(name), Problem: nulProblem}, true}
		}
		switch {
		case f == nil:
			file.Vars = append(file.Vars, v)
		case f.fatal:
			return File{}, Faults{f.Fault}
		default:
			file.Dropped = append(file.Dropped, f.Fault)
		}
	}
	if _, err := dec.Token(); err != nil {
		return File{}, fmt.Errorf("the JSON object ends early, after %d bytes", dec.InputOffset())
	}
	if _, err := dec.Token(); err != io.EOF {
		return File{}, fmt.Errorf("something follows the JSON object, after %d bytes", dec.InputOffset())
	}
	file.Vars = merge(file.Vars)
	if faults := oversized(file.Vars); len(faults) > 0 {
		return File{}, faults
	}
	return file, nil
}

// property reads one member. Its errors give an offset, never text.
func property(dec *json.Decoder) (name, value string, err error) {
	for _, into := range []*string{&name, &value} {
		t, err := dec.Token()
		if err != nil {
			return "", "", fmt.Errorf("expected a JSON object of strings, broken after %d bytes", dec.InputOffset())
		}
		s, ok := t.(string)
		if !ok {
			return "", "", fmt.Errorf("expected a string, found another JSON value after %d bytes", dec.InputOffset())
		}
		*into = s
	}
	return name, value, nil
}
