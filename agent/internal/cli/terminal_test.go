package cli

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

func TestShown(t *testing.T) {
	for text, want := range map[string]string{
		"nightly, häuser 家 🏠 \"q\" \\d": "nightly, häuser 家 🏠 \"q\" \\d",
		"a\x1b]0;b\x07c":                `a\x1b]0;b\ac`,
		"\u009b2J\x7f":                  `\u009b2J\x7f`,
		"a\nok\tb\r":                    `a\nok\tb\r`,
		"\u202eabc\u2066\u200b\ufeff":   `\u202eabc\u2066\u200b\ufeff`,
		"\xff\xc3\x28é\xe2\x80":         `\xff\xc3(é\xe2\x80`,
		"\u00a0\U000e0041\ufffd":        "\\u00a0\\U000e0041\ufffd",
		"":                              "",
	} {
		if got := shown(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}

// A value cannot leave its place in the format, by a line break or otherwise; the format and what we painted can.
func TestPrintf(t *testing.T) {
	var b strings.Builder
	printf(&b, "%-6s|%5.1f|%q|%v %s\n", "a\nb", 1.25, "\x1b", []string{"x\x1b"}, clean("\x1b[1mok\x1b[0m"))
	if want := "a\\nb   |  1.2|\"\\x1b\"|[x\\x1b] \x1b[1mok\x1b[0m\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

// The value is the same to a program; a terminal has nothing to obey.
func TestJSONIsEscapedFurther(t *testing.T) {
	var b strings.Builder
	if err := printJSON(&b, "env", map[string]string{"a": "\x1b\u009b\x7f\u202e\u00a0<é>\u200d"}); err != nil {
		t.Fatal(err)
	}
	if want := "{\n  \"a\": \"\\u001b\\u009b\\u007f\\u202e\u00a0<é>\u200d\"\n}\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

func TestOutputOnATerminal(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"text", "häuser 家 🏠\tx\u00a0\u200d\n\n", "häuser 家 🏠\tx\u00a0\u200d\n\n"},
		{"colours", "\x1b[31mred\x1b[m \x1b[1;38:2:1:2:3mx\x1b[0m", "\x1b[31mred\x1b[m \x1b[1;38:2:1:2:3mx\x1b[0m"},
		{"a colour that is not ended", "\x1b[31mred", "\x1b[31mred\x1b[0m"},
		{"concealed", "\x1b[8mhidden\x1b[28m", "\\x1b[8mhidden\x1b[28m\x1b[0m"},
		{"concealed among colours", "\x1b[38;5;8;008mx \x1b[31;8mx", `\x1b[38;5;8;008mx \x1b[31;8mx`},
		{"the eighth of a palette", "\x1b[38;5;8;48;2;8;8;8mx\x1b[m", "\x1b[38;5;8;48;2;8;8;8mx\x1b[m"},
		{"clear", "\x1b[2J\x1b[H", `\x1b[2J\x1b[H`},
		{"private", "\x1b[?1049h\x1b[>4m", `\x1b[?1049h\x1b[>4m`},
		{"title and clipboard", "\x1b]0;t\x07\x1b]52;c;eA==\x1b\\", `\x1b]0;t\a\x1b]52;c;eA==\x1b\`},
		{"8-bit", "\u009b2J \x9b2J \u0090q", `\u009b2J \x9b2J \u0090q`},
		{"written over", "secret\rok\r\nnext", "secret\\rok\nnext"},
		{"backspace, bell, delete", "a\b\a\x7f\x00\v\f", `a\b\a\x7f\x00\v\f`},
		{"directions", "\u202eabc\u2069", `\u202eabc\u2069`},
		{"no text", "\xff\xe5\xae", `\xff\xe5\xae`},
		{"ended too soon", "a\x1b[3", `a\x1b[3`},
		{"the same", "a\r", `a\r`},
		{"a sequence in a sequence", "\x1b[3\x1b[31mx\x1b[0m", "\\x1b[3\x1b[31mx\x1b[0m"},
		{"without an end", "\x1b[" + strings.Repeat("1;", 100) + "m", `\x1b[` + strings.Repeat("1;", 100) + "m"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := onTerminal(t, tt.in, len(tt.in)); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// onTerminal is what is shown of text that is written so many bytes at a time.
func onTerminal(t *testing.T, text string, size int) string {
	var b bytes.Buffer
	s := &shownOutput{w: &b}
	for rest := text; rest != ""; {
		n := min(max(size, 1), len(rest))
		if got, err := s.Write([]byte(rest[:n])); got != n || err != nil {
			t.Fatal(got, err)
		}
		rest = rest[n:]
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestOutputTellsOfATerminalThatIsGone(t *testing.T) {
	s := &shownOutput{w: iotest.TruncateWriter(iotestBroken{}, 1<<20)}
	if _, err := s.Write([]byte("x")); err == nil {
		t.Error("no error")
	}
}

type iotestBroken struct{}

func (iotestBroken) Write([]byte) (int, error) { return 0, iotest.ErrTimeout }

var anSGR = regexp.MustCompile("\x1b\\[[0-9:;]*m")

// Whatever is written, however it is cut: nothing but colours, line breaks and tabs is left for a terminal to obey,
// and text without any of it stays as it is.
func FuzzOutputOnATerminal(f *testing.F) {
	for _, s := range []string{"plain\n", "\x1b[31mx\x1b[0m", "\x1b]52;c;eA==\a", "\u009b2J\xff\r\n\r", "\x1b[3\x1b[31m", "\u202e家"} {
		f.Add(s, 1)
		f.Add(s, 3)
	}
	f.Fuzz(func(t *testing.T, text string, size int) {
		got := onTerminal(t, text, size)
		if whole := onTerminal(t, text, len(text)); got != whole {
			t.Errorf("%q by %d bytes: %q, at once %q", text, size, got, whole)
		}
		rest := anSGR.ReplaceAllString(got, "")
		if at := strings.IndexFunc(rest, func(r rune) bool { return r != '\n' && r != '\t' && obeyed(r) }); at >= 0 || !utf8.ValidString(rest) {
			t.Errorf("%q becomes %q", text, got)
		}
		if utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && r != '\t' && obeyed(r) }) && got != text {
			t.Errorf("clean text %q becomes %q", text, got)
		}
	})
}
