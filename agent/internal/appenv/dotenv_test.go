package appenv

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/joho/godotenv"

	"beanstalk-agent/packaging/testbed/gotool"
)

// dotenvCases are files with the right values: those of python-dotenv 1.2.2, recorded, unless the case says why not.
// TestDotenvAsPythonDotenv asks the real one. notes are the columns of File.Notes, dropped those of File.Dropped.
var dotenvCases = []struct {
	name, in, want string
	notes, dropped string
	ours           string // why python-dotenv reads something else
}{
	// FIELD.md E1 and its neighbours.
	{"a comment with two #", "KEY=value # see issue #12\n", "KEY=value", "", "", ""},
	{"a comment with a tab", "KEY=value\t# a # b # c\nB=x  #\n", "KEY=value|B=x", "", "", ""},
	{"# in a value", "P=a#b\nQ='a # b'\nR=a#b # c\n", "P=a#b|Q=a # b|R=a#b", "1:4 3:4", "", ""},
	{"# at the beginning", "A= # off\nB=#bar\nC=\n", "A=# off|B=#bar|C=", "1:4 2:3", "", ""},
	{"an escaped quote at the end", `PASSWORD="abvd\""` + "\nB=2\n", `PASSWORD=abvd"|B=2`, "1:15", "", ""},
	{"escaped quotes at both ends", `J="\"x\""` + "\n" + `K='\'y\''` + "\n", `J="x"|K='y'`, "1:4 2:4", "", ""},
	{"JSON in a value", `J={"a": "b # c", "d": [1]}` + "\n" + `K="{\"a\": \"b\"}"` + "\n", `J={"a": "b|K={"a": "b"}`, "2:5", "", ""},
	{"quotes within other quotes", `A='"x"'` + "\n" + `B="'y'"` + "\n", `A="x"|B='y'`, "", "", ""},
	{"dollars", "H=$2y$10$abcdefghij\nB=1\nA=\"${B} $B\"\nC=$B\n", "H=$2y$10$abcdefghij|B=1|A=1 $B|C=$B", "1:3 3:9 4:3", "", ""},
	{"dollars that name nothing", "A=$\nB=a$ b\nC=$(date)\nD=\"$\"\nE=100$\n", "A=$|B=a$ b|C=$(date)|D=$|E=100$", "3:3", "", ""},
	{"a default", "U=postgres://${PGUSER:-postgres}@db\n", "U=postgres://postgres@db", "", "", ""},
	{"more defaults", "B=b\nA=${B:-x}${C:-}${D:-y:-z}${B}\nE=${F:-a b} # c\n", "B=b|A=by:-zb|E=a b", "", "", ""},
	{"a default is no shell's", "B=\nA=${B:-x}\nC=${D:-${B}}\nE=${B:x}\n", "B=|A=|C=${B}|E=${B:x}", "", "", ""},
	{"braces that do not close", "B=b\nA=${B\nC=${}x\nD=$${B}\n", "B=b|A=${B|C=x|D=$b", "3:3", "", ""},
	{"a variable that is not set", "A=${NONE}x\nB='${NONE}'\n", "A=x|B=", "1:3 2:4 2:4", "", ""},
	{"later lines", "A=${B}\nB=1\nA2=${B}\nB=2\n", "A=|B=2|A2=1", "1:3", "", ""},
	{"a backslash at the end", `F="bar\\"` + "\nG=x\n", `F=bar\|G=x`, "1:7", "", ""},
	{"a backslash at the end, and a quote later", `F="C:\\dir\\"` + "\n" + `G="x"` + "\n", `F=C:\dir\|G=x`, "1:6 1:13", "", "python-dotenv reads on to the next quote and then drops both"},
	{"the same in single quotes", `F='C:\\'` + "\nG='x'\n", `F=C:\|G=x`, "1:6 1:8", "", "python-dotenv reads on"},
	{"escapes", `A="a\nb\tc\\n"` + "\n" + `B='a\nb\'c'` + "\n" + `C=a\nb\` + "\n", "A=a\nb\tc\\n|B=a\\nb'c|C=a\\nb\\", "1:8 2:8", "", ""},
	{"escapes that are none", `A="\$B \d \! \` + "`" + `"` + "\n" + `B="\x41"` + "\n", `A=\$B \d \! \` + "`" + `|B=\x41`, "1:4 1:5", "", ""},
	{"single quotes and braces", "B=1\nA='${B} $B'\n", "B=1|A=1 $B", "2:4", "", ""},
	// E2 and its neighbours.
	{"a byte order mark", "\ufeffA=1\nB=2\n", "A=1|B=2", "1:1", "", "python-dotenv's first name has the mark"},
	{"names that are no shell's", "A-B=1\na.b=2\n1X=3\né=4\n\"Q\"=5\nX/Y:Z=6\n", "A-B=1|a.b=2|1X=3|é=4|\"Q\"=5|X/Y:Z=6", "4:1 5:1 6:1", "", ""},
	{"quoted names", "'A B'=1\n'C' = 2\n''=3\n", "A B=1|C=2", "1:1 2:1", "3:1", ""},
	{"one odd line", "A=1\nFOO BAR=2\n=3\nC\nB=4\n", "A=1|B=4", "", "2:5 3:1 4:1", ""},
	{"shell lines", "#!/bin/sh\nset -a\nexport A=1\nexport B\nexport C D\n", "A=1", "", "2:5 4:8 5:10", ""},
	{"export as a name", "export=1\nexport =2\nexporter=3\nexport\tX=4\nexport # x\n", "export=1|exporter=3|X=4", "", "2:8", ""},
	{"a name alone takes the value away", "A=1\nB=2\nA\nC=${A:-x}\n", "B=2|C=", "", "3:1", ""},
	{"a quote that is not closed", "A=1\nS=\"abc\nB=2\n", "A=1|B=2", "", "2:3", ""},
	{"a quote that the next one closes", "S=\"abc\nB=2\nC=\"x\"\nD=4\n", "D=4", "", "3:4", ""},
	{"text after a quote", "A=\"x\" B=2\nC='x'y\nD=\"x\" # c\nE=\"x\"#c\n", "D=x|E=x", "", "1:7 2:6", ""},
	{"quotes within quotes", "A='it's'\nB=\"5\" nails\"\nC='C:\\'\nD='x'\n", "A=it's|B=5\" nails|C=C:\\|D=x", "1:3 2:3 3:3", "", "python-dotenv drops the lines, Node's dotenv reads them so"},
	{"quotes that a shell reads (python-dotenv#544)", "A='I'\"'\"'m'\nB='it'\\''s'\nC=\"say \"hi\"\"\nD=\"http://a\",\"http://b\"\nE=\"x\" \"y\"\nF=1\n", "F=1", "", "1:6 2:7 3:9 4:13 5:7", ""},
	{"three quotes", "A=\"\"\"\nB=1\n\"\"\"\nC='''x'''\nD=2\n", "B=1|D=2", "", "1:5 3:1 4:5", ""},
	{"commands (of real READMEs)", "S=\"$(openssl rand -hex 32)\"\nN=bar# no comment\nT=`id`\n", "S=$(openssl rand -hex 32)|N=bar# no comment|T=`id`", "1:4 2:6 3:3", "", ""},
	{"a colon", "A: two\nB: 'x' # c\nC:three\nD:\nE:=1\nF : 1\n", "A=two|B=x|E:=1", "1:1 2:1 5:1", "3:1 4:1 6:3", "python-dotenv drops the lines, Node's dotenv and godotenv read them so"},
	{"backticks", "A=`x y`\n", "A=`x y`", "1:3", "", ""},
	// The rest of the grammar.
	{"blanks", " \t A = 1 \n\n  # c\nB =2\nC= 3\u00a0\n", "A=1|B=2|C=3", "", "", ""},
	{"lines in quotes", "K=\"-----BEGIN\na+b=\n-----END\"\nL='x\ny' # c\n", "K=-----BEGIN\na+b=\n-----END|L=x\ny", "", "", ""},
	{"CRLF", "A=1\r\nB=\"x\r\ny\"\r\nC='2'\r\n", "A=1|B=x\ny|C=2", "", "", ""},
	{"CR", "A=1\rB=2\r", "A=1|B=2", "", "", ""},
	{"other line ends", "A=1\u2028B=2\nC=\x0b3\x1c\n", "A=1\u2028B=2|C=3", "", "", ""},
	{"a URL", "U=https://u:p@h/x?a=b&c=d\n", "U=https://u:p@h/x?a=b&c=d", "", "", ""},
	{"the last of two", "A=1\nB=$A\nA=2\n", "A=2|B=$A", "2:3", "", ""},
	{"no line end", "A=1\nB=", "A=1|B=", "", "", ""},
	{"a comment that is not UTF-8", "# J\xf6rg\nA=1\n", "A=1", "1:4", "", "python-dotenv refuses the whole file"},
}

func TestParseDotenv(t *testing.T) {
	for _, c := range dotenvCases {
		t.Run(c.name, func(t *testing.T) {
			f, err := ParseDotenv([]byte(c.in))
			if got := joined(f.Vars); err != nil || got != c.want {
				t.Errorf("got  %q, %v\nwant %q", got, err, c.want)
			}
			if got := places(f.Notes); got != c.notes {
				t.Errorf("notes at %q, want %q:\n%v", got, c.notes, f.Notes)
			}
			if got := places(f.Dropped); got != c.dropped {
				t.Errorf("dropped at %q, want %q:\n%v", got, c.dropped, f.Dropped)
			}
		})
	}
}

// places are the places of faults.
func places(faults Faults) string {
	var at []string
	for _, f := range faults {
		at = append(at, fmt.Sprintf("%d:%d", f.Line, f.Column))
	}
	return strings.Join(at, " ")
}

// A file is refused for what no process can be started with, and then all of it is told at once.
func TestParseDotenvTellsAllFaults(t *testing.T) {
	_, err := ParseDotenv([]byte("A=1\nB=J\xf6rg\nC C\nD=\x00\nE\xff=2\nF=" + strings.Repeat("x", maxString) + "\n"))
	faults, _ := err.(Faults)
	if got := places(faults); got != "2:4 4:1 5:2 6:0" {
		t.Errorf("%s: %v", got, err)
	}
}

// ${NAME} falls back on what the run has besides the file, as python-dotenv falls back on its process.
func TestDotenvReplacesFromOutside(t *testing.T) {
	outer := func(name string) (string, bool) { return "/home/" + name, name == "web" }
	f, err := parseDotenv([]byte("A=${web}\nB=${none:-d}\nweb=x\nC=${web}\n"), outer)
	if want := "A=/home/web|B=d|web=x|C=x"; err != nil || joined(f.Vars) != want || len(f.Notes) > 0 {
		t.Errorf("%q %v, %v, want %s", joined(f.Vars), f.Notes, err, want)
	}
}

// The real python-dotenv, of Debian's package or newer, reads each case as it is recorded, and what is made of their
// pieces as pythonDotenv, which is the oracle of FuzzParseDotenv.
func TestDotenvAsPythonDotenv(t *testing.T) {
	if exec.Command("python3", "-c", "import dotenv").Run() != nil {
		gotool.Need(t, "Debian's package python3-dotenv")
	}
	var files []string
	for _, c := range dotenvCases {
		files = append(files, c.in)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		files = append(files, pieces(random))
	}
	var in bytes.Buffer
	for _, file := range files {
		fmt.Fprintln(&in, base64.StdEncoding.EncodeToString([]byte(file)))
	}
	// As open() gives it a file: UTF-8, universal newlines.
	const script = `
import base64, dotenv, io, json, logging, os, sys
logging.disable()
os.environ.clear()
out = []
for line in sys.stdin:
    file = io.TextIOWrapper(io.BytesIO(base64.b64decode(line)), encoding="utf-8")
    try:
        out.append({k: v for k, v in dotenv.dotenv_values(stream=file).items() if v is not None and "=" not in k}) # os.environ takes no such name
    except UnicodeDecodeError:
        out.append(None)
print(json.dumps(out))`
	python := exec.Command("python3", "-c", script)
	python.Stdin = &in
	said, err := python.Output()
	var real []map[string]string
	if err == nil {
		err = json.Unmarshal(said, &real)
	}
	if err != nil || len(real) != len(files) {
		t.Fatalf("%d answers, %v", len(real), err)
	}
	for i, in := range files {
		f, err := ParseDotenv([]byte(in))
		same := err == nil && maps.Equal(values(f), real[i])
		if i < len(dotenvCases) && same == (dotenvCases[i].ours != "") {
			t.Errorf("%s: %q gives %q, python-dotenv %q", dotenvCases[i].name, in, values(f), real[i])
		}
		if i >= len(dotenvCases) && !same && !oursOnly(f) {
			t.Errorf("%q gives %q, %v; python-dotenv %q", in, values(f), err, real[i])
		}
		oracle := pythonDotenv(in)
		maps.DeleteFunc(oracle, func(name, _ string) bool { return strings.Contains(name, "=") })
		if real[i] != nil && !maps.Equal(oracle, real[i]) {
			t.Errorf("%q: the oracle gives %q, python-dotenv %q", in, oracle, real[i])
		}
	}
}

// pieces makes a file of what means something in one.
func pieces(random *rand.Rand) string {
	words := []string{"A", "B", "C", "=", "=", "=", "\n", "\n", "\n", "\"", "\"", "'", "'", "\\", "\\", "#", " #", " ", "\t", "$", "${", "}", ":-", "${A}", "${B:-x}", "export ", "x", "y", ":", ": ", "`", "-", "\r\n", "é", "\\n", "\u00a0"}
	var b strings.Builder
	for range 1 + random.IntN(24) {
		b.WriteString(words[random.IntN(len(words))])
	}
	return b.String()
}

func values(f File) map[string]string {
	m := map[string]string{}
	for _, v := range f.Vars {
		m[v.Name] = v.Value()
	}
	return m
}

// oursOnly reports whether ours says that it read something otherwise than python-dotenv.
func oursOnly(f File) bool {
	return slices.ContainsFunc(f.Notes, func(n Fault) bool {
		return regexp.MustCompile("python-dotenv (drops|reads on|takes|refuses)").MatchString(n.Problem)
	})
}

// Two readings that share no code with ours: python-dotenv's, with which ours agrees or says where not, and that of
// Node's dotenv, from which ours differs only with a note. And godotenv's, where literal uses it.
func FuzzParseDotenv(f *testing.F) {
	for _, c := range dotenvCases {
		f.Add([]byte(c.in))
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		f.Add([]byte(pieces(random)))
	}
	for _, s := range []string{"B=1\nA=\"$\\B$(B)\\$B\"", "A=1\x00", "A=\xf6", "A=\"a\r\r\nb\"", "FOO=#bar", "A=${", "A=\"\\\"\n", "exportA=1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := ParseDotenv(data)
		if err != nil {
			if _, ok := err.(Faults); !ok || utf8.Valid(data) && len(data) < maxFuzzed && !strings.Contains(string(data), "\x00") {
				t.Errorf("%q: %v", data, err)
			}
			return
		}
		checkVars(t, data, file)
		got := values(file)
		text, want := string(data), pythonDotenv(string(data))
		maps.DeleteFunc(want, func(name, _ string) bool { return strings.Contains(name, "=") }) // os.environ takes none
		if !maps.Equal(got, want) && !oursOnly(file) {
			t.Errorf("%q: got %q, python-dotenv %q", data, got, want)
		}
		if want := nodeDotenv(text); len(file.Notes)+len(file.Dropped) == 0 && !strings.Contains(text, "${") && !strings.ContainsAny(text, "\x1c\x1d\x1e\x1f\u0085") && !maps.Equal(got, want) {
			t.Errorf("%q: got %q without a note, Node's dotenv %q", data, got, want)
		}
		if err := again(file); err != nil {
			t.Errorf("%q: %v", data, err)
		}
	})
}

