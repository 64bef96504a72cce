package appenv

import (
	"bytes"
	"fmt"
	"slices"
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
	start := bytes.TrimLeft(bytes.TrimPrefix(data, []byte("\ufeff")), " \t\r\n")
	if format != "json" && (bytes.HasPrefix(start, []byte("{")) || bytes.HasPrefix(start, []byte("[{"))) {
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
