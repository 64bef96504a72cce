package appenv

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseChoosesByFormat(t *testing.T) {
	for format, want := range map[string]string{"systemd": "A=b c", "systemd-219": "A=b c", "dotenv": "A=b c", "docker": `A="b c"`, "shell": "A=b c"} {
		if f, err := Parse(format, []byte("A=\"b c\"\n")); err != nil || joined(f.Vars) != want {
			t.Errorf("%s: %v, %v", format, joined(f.Vars), err)
		}
	}
	if _, err := Parse("yaml", nil); err == nil || !strings.Contains(err.Error(), "systemd, dotenv, docker, shell or json") {
		t.Error(err)
	}
}

// FIELD.md E4: a file of another format is told, in every format, and never an empty environment.
func TestParseTellsTheWrongFormat(t *testing.T) {
	const list = "systemd systemd-219 dotenv docker shell json"
	for _, c := range []struct{ name, in, formats, want string }{
		{"heroku config --json", "{\n  \"A\": \"b=c\"\n}\n", "systemd systemd-219 dotenv docker shell", ":1:1: is JSON, which --format json reads"},
		{"a list of objects", "\ufeff\n [{\"name\": \"A\"}]", "systemd systemd-219 dotenv docker shell", ":2:2: is JSON"},
		{"heroku config", "=== app Config Vars\n\nLANG:     en_US.UTF-8\nURL: postgres://h/d?a=b\n", "systemd systemd-219 docker shell json", ":1:"},
		{"a crontab", "*/5 * * * * true\n", list, ":1:"},
		{"YAML", "- A\n- B\n", list, ":1:"},
		{"UTF-16, as PowerShell writes it", "\xff\xfeA\x00=\x001\x00", list, ":1:1: is UTF-16"},
		{"UTF-16, the other way round", "\xfe\xff\x00A\x00=\x001", list, ":1:1: is UTF-16"},
		{"a program", "\x7fELF\x02\x01\x01\x00\x00", list, ":1:"},
		{"names only", "A\nB\n", list, ":1:1: "},
		{"NAME=value", "A=1\n", "json", ":1:1: is not JSON"},
	} {
		for format := range strings.FieldsSeq(c.formats) {
			f, err := Parse(format, []byte(c.in))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s as %s: %v, %v, want %s", c.name, format, f.Vars, err, c.want)
			}
		}
	}
	for format := range strings.FieldsSeq("systemd systemd-219 dotenv docker shell") {
		for _, in := range []string{"", "\n", "# only a comment\n"} { // which is no other format
			if f, err := Parse(format, []byte(in)); err != nil || len(f.Vars) > 0 {
				t.Errorf("%q as %s: %v, %v", in, format, f.Vars, err)
			}
		}
		if f, err := Parse(format, []byte(strings.Repeat("x", MaxFile+1))); err == nil {
			t.Errorf("as %s, too large: %v", format, f.Vars)
		}
	}
	f, err := Parse("systemd", []byte("A=\"it's\\n\"\nB='x\\n'\n")) // heroku config -s, which means a line end
	if err != nil || joined(f.Vars) != "A=it's\\n|B=x\\n" || places(f.Notes) != "1:1" {
		t.Errorf("%q, %v, %v", joined(f.Vars), f.Notes, err)
	}
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

// A file of one line, of as many variables as it has bytes for, took seconds to count the lines before each.
func TestOtherProgramsFilesHaveLimits(t *testing.T) {
	for name, c := range map[string]struct {
		parse func([]byte) (File, error)
		one   string
		last  string
	}{
		"shell, set":      {ParseShell, "A=;", ""},
		"shell, exported": {ParseShell, "export A;", ""},
		"JSON":            {func(b []byte) (File, error) { return ParseJSON(append([]byte("{"), b...)) }, `"A":"",`, `"A":""}`},
	} {
		full := c.one + strings.Repeat(c.one, maxDotenvVars-2)
		if f, err := c.parse([]byte(full + strings.Replace(cmp.Or(c.last, c.one), "A", "B", 1))); err != nil || len(f.Vars)+len(f.Dropped) == 0 {
			t.Errorf("%s: as many as may be: %d, %v", name, len(f.Vars), err)
		}
		if _, err := c.parse([]byte(full + c.one + cmp.Or(c.last, c.one))); err == nil || !strings.Contains(err.Error(), tooManyVars) {
			t.Errorf("%s: one more: %v", name, err)
		}
	}
}

// From whichever offset, forwards or backwards, a placer counts as one does from the beginning.
func TestPlacerCountsAsFromTheBeginning(t *testing.T) {
	text := "ä=1\n\nB='x\ny' C=\"ü\"\nlast"
	for from := range len(text) + 2 {
		for to := range len(text) + 2 {
			p := placer{text: text}
			p.of(from)
			line, column := p.of(to)
			lines := strings.Split(text[:min(to, len(text))], "\n")
			wantLine, wantColumn := len(lines), 1+utf8.RuneCountInString(lines[len(lines)-1])
			if utf8.ValidString(text[:min(from, len(text))]) && (line != wantLine || column != wantColumn) {
				t.Errorf("from %d to %d: %d:%d, want %d:%d", from, to, line, column, wantLine, wantColumn)
			}
		}
	}
}
