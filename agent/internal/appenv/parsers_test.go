package appenv

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/joho/godotenv"
)

func TestParseDocker(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"values as they stand", "A='x' \"y\" # z \t\nB=\\n$C\n", `A='x' "y" # z ` + "\t|B=\\n$C"},
		{"comments, blanks, CRLF", "\ufeff# c\r\n\n  \t A=1\r\n#B=2\r\n", "A=1"},
		{"last wins", "A=1\nB=2\nA=3", "A=3|B=2"},
		{"a name alone is docker's to fill", "A\nB=1\n", "B=1"},
		{"any name", "a.b-c=1\n", "a.b-c=1"},
		{"empty value, equals in the value", "A=\nB=c=d\n", "A=|B=c=d"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := ParseDocker([]byte(c.in))
			if got := joined(f.Vars); err != nil || got != c.want {
				t.Errorf("got  %q, %v\nwant %q", got, err, c.want)
			}
		})
	}
	_, err := ParseDocker([]byte("A B=1\n=2\nC=\xff\n"))
	if s := fmt.Sprint(err); strings.Count(s, "\n") != 2 || !strings.Contains(s, ":1: ") || !strings.Contains(s, ":2: ") || !strings.Contains(s, ":3: ") {
		t.Errorf("faults: %v", err)
	}
}

func TestParseDotenv(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"order and expansion", "B=1\nA=\"${B} $B\"\nC='$B'\n", "B=1|A=1 1|C=$B"},
		{"export, colon, comments", "export A=1 # c\nB: two\n# x\n", "A=1|B=two"},
		{"escapes and lines", "A=\"a\\nb\"\nB=\"c\nd\"\nC='e\\nf'\n", "A=a\nb|B=c\nd|C=e\\nf"},
		{"CRLF", "A=1\r\nB=2\r\n", "A=1|B=2"},
		{"dots in names", "a.b=1\n", "a.b=1"},
		{"duplicates", "A=1\nB=$A\nA=2\n", "A=2|B=1"},
		{"two on a line after a quote", `A="x" B=2` + "\n", "A=x|B=2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := ParseDotenv([]byte(c.in))
			if got := joined(f.Vars); err != nil || got != c.want {
				t.Errorf("got  %q, %v\nwant %q", got, err, c.want)
			}
		})
	}
	for in, want := range map[string]string{
		"A=1\n\nB C!=2\n": ":3: ", "A=1\nB='x\ny": ":2: B: the quote", "A=1\nabc": ":2: expected NAME=value", "A=1\nabc\nB=2\n": ":2: ",
		"A=1\nNAME=J\xf6rg\n": ":2: NAME: is not valid UTF-8", "A=1\n\xf6=1\n": ":2: is not valid UTF-8",
	} {
		if _, err := ParseDotenv([]byte(in)); !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
	}
}

// The application's user writes this file, and the agent reads it as root: each step is linear, and a value that names
// others is refused before it is made.
func TestParseDotenvHasLimits(t *testing.T) {
	lines := func(n int, line string) string { return strings.Repeat(line, n) }
	bomb := "A=aaaaaaaaaa\n"
	for c := 'B'; c <= 'Z'; c++ {
		bomb += fmt.Sprintf("%c=%s\n", c, lines(10, fmt.Sprintf("${%c}", c-1)))
	}
	for name, c := range map[string]struct{ in, want string }{
		"size":                         {"A=" + lines(maxTheirs-2, "x"), "bytes, the kernel takes"},
		"over the size":                {lines(maxTheirs+1, "\n"), "has 262145 bytes, at most 262144 are read"},
		"variables":                    {lines(maxDotenvVars, "exportA=1\n") + "#" + lines(200_000, "x"), ""},
		"over the variables":           {lines(maxDotenvVars+1, "A=1\n"), ":5001: more than 5000 variables"},
		"comments":                     {lines(maxTheirs/2, "#\n"), ""},
		"blank lines":                  {lines(maxTheirs, "\n"), ""},
		"dollars":                      {"A=\"" + lines(100_000, "$") + "\"", ""},
		"each ten of the last":         {bomb, ":7: G: once each ${NAME} is replaced"},
		"a large one many times":       {"A=" + lines(100_000, "x") + "\n" + lines(100, "B=$A\n"), "once each ${NAME} is replaced"},
		"a name with backslashes":      {"AB=" + lines(100_000, "x") + "\n" + lines(100, "C=\"$A\\B\"\n"), "once each ${NAME} is replaced"},
		"single quotes expand nothing": {"A=" + lines(100_000, "x") + "\n" + lines(100, "B='$A'\n"), ""},
		"nor do escaped ones":          {"A=" + lines(100_000, "x") + "\n" + lines(100, "B=\"\\$A\"\n"), ""},
		"an unclosed quote":            {lines(1000, "A=1\n") + "B='" + lines(200_000, "x"), ":1001: B: the quote"},
	} {
		if _, err := ParseDotenv([]byte(c.in)); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestParseChoosesByFormat(t *testing.T) {
	for format, want := range map[string]string{"systemd": "A=b c", "dotenv": "A=b c", "docker": `A="b c"`} {
		if f, err := Parse(format, []byte("A=\"b c\"\n")); err != nil || joined(f.Vars) != want {
			t.Errorf("%s: %v, %v", format, joined(f.Vars), err)
		}
	}
	if _, err := Parse("yaml", nil); err == nil || !strings.Contains(err.Error(), "systemd, dotenv or docker") {
		t.Error(err)
	}
}

// godotenv is the oracle: ours adds order and lines, it must not add or lose anything.
func FuzzParseDotenv(f *testing.F) {
	for _, s := range []string{"A=1\nB=\"${A}\"\n", "export A='x\ny' # c\n", "A: b\r\n", "A=\"x\"B=2", "a.b=\\\"", "\u00a0A=1", "A", "=1", "A=1\x00", "é=1\n", "export=1", "A=\xf6", "A=\"\\\"\n",
		"exportA=1\nexport\tB=2", "A=\"a\r\r\nb\"", "A=1\rB=2", "A=", "A= #c", "A=x #", "A=\"$B\\C\"", "B=1\nA=\"$\\B$(B)\\$B\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		want, oracleErr := godotenv.UnmarshalBytes(data)
		file, err := ParseDotenv(data)
		if err != nil {
			bad := oracleErr != nil || !utf8.Valid(data)
			for name, value := range want {
				bad = bad || name == "" || strings.Contains(name+value, "\x00") || len(name)+len(value) > maxString-2
			}
			if !bad {
				t.Errorf("%q: %v, godotenv takes it", data, err)
			}
			return
		}
		checkVars(t, data, file)
		got := map[string]string{}
		for _, v := range file.Vars {
			got[v.Name] = v.Value()
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%q: got %q, want %q", data, got, want)
		}
	})
}

func FuzzParseDocker(f *testing.F) {
	for _, s := range []string{"A=1\n#c\nB\n", "\ufeffA=\" x\r\n", "A B=1", "=", "\xff=1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := ParseDocker(data)
		if err != nil {
			return
		}
		checkVars(t, data, file)
		for _, v := range file.Vars {
			if !bytes.Contains(data, []byte(v.Assignment())) {
				t.Errorf("%q gave %q, which does not stand there", data, v.Assignment())
			}
		}
	})
}

