package appenv

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// formats are the grammars of a file, by the name that --format takes.
var formats = map[string]func(data []byte) (File, error){
	"systemd":     func(data []byte) (File, error) { return ParseSystemd(data, AmazonLinux2023) },
	"systemd-219": func(data []byte) (File, error) { return ParseSystemd(data, AmazonLinux2) },
	"dotenv":      ParseDotenv,
	"docker":      ParseDocker,
	"shell":       ParseShell,
	"json":        ParseJSON,
}

// Parse reads data in the named format: "systemd" (Amazon Linux 2023's), "systemd-219" (Amazon Linux 2's), "dotenv",
// "docker", "shell" or "json". Data of which nothing can be read in that format is a fault, not an empty file.
func Parse(format string, data []byte) (File, error) {
	parse, ok := formats[format]
	if !ok {
		return File{}, fmt.Errorf("unknown format %q: expected systemd, dotenv, docker, shell or json "+
			"(or systemd-219, Amazon Linux 2's)", format)
	}
	if len(data) > MaxFile {
		return File{}, Faults{{Problem: fmt.Sprintf("has more than %d bytes", MaxFile)}}
	}
	if f := wrongEncoding(data); f != nil {
		return File{}, Faults{*f}
	}
	if start := bytes.TrimLeft(bytes.TrimPrefix(data, []byte("\ufeff")), " \t\r\n"); format != "json" && len(start) > 0 &&
		(start[0] == '{' || bytes.HasPrefix(start, []byte("[{"))) {
		line, column := place(string(data), len(data)-len(start))
		return File{}, Faults{{Line: line, Column: column, Problem: "is JSON, which --format json reads"}}
	}
	file, err := parse(data)
	if err == nil && len(file.Vars) == 0 && len(file.Dropped) > 0 {
		return File{}, append(slices.Clip(file.Dropped), Fault{Line: file.Dropped[0].Line,
			Problem: fmt.Sprintf("no line of the file is a variable in the format %s", format)})
	}
	return file, err
}

// MaxFile is how many bytes of a file Parse is given at most.
const MaxFile = maxFile

// In returns the file with path as the File of its faults.
func (f File) In(path string) File {
	f.Dropped, f.Notes = f.Dropped.In(path), f.Notes.In(path)
	return f
}

// tooLarge is the fault of more bytes than a file of the application's user has.
func tooLarge(data []byte) Fault {
	return Fault{Problem: fmt.Sprintf("has %d bytes, at most %d are read", len(data), maxTheirs)}
}

// wrongEncoding is the fault of a file that has two bytes for each character, as Windows PowerShell writes it.
func wrongEncoding(data []byte) *Fault {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return &Fault{Line: 1, Column: 1, Problem: "is UTF-16, not UTF-8: save it as UTF-8"}
	}
	return nil
}

// invalidUTF8 returns the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(s string) int {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// place returns the line of an offset and its column in characters, both from 1.
func place(text string, offset int) (line, column int) {
	before := text[:min(offset, len(text))]
	start := strings.LastIndexByte(before, '\n') + 1
	return 1 + strings.Count(before, "\n"), 1 + utf8.RuneCountInString(before[start:])
}

// sortFaults puts faults in the order of their places.
func sortFaults(faults Faults) {
	slices.SortStableFunc(faults, func(a, b Fault) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
}