// maxFuzzed is so short that no value is too long for execve, however often ${NAME} repeats it.
const maxFuzzed = 1000

// again reports whether godotenv, given what was read, quoted so that nothing is in doubt, reads it.
func again(f File) error {
	for _, v := range f.Vars {
		if !isVariableName(v.Name) || strings.ContainsAny(v.Value(), "'\\\r") {
			continue
		}
		if m, err := godotenv.Unmarshal(v.Name + "='" + v.Value() + "'"); err != nil || m[v.Name] != v.Value() {
			return fmt.Errorf("%s is %q, godotenv reads %q, %v", v.Name, v.Value(), m[v.Name], err)
		}
	}
	return nil
}

// The application's user writes this file, and the agent reads it as root: each step is linear, and a value that names
// others is refused before it is made.
func TestParseDotenvHasLimits(t *testing.T) {
	lines := func(n int, line string) string { return strings.Repeat(line, n) }
	bomb := "A=aaaaaaaaaa\n"
	for c := 'B'; c <= 'Z'; c++ {
		bomb += fmt.Sprintf("%c=%s\n", c, lines(10, fmt.Sprintf("${%c}", c-1)))
	}
	blanks := lines(100_000, " ")
	for name, c := range map[string]struct{ in, want string }{
		"size":                       {"A=" + lines(maxTheirs-2, "x"), "bytes, the kernel takes"},
		"over the size":              {lines(maxTheirs+1, "\n"), "has 262145 bytes, at most 262144 are read"},
		"variables":                  {lines(maxDotenvVars, "exportA=1\n") + "#" + lines(200_000, "x"), ""},
		"over the variables":         {lines(maxDotenvVars+1, "A=1\n"), ":5001:1: more than 5000 variables"},
		"over the dropped lines":     {lines(maxDotenvVars+1, "A\n"), ":5001:1: more than 5000 variables"},
		"comments":                   {lines(maxTheirs/2, "#\n"), ""},
		"blank lines":                {lines(maxTheirs, "\n"), ""},
		"dollars":                    {"A=\"" + lines(100_000, "$") + "\"", ""},
		"each ten of the last":       {bomb, ":7:3: G: once each ${NAME} is replaced"},
		"a large one many times":     {"A=" + lines(100_000, "x") + "\n" + lines(100, "B=${A}\n"), "once each ${NAME} is replaced"},
		"a large default":            {lines(30, "A=${N:-"+lines(8000, "x")+"}\n"), ""},
		"braces that open":           {"A=" + lines(60_000, "${"), ""},
		"braces that open, and one":  {"A=" + lines(60_000, "${") + "}", ""},
		"names that are none":        {"A=" + lines(25_000, "${A:x") + "}", ""},
		"variables that are not set": {lines(4999, "A=${B}${C}${D}${E}${F}${G}${H}${I}${J}${K}\n"), ""},
		"an unclosed quote":          {lines(1000, "A=1\n") + "B='" + lines(200_000, "x"), ""},
		"unclosed quotes":            {lines(2400, "A=\"\\\"x\nB='\\'x\n") + lines(100_000, "x"), ""},
		"quotes closed far below":    {lines(4900, "A=\"\\\"x\n") + blanks + "\" x" + blanks, ""},
		"quotes closed in doubt":     {lines(4900, "A=\"\\\"x\"\\\\\n") + blanks + "\\\\\"" + blanks + "x", ""},
		"quotes within quotes":       {lines(4900, "A='''x'''\n"), ""},
		"backslashes":                {"A=\"" + lines(120_000, "\\") + "\"\nB=\"" + lines(100_001, "\\") + "\"\n", ""},
		"quoted names, not closed":   {lines(4999, "'\n") + lines(200_000, "x"), ""},
		"# without a blank":          {"A=" + lines(100_000, "#"), ""},
		"many notes":                 {lines(4999, "é=\"\\\\$A${B}\" # x\n"), ""},
	} {
		if _, err := ParseDotenv([]byte(c.in)); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
