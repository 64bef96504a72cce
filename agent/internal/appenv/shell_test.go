package appenv

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// herokuQuote is heroku/cli's src/lib/config/quote.ts, which writes the values of `heroku config -s`.
func herokuQuote(s string) string {
	if !regexp.MustCompile("[\"" + jsSpace + "#!$&'()*,:;<=>?@\\[\\\\\\]^`{|}]").MatchString(s) {
		return s
	}
	if !strings.ContainsAny(s, "'\n") {
		return "'" + s + "'"
	}
	s = regexp.MustCompile("([\"\\\\$`!])").ReplaceAllString(s, `\$1`)
	return `"` + strings.ReplaceAll(s, "\n", `\n`) + `"`
}

// FIELD.md E4: what a Heroku application has, through `heroku config -s` and back.
func TestParseShellReadsHerokusExport(t *testing.T) {
	want := map[string]string{"PLAIN": "abc-1.2/x+y%z~", "EMPTY": "", "URL": "postgres://u:p@h:5432/d?x=1&y=2", "DOLLAR": "$2y$10$abc", "QUOTE": "it's \"so\"",
		"KEY": "-----BEGIN KEY-----\nMII+/=\nabc\\n\n-----END-----\n", "BACK": `C:\new\table'`, "BANG": "wow!'", "TICK": "`id` $(id)'", "JSON": `{"a": "b'c", "d": "e\nf"}`, "HOME2": "~/x",
		"TAB": "a\tb", "CR": "a\rb", "HASH": "#x", "UTF": "Jörg ☃", "S": "''", "N": "\n", "W": "\u2028 \u00a0", "R": "\r'", "odd.name-x": "1"}
	var file strings.Builder
	for name, value := range want {
		file.WriteString(name + "=" + herokuQuote(value) + "\n")
	}
	for _, text := range []string{file.String(), "\ufeff" + strings.ReplaceAll(file.String(), "\n", "\r\n")} {
		f, err := ParseShell([]byte(text))
		if got := values(f); err != nil || !maps.Equal(got, want) {
			t.Errorf("got  %q, %v\nwant %q", got, err, want)
		}
	}
}

// shellCases are what dash and bash make of a file (TestParseShellAsTheShell asks), unless heroku means something else.
var shellCases = []struct {
	name, in, want, notes string
	heroku                bool
}{
	{"quotes of each kind", `A='x y'` + "\n" + `B="x y"z'w'\ v` + "\nC=x\\\ny\n", "A=x y|B=x yzw v|C=xy", "", false},
	{"escapes", `A="\$\"\\\x` + "\\`" + `"` + "\n" + `B='\$'` + "\n" + `C=\$\"\\\n` + "\n", "A=$\"\\\\x`|B=\\$|C=$\"\\n", "", false},
	{"lines in quotes", "A='x\ny'\nB=\"z\\\nw\nv\"\n", "A=x\ny|B=zw\nv", "", false},
	{"export", "export A=1\nexport B='2' C=3; D=4 # c\n\tE=5\n", "A=1|B=2|C=3|D=4|E=5", "", false},
	{"comments and #", "# c\nA=a#b # c\nB='x'#y\n", "A=a#b|B=x#y", "", false},
	{"dollars that are none", "A=\"a$\"\nB=$\nC=a$,b\nD=\"$ $%\"\n", "A=a$|B=$|C=a$,b|D=$ $%", "", false},
	{"the last counts", "A=1\nB=2\nA=3\n", "A=3|B=2", "", false},
	{"what a command line would not keep", "A={a,b}\nB=*\nC=a=b\nD=!\n", "A={a,b}|B=*|C=a=b|D=!", "", false},
	{"heroku's line end", `A="it's\n"` + "\n", "A=it's\n", "1:8", true},
	{"heroku's exclamation mark", `A="it's\!"` + "\n", "A=it's!", "1:8", true},
	{"heroku's home", "A=~/x\n", "A=~/x", "1:3", true},
	{"a name that no shell takes", "a.b-c=1\n", "a.b-c=1", "", true},
	{"what bash exports", "declare -x A=\"x\\\\y\"\ndeclare -x B\n", "A=x\\y", "", true}, // dash has no declare
}

