package appenv

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"beanstalk-agent/packaging/testbed/planted"
)

// systemdCases are hand-made files and what systemd 252 makes of them; the test beside a booted systemd runs them too.
var systemdCases = []struct{ name, in, want string }{
	{"plain", "A=b\n", "A=b"},
	{"no final newline", "A=b", "A=b"},
	{"empty value", "A=\nB=\n", "A=|B="},
	{"blanks around", "  A =  b c \t\n", "A=b c"},
	{"comment lines only at line start", "#x=1\n;y=2\nA=b # c\nB=#x\n", "A=b # c|B=#x"},
	{"comment continued by a backslash", "# x \\\nA=1\nB=2\n", "B=2"},
	{"nothing expands", "A=$HOME ${B} `x` $(y)\n", "A=$HOME ${B} `x` $(y)"},
	{"export is dropped", "export A=1\nB=2\n", "B=2"},
	{"names no shell has", "a.b=1\na-b=2\n1A=3\nÄ=4\n_9=5\n", "_9=5"},
	{"last wins at the first place", "A=1\nB=2\nA=3\n", "A=3|B=2"},
	{"CRLF", "A=b\r\nB=\"c\r\nd\"\r\n", "A=b|B=c\r\nd"},
	{"single quotes are literal", `A='a\'b c\n'` + "\n", `A=a\b cn'`},
	{"double quotes unescape four", `A="\" \\ \$ \` + "`" + ` \n \t"` + "\n", "A=\" \\ $ ` \\n \\t"},
	{"double quotes join lines", "A=\"a\\\nb\"\n", "A=ab"},
	{"quotes span lines", "A=\"a\nb\"\nB='c\nd'\n", "A=a\nb|B=c\nd"},
	{"segments join", `A="x"'y' z "w"` + "\n", `A=xyz "w"`},
	{"quote in the middle is literal", `A=b"c"d'e` + "\n", `A=b"c"d'e`},
	{"unclosed quote runs to the end", "A=\"b\nC=d\n", "A=b\nC=d\n"},
	{"backslash unquoted", `A=a\nb\\c\ d` + "\n", `A=anb\c d`},
	{"backslash keeps a trailing blank", "A=a\\ \nB=a\\  \n", "A=a |B=a "},
	{"backslash joins lines", "A=a \\\n b\n", "A=a  b"},
	{"backslash at the end of the file", `A=a \`, "A=a "},
	{"equals in the value", "A=b=c==\n", "A=b=c=="},
	{"no equals", "ABC\nB=1\nDEF", "B=1"},
	{"equals first", "=a=b\nB=1\n", "B=1"},
	{"json", `A={"a": [1, "b c"], "d": "e\"f"}` + "\n", `A={"a": [1, "b c"], "d": "e"f"}`},
	{"json quoted", `A='{"a": "b\"c"}'` + "\n", `A={"a": "b\"c"}`},
	{"pem quoted", "A=\"-----BEGIN X-----\nAb+/=\nq==\n-----END X-----\n\"\nB=1\n", "A=-----BEGIN X-----\nAb+/=\nq==\n-----END X-----\n|B=1"},
	{"pem unquoted falls apart", "A=-----BEGIN X-----\nAb+/=\nq==\n-----END X-----\n", "A=-----BEGIN X-----|q=="},
	{"byte order mark", "\ufeffA=1\nB=2\n", "B=2"},
	{"tab and other control characters", "A=a\tb\x01\x7f\n", "A=a\tb\x01\x7f"},
	{"unicode", "A=grüße 🎉\n", "A=grüße 🎉"},
	{"blank after a quote goes", "A='x' \t\nB='x' y \n", "A=x|B=xy"},
	{"empty quotes", "A=\"\"\nB=''x\n", "A=|B=x"},
	{"only blanks", " \t\n\r\n", ""},
	{"empty file", "", ""},
}

func joined(vars []Var) string {
	out := make([]string, len(vars))
	for i, v := range vars {
		out[i] = v.Assignment()
	}
	return strings.Join(out, "|")
}

func TestParseSystemdTable(t *testing.T) {
	for _, c := range systemdCases {
		t.Run(c.name, func(t *testing.T) {
			f, err := ParseSystemd([]byte(c.in), AmazonLinux2023)
			if got := joined(f.Vars); err != nil || got != c.want {
				t.Errorf("got  %q, %v\nwant %q", got, err, c.want)
			}
		})
	}
}

// What 219 does differently, from its source: it is not to be had here to run beside.
func TestParseSystemd219(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"double quotes drop every backslash", `A="a\nb\$\"c"` + "\n", `A=anb$"c`},
		{"single quotes have escapes", `A='a\'b'` + "\n", `A=a'b`},
		{"multi-line values are dropped", "A=\"a\nb\"\nB=1\n", "B=1"},
		{"control characters are dropped, tabs are not", "A=a\x01\nB=a\tb\n", "B=a\tb"},
		{"a dropped value takes the name's earlier one along", "A=1\nB=1\nA=\"x\ny\"\nB=\x7f\nB=2\n", "B=2"},
		{"a NUL ends the file", "A=1\nB=2\x00\nC=3\n", "A=1|B=2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := ParseSystemd([]byte(c.in), AmazonLinux2)
			if got := joined(f.Vars); err != nil || got != c.want {
				t.Errorf("got  %q, %v\nwant %q", got, err, c.want)
			}
		})
	}
}

