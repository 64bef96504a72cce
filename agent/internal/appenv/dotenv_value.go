package appenv

import (
	"strings"

	"github.com/joho/godotenv"
)

// literal returns a statement's value before ${NAME} is replaced. It is godotenv's where godotenv (v1.5.1) reads as
// python-dotenv does. Where not, it is read here; godotenv's faults are these:
//   - $NAME without braces is replaced, and so is "2" in $2y$10$…; ${NAME:-default} loses its name;
//   - \" or \\ before the closing quote is no escape: the backslash stays, or the quote closes nothing;
//   - \t and the other escapes of double quotes lose their backslash, and \' in single quotes keeps it;
//   - a comment begins at the last "#" after a blank, not at the first;
//   - all quotes at both ends are removed, those within the outer ones too;
//   - a name with a hyphen, or with any other byte that execve takes, is an error of the whole file.
func (d *dotenv) literal(st statement) string {
	text := d.src[st.value:st.end]
	if !strings.ContainsAny(text, `\$#`) && isNodeName(st.name) && !strings.Contains(st.name, "-") && !st.loose {
		if values, err := godotenv.Unmarshal(st.name + "=" + text); err == nil {
			return values[st.name]
		}
	}
	switch st.quote {
	case '"':
		return unescaped(text[1:len(text)-1], `\'"abfnrtv`, "\\'\"\a\b\f\n\r\t\v")
	case '\'':
		return unescaped(text[1:len(text)-1], `\'`, `\'`)
	}
	return text
}

// unescaped replaces a backslash and a byte of from by the byte of to with the same index. Other backslashes are kept.
func unescaped(s, from, to string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			if k := strings.IndexByte(from, s[i+1]); k >= 0 {
				b = append(b, to[k])
				i++
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

// expand replaces each ${NAME} and ${NAME:-default}, in one pass: neither a value nor a default is looked through. A
// variable that is set to nothing is set. It reports the offset of one that was not set and had no default, or -1, and
// whether the result has at most limit bytes. Source: python-dotenv's variables.py.
func expand(s string, lookup func(string) (string, bool), limit int) (value string, unset int, ok bool) {
	var b strings.Builder
	unset = -1
	for i, closed := 0, 0; ; {
		n := strings.Index(s[i:], "${")
		if closed <= i+n {
			closed = indexFrom(s, i+n+1, '}')
		}
		if n < 0 || closed < 0 {
			b.WriteString(s[i:])
			return b.String(), unset, b.Len() <= limit
		}
		b.WriteString(s[i : i+n])
		i += n
		name, fallback, defaulted := strings.Cut(s[i+2:closed], ":")
		if defaulted && !strings.HasPrefix(fallback, "-") { // ${NAME:x} is no variable
			b.WriteString("${")
			i += 2
			continue
		}
		v, set := lookup(name)
		if !set && defaulted {
			v = fallback[1:]
		} else if !set && unset < 0 {
			unset = i
		}
		b.WriteString(v)
		if i = closed + 1; b.Len() > limit {
			return "", unset, false
		}
	}
}