func TestParseShell(t *testing.T) {
	for _, c := range shellCases {
		t.Run(c.name, func(t *testing.T) {
			f, err := ParseShell([]byte(c.in))
			if got := joined(f.Vars); err != nil || got != c.want || places(f.Notes) != c.notes {
				t.Errorf("got  %q, %v\n%v\nwant %q", got, err, f.Notes, c.want)
			}
		})
	}
}

// What needs a shell, and what is no assignment, is a fault with its place; all of them in one round.
func TestParseShellTellsAllFaults(t *testing.T) {
	for in, want := range map[string]string{
		"A=$B\nB=`id`\nC=\"x $(id)\"\nD=1 id\nE=a;id\nF=a&\nG=(1 2)\nH=x>y\nI=1\n": "1:3 2:3 3:6 4:5 5:5 6:4 7:3 8:4",
		"A=1\n=== app Config Vars\nB=$'x'\nset -a\nC+=1\nA B\n":                    "2:1 3:3 4:1 5:1 6:1",
		"A=\"${B}\"\nB=\"x\nC='1\n":                                                "1:4 2:3",
		"A='x\nB=2\n":                                                              "1:3",
		"A=\xff\nB=\x00\n":                                                         "1:3 2:3",
		"KEY:  value\n{\"A\": 1}\n":                                                "1:1 2:1",
	} {
		_, err := ParseShell([]byte(in))
		if faults, _ := err.(Faults); places(faults) != want {
			t.Errorf("%q: faults at %q, want %q:\n%v", in, places(faults), want, err)
		}
	}
}

// asShell is what sh exports after it has read the file.
func asShell(t *testing.T, sh, text string) map[string]string {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(sh, "-c", `set -a; . "$1"; exec /usr/bin/env -0`, "sh", path)
	cmd.Env = []string{"HOME=/"}
	out, err := cmd.Output()
	if err != nil {
		return nil
	}
	values := map[string]string{}
	for assignment := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if name, value, _ := strings.Cut(assignment, "="); name != "PWD" && name != "_" && name != "SHLVL" && name != "OLDPWD" && name != "HOME" {
			values[name] = value
		}
	}
	return values
}

func TestParseShellAsTheShell(t *testing.T) {
	var files []string
	for _, c := range shellCases {
		if !c.heroku {
			files = append(files, c.in)
		}
	}
	random := rand.New(rand.NewPCG(5, 6))
	words := []string{"x", "y", "'", "'", "\"", "\"", "\\", "\\", "$", "#", " ", "\t", ";", "!", "~", "{", "*", "=", "é", "\nB=", "\nexport C=", "'z w'", "\"v\""}
	for range 400 {
		file := "A="
		for range random.IntN(12) {
			file += words[random.IntN(len(words))]
		}
		files = append(files, file+"\n")
	}
	read := 0
	for _, in := range files {
		f, err := ParseShell([]byte(in))
		if err != nil || len(f.Notes) > 0 {
			continue // it needs a shell, or heroku means something else
		}
		if read++; !maps.Equal(asShell(t, "/bin/sh", in), values(f)) {
			t.Errorf("%q gives %q, sh %q", in, values(f), asShell(t, "/bin/sh", in))
		}
	}
	if read < len(files)/4 {
		t.Errorf("only %d of %d were read", read, len(files))
	}
}

// Whatever a value is, `heroku config -s` and ParseShell give it back; and no input makes it panic.
func FuzzParseShell(f *testing.F) {
	for _, c := range shellCases {
		f.Add(c.in)
	}
	f.Add("it's\\n!$`\"\\")
	f.Fuzz(func(t *testing.T, text string) {
		if file, err := ParseShell([]byte(text)); err == nil {
			checkVars(t, []byte(text), file)
		}
		if !utf8.ValidString(text) || strings.ContainsAny(text, "\x00") || strings.Contains(text, "\r\n") || len(text) > maxFuzzed {
			return
		}
		file, err := ParseShell(fmt.Appendf(nil, "A=%s\nB=1\n", herokuQuote(text)))
		if got := values(file); err != nil || got["A"] != text || got["B"] != "1" || len(got) != 2 {
			t.Errorf("%q came back as %q, %v", text, got, err)
		}
	})
}