// Where systemd refuses the file, every fault is told with its line, and no value.
func TestParseSystemdRefusals(t *testing.T) {
	in := "A=planted-5c1e\xff\nB=1\nC=" + strings.Repeat("planted-5c1e", 20000) + "\nD=\ufdd0planted-5c1e\n"
	_, err := ParseSystemd([]byte(in), AmazonLinux2023)
	faults, ok := errors.AsType[Faults](err)
	if !ok || len(faults) != 3 || faults[0].Line != 1 || faults[1].Line != 3 || faults[2].Line != 4 {
		t.Fatalf("err = %v", err)
	}
	if strings.Contains(err.Error(), planted.Value) {
		t.Error("an error has a value")
	}
	if _, err := ParseSystemd([]byte("A=1\n\x00"), AmazonLinux2023); err == nil {
		t.Error("a NUL was taken")
	}
}

func TestDroppedAssignmentsAreTold(t *testing.T) {
	f, err := ParseSystemd([]byte("A=1\n\nexport B=planted-5c1e\nplanted-5c1e text\na.b=planted-5c1e\n"), 0)
	if err != nil || len(f.Dropped) != 3 {
		t.Fatalf("dropped %v, err %v", f.Dropped, err)
	}
	for i, line := range []int{3, 4, 5} {
		if f.Dropped[i].Line != line {
			t.Errorf("fault %d: line %d, want %d", i, f.Dropped[i].Line, line)
		}
	}
	if s := f.Dropped.Error(); strings.Contains(s, planted.Value) {
		t.Errorf("a fault has a value: %s", s)
	}
}

func FuzzParseSystemd(f *testing.F) {
	for _, c := range systemdCases {
		f.Add([]byte(c.in))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, version := range []SystemdVersion{AmazonLinux2, AmazonLinux2023, 255} {
			file, err := ParseSystemd(data, version)
			if err != nil {
				continue
			}
			checkVars(t, data, file)
			var quoted strings.Builder
			for _, v := range file.Vars {
				if !isVariableName(v.Name) {
					t.Errorf("name %q", v.Name)
				}
				fmt.Fprintf(&quoted, "%s=\"%s\"\n", v.Name, strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v.Value()))
			}
			// What came out of the file comes out of the plainest file that says it, too.
			if again, err := ParseSystemd([]byte(quoted.String()), version); err != nil || joined(again.Vars) != joined(file.Vars) {
				t.Errorf("%q gave %q, and %q gave %q, %v", data, joined(file.Vars), &quoted, joined(again.Vars), err)
			}
		}
	})
}

// checkVars is what every parser promises.
func checkVars(t *testing.T, data []byte, file File) {
	t.Helper()
	seen := map[string]bool{}
	lines := 1 + strings.Count(string(data), "\n") + strings.Count(string(data), "\r") // a CR ends a line, too
	for _, v := range file.Vars {
		if seen[v.Name] || v.Name == "" || strings.ContainsAny(v.Name, "=\x00") || strings.Contains(v.Value(), "\x00") {
			t.Errorf("%q: %v", data, v)
		}
		if v.Line < 1 || v.Line > lines {
			t.Errorf("%v is said to be on line %d of %d", v, v.Line, lines)
		}
		seen[v.Name] = true
	}
}
