package appenv

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// ParseDocker reads data as `docker run --env-file` does: a line is NAME=value, and the value keeps its quotes and
// blanks; "#" begins a comment only at the start of a line; blanks before the name are removed. A name without "="
// would come from docker's own environment and is dropped. The error is [Faults], where docker would refuse the file.
//
// Source: the env-file reader of docker's command line.
func ParseDocker(data []byte) (File, error) {
	var file File
	var faults Faults
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	for n := 1; len(data) > 0; n++ {
		var raw []byte
		raw, data, _ = bytes.Cut(data, []byte{'\n'})
		line := strings.TrimLeft(strings.TrimSuffix(string(raw), "\r"), " \t\v\f\r\u0085\u00a0")
		if line == "" || line[0] == '#' {
			continue
		}
		v, f := dockerLine(line, n)
		switch {
		case f == nil:
			file.Vars = append(file.Vars, v)
		case f.fatal:
			faults = append(faults, f.Fault)
		default:
			file.Dropped = append(file.Dropped, f.Fault)
		}
	}
	file.Vars = merge(file.Vars)
	faults = append(faults, oversized(file.Vars)...)
	if len(faults) > 0 {
		return File{}, faults
	}
	return file, nil
}

func dockerLine(line string, n int) (Var, *lineFault) {
	name, value, found := strings.Cut(line, "=")
	v := Var{Name: name, Line: n, value: &value}
	problem := ""
	switch {
	case !utf8.ValidString(line):
		problem = "is not valid UTF-8; docker refuses the whole file"
	case strings.IndexByte(line, 0) >= 0:
		problem = "has a NUL byte; no process can be started with it"
	case name == "":
		problem = `"=" without a name before it; docker refuses the whole file`
	case strings.ContainsAny(name, " \t\v\f\r"):
		problem = "the name has a blank; docker refuses the whole file"
	case !found:
		problem = fmt.Sprintf(`%d bytes without "="; docker would take the value from its own environment`, len(line))
		return v, &lineFault{Fault{Line: n, Name: nameOnly(name), Problem: problem}, false}
	}
	if problem != "" {
		return v, &lineFault{Fault{Line: n, Name: nameOnly(name), Problem: problem}, true}
	}
	return v, nil
}
