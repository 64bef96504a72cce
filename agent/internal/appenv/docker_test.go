package appenv

import (
	"bytes"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// dockerCases are what docker's own client 28.2.2 sent to a daemon for `docker create --env-file`, recorded. Where it
// refused the file, want is empty and faults has the places.
var dockerCases = []struct{ name, in, want, faults string }{
	{"values as they stand", "A='x' \"y\" # z \t\nB=\\n$C\n", `A='x' "y" # z ` + "\t|B=\\n$C", ""},
	{"comments, blanks, CRLF", "\ufeff# c\r\n\n  \t A=1\r\n#B=2\r\n", "A=1", ""},
	{"any name", "a.b-c=1\né=2\nA\vB=3\nA\u00a0B=4\n", "a.b-c=1|é=2|A\vB=3|A\u00a0B=4", ""},
	{"blanks of any kind before the name", "\u2003\u1680\u3000A=1\n\v\fB=2\n\u0085C=3\n\x1cD=4\n", "A=1|B=2|C=3|\x1cD=4", ""},
	{"a mark in a later line", "A=1\n\ufeffB=2\n", "A=1|\ufeffB=2", ""},
	{"empty value, equals in the value", "A=\nB=c=d\nC==\n", "A=|B=c=d|C==", ""},
	{"CR within a line", "A=1\r2\r\nB=3\r\r\n", "A=1\r2|B=3\r", ""},
	{"a name alone is docker's to fill", "A\nB=1\n", "B=1", ""},
	{"a line of 65535 bytes", "A=" + strings.Repeat("x", 65533) + "\nB=1\n", "A=" + strings.Repeat("x", 65533) + "|B=1", ""},
	{"a line of 65536 bytes", "A=" + strings.Repeat("x", 65534) + "\nB=1\n", "", "1:0"},
	{"a last line of 65536 bytes", "B=1\nA=" + strings.Repeat("x", 65534), "", "2:0"},
	{"a comment of 70000 bytes", "#" + strings.Repeat("x", 70000) + "\nB=1\n", "", "1:0"},
	{"a comment that is not UTF-8", "A=1\n# J\xf6rg\nB=1\n", "", "2:4"},
	{"a value that is not UTF-8", "A=J\xf6rg\n", "", "1:4"},
	{"a line without \"=\" that is not UTF-8", "\xff\n", "", "1:1"},
	{"no name", "=1\n", "", "1:1"},
	{"blanks in the name", "A B=1\nA\t=1\nexport C=1\n", "", "1:2 2:2 3:7"},
	{"a blank in a name alone", "A B\n", "", "1:2"},
}

func TestParseDocker(t *testing.T) {
	for _, c := range dockerCases {
		t.Run(c.name, func(t *testing.T) {
			f, err := ParseDocker([]byte(c.in))
			faults, _ := err.(Faults)
			if got := joined(f.Vars); got != c.want || places(faults) != c.faults {
				t.Errorf("got  %.99q, %v\nwant %.99q, faults at %s", got, err, c.want, c.faults)
			}
		})
	}
	f, err := ParseDocker([]byte("A=1\nB=2\nA=3")) // a process has one of each
	if got := joined(f.Vars); err != nil || got != "A=3|B=2" {
		t.Errorf("%q, %v", got, err)
	}
	// No process can be started with it, although docker's client sends it.
	if _, err := ParseDocker([]byte("A=1\nB=x\x00\n")); err == nil || places(err.(Faults)) != "2:4" {
		t.Error(err)
	}
}

// dockerReads is docker/cli's pkg/kvfile said in other words: whole lines, then the same questions in the same order.
func dockerReads(data []byte) (lines []string, ok bool) {
	for n, line := range bytes.SplitAfter(data, []byte("\n")) {
		if !utf8.Valid(line) || len(line) > 64<<10 || len(line) == 64<<10 && line[len(line)-1] != '\n' {
			return nil, false
		}
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		if n == 0 {
			line = bytes.TrimPrefix(line, []byte("\ufeff"))
		}
		s := strings.TrimLeftFunc(string(line), unicode.IsSpace)
		name, _, assigned := strings.Cut(s, "=")
		switch {
		case s == "" || s[0] == '#':
		case name == "" || strings.ContainsAny(name, " \t"):
			return nil, false
		case assigned:
			lines = append(lines, s)
		}
	}
	return lines, true
}

func FuzzParseDocker(f *testing.F) {
	for _, c := range dockerCases {
		f.Add([]byte(c.in))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		want, ok := dockerReads(data)
		file, err := ParseDocker(data)
		if bytes.IndexByte(data, 0) >= 0 { // docker's client sends it
			return
		}
		if ok != (err == nil) {
			t.Fatalf("%q: %v, docker takes it: %v", data, err, ok)
		}
		checkVars(t, data, file)
		var vars []Var
		for _, line := range want {
			name, value, _ := strings.Cut(line, "=")
			vars = append(vars, NewVar(name, value))
		}
		if got, want := joined(file.Vars), joined(merge(vars)); ok && got != want {
			t.Errorf("%q gave %q, docker reads %q", data, got, want)
		}
	})
}
