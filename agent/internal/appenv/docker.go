package appenv

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
	"unicode"
)

// ParseDocker reads data as `docker run --env-file` does: a line is NAME=value, and the value keeps its quotes and
// blanks; "#" begins a comment only at the start of a line; blanks before the name are removed. A name without "="
// would come from docker's own environment and is dropped. The error is [Faults], where docker would refuse the file:
// a byte that is not UTF-8 (in a comment, too), a line of 64 kB, a name with a blank or none.
//
// Source: the env-file reader of docker's command line (docker/cli pkg/kvfile), which reads lines by the same
// bufio.Scanner.
func ParseDocker(data []byte) (File, error) {
	var file File
	var faults Faults
	lines := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
	n := 1
	for ; lines.Scan(); n++ {
		text := lines.Text()
		line := strings.TrimLeftFunc(text, unicode.IsSpace)
		if i := invalidUTF8(text); i >= 0 {
			name, _, _ := strings.Cut(line, "=")
			_, column := place(text, i)
			faults = append(faults, Fault{Line: n, Column: column, Name: nameOnly(name),
				Problem: "is not valid UTF-8; docker refuses the whole file"})
			continue
		}
		if line == "" || line[0] == '#' {
			continue
		}
		v, f := dockerLine(line, n)
		if f != nil {
			_, column := place(text, len(text)-len(line))
			f.Column += column
		}
		switch {
		case f == nil:
			file.Vars = append(file.Vars, v)
		case f.fatal:
			faults = append(faults, f.Fault)
		default:
			file.Dropped = append(file.Dropped, f.Fault)
		}
	}
	if lines.Err() != nil {
		faults = append(faults, Fault{Line: n, Problem: fmt.Sprintf("the line has %d bytes or more; "+
			"docker refuses the whole file, and nothing after this line was read", bufio.MaxScanTokenSize)})
	}
	file.Vars = merge(file.Vars)
	faults = append(faults, oversized(file.Vars)...)
	if sortFaults(faults); len(faults) > 0 {
		return File{}, faults
	}
	return file, nil
}

// dockerLine reads one line. The column of its fault counts from 0.
func dockerLine(line string, n int) (Var, *lineFault) {
	name, value, found := strings.Cut(line, "=")
	v := Var{Name: name, Line: n, value: &value}
	fault := func(at int, fatal bool, problem string) (Var, *lineFault) {
		_, column := place(line, at)
		return v, &lineFault{Fault{Line: n, Column: column - 1, Name: nameOnly(name), Problem: problem}, fatal}
	}
	nul, blank := strings.IndexByte(line, 0), strings.IndexAny(name, " \t")
	switch {
	case nul >= 0:
		return fault(nul, true, nulProblem)
	case name == "":
		return fault(0, true, `"=" without a name before it; docker refuses the whole file`)
	case blank >= 0:
		return fault(blank, true, "the name has a blank; docker refuses the whole file")
	case !found:
		return fault(0, false,
			fmt.Sprintf(`%d bytes without "="; docker would take the value from its own environment`, len(line)))
	}
	return v, nil
}