func FuzzParseProperties(f *testing.F) {
	for _, s := range []string{`{"A":"b","A":"c"}`, `{}`, `{"A":1}`, `[]`, `{"A":"b"} x`, `{"x.y":"\u0000"}`, `{"A":"\ud800"}`, `{"A":"b",}`, `{"A" "b"}`, `{"A":"b"]`, `{"A":{"B":"c"}}`, "{\"A\":\"\xff\"}", `{"a.b":"1","A":"\n\u007f","A":"2"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parseProperties(data)
		if err != nil {
			return
		}
		var want map[string]string // encoding/json is the oracle: the last of a name's values, and nothing but variables
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatalf("%q: taken, but %v", data, err)
		}
		maps.DeleteFunc(want, func(name, _ string) bool { return !isVariableName(name) })
		for _, v := range file.Vars {
			if value, ok := want[v.Name]; !ok || value != v.Value() || strings.Contains(value, "\x00") || !utf8.ValidString(value) {
				t.Errorf("%q gave %q", data, v.Name)
			}
		}
		if len(file.Vars) != len(want) {
			t.Errorf("%q gave %d variables, want %d", data, len(file.Vars), len(want))
		}
	})
}

func FuzzParseEnviron(f *testing.F) {
	f.Add([]byte("A=1\x00B=2\x00A=3\x00"))
	f.Add([]byte("gunicorn: master\x00\x00\x00"))
	f.Add([]byte("A=1\x00\x00B=2"))
	f.Add([]byte("PATH=/x\x00BASH_FUNC_a%%=() { :;\n}\x00A=\xff=\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		vars, err := parseEnviron(data)
		if err != nil {
			return
		}
		var again []byte
		for _, v := range vars {
			if v.Name == "" || strings.ContainsAny(v.Name, "=\x00") || !bytes.Contains(append([]byte{0}, data...), []byte("\x00"+v.Assignment())) {
				t.Errorf("%q gave %v", data, v)
			}
			again = append(append(again, v.Assignment()...), 0)
		}
		if back, err := parseEnviron(again); err != nil || joined(back) != joined(vars) {
			t.Errorf("%q gave %v, which gave %v, %v", data, vars, back, err)
		}
	})
}

func FuzzUnit(f *testing.F) {
	for _, s := range []string{"[Service]\nEnvironment=A=1 \"B=x y\"\nUser=x\nUMask=0027\n", "[Service]\nEnvironment=\\x41 \\\n# c\n 'B=1'\n", "[Service]\nEnvironmentFile=-/a\nEnvironmentFile=\nUnsetEnvironment=A\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		u := unit{name: "web.service", umask: 0o022}
		for key, value := range sectionSettings(data, "[Service]") {
			u.set(key, value)
		}
		if u.umask < 0 || u.umask > 0o777 {
			t.Errorf("umask %o", u.umask)
		}
		for _, v := range u.env {
			if !isVariableName(v.Name) || strings.Contains(v.Value(), "\x00") && !strings.Contains(string(data), "\x00") {
				t.Errorf("%q: %v", data, v)
			}
		}
		for _, file := range u.files {
			if !strings.HasPrefix(file.path, "/") {
				t.Errorf("%q", file.path)
			}
		}
	})
}
