package appenv

import (
	"maps"
	"regexp"
	"strings"
)

// pythonDotenv reads as python-dotenv 1.2.2 does: its parser.py and variables.py word for word, regular expression by
// regular expression, and so independent of ours. TestDotenvAsPythonDotenv shows that it reads as the real one. It
// returns the values, without those of a name that stands alone.
func pythonDotenv(text string) map[string]string {
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n") // open() in text mode
	p := pythonReader{text: text}
	values := map[string]string{}
	none := map[string]bool{}
	for p.pos < len(p.text) {
		name, value, bare, ok := p.binding()
		if ok && name != "" {
			none[name], values[name] = bare, pythonExpand(value, values) // bare: ${NAME} is nothing, not its default
		}
	}
	maps.DeleteFunc(values, func(name, _ string) bool { return none[name] })
	return values
}

type pythonReader struct {
	text string
	pos  int
}

const (
	pySpace = `[\x{09}-\x{0d}\x{1c}-\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]`
	pyBlank = `[\x{09}\x{0b}\x{0c}\x{1c}-\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]`
)

var (
	pyNonSpace      = strings.Replace(pySpace, "[", "[^=#", 1)
	pySpaces        = regexp.MustCompile(`^` + pySpace + `*`)
	pyExport        = regexp.MustCompile(`^(?:export` + pyBlank + `+)?`)
	pySingleKey     = regexp.MustCompile(`^'([^']+)'`)
	pyKey           = regexp.MustCompile(`^(` + pyNonSpace + `+)`)
	pyBlanks        = regexp.MustCompile(`^` + pyBlank + `*`)
	pyEqual         = regexp.MustCompile(`^(=` + pyBlank + `*)`)
	pySingle        = regexp.MustCompile(`^'((?:\\'|[^'])*)'`)
	pyDouble        = regexp.MustCompile(`^"((?:\\"|[^"])*)"`)
	pyUnquoted      = regexp.MustCompile(`^([^\r\n]*)`)
	pyComment       = regexp.MustCompile(`^(?:` + pyBlank + `*#[^\r\n]*)?`)
	pyEnd           = regexp.MustCompile(`^` + pyBlank + `*(?:\r\n|\n|\r|$)`)
	pyRest          = regexp.MustCompile(`^[^\r\n]*(?:\r|\n|\r\n)?`)
	pyInlineComment = regexp.MustCompile(pySpace + `+#.*`)
	pyTrailing      = regexp.MustCompile(pySpace + `+$`)
	pyDoubleEscape  = regexp.MustCompile(`\\[\\'"abfnrtv]`)
	pySingleEscape  = regexp.MustCompile(`\\[\\']`)
	pyVariable      = regexp.MustCompile(`\$\{([^\}:]*)(?::-([^\}]*))?\}`)
)

// read consumes a match and returns its last group.
func (p *pythonReader) read(re *regexp.Regexp) (string, bool) {
	m := re.FindStringSubmatch(p.text[p.pos:])
	if m == nil {
		return "", false
	}
	p.pos += len(m[0])
	return m[len(m)-1], true
}

func (p *pythonReader) peek(c byte) bool { return p.pos < len(p.text) && p.text[p.pos] == c }

// binding is parse_binding: bare is a name without a value.
func (p *pythonReader) binding() (name, value string, bare, read bool) {
	p.read(pySpaces)
	if p.pos == len(p.text) {
		return "", "", false, false
	}
	p.read(pyExport)
	read = true
	switch {
	case p.peek('#'):
	case p.peek('\''):
		name, read = p.read(pySingleKey)
	default:
		name, read = p.read(pyKey)
	}
	if read {
		p.read(pyBlanks)
		if bare = !p.peek('='); !bare {
			p.read(pyEqual)
			value, read = p.value()
		}
	}
	if read {
		p.read(pyComment)
		_, read = p.read(pyEnd)
	}
	if !read {
		p.read(pyRest)
	}
	return name, value, bare, read
}

func (p *pythonReader) value() (string, bool) {
	decode := func(re *regexp.Regexp, s string) string {
		return re.ReplaceAllStringFunc(s, func(m string) string {
			return map[string]string{`\\`: "\\", `\'`: "'", `\"`: `"`, `\a`: "\a", `\b`: "\b", `\f`: "\f", `\n`: "\n", `\r`: "\r", `\t`: "\t", `\v`: "\v"}[m]
		})
	}
	switch {
	case p.peek('\''):
		s, ok := p.read(pySingle)
		return decode(pySingleEscape, s), ok
	case p.peek('"'):
		s, ok := p.read(pyDouble)
		return decode(pyDoubleEscape, s), ok
	case p.pos == len(p.text), p.peek('\n'), p.peek('\r'):
		return "", true
	}
	s, ok := p.read(pyUnquoted)
	return pyTrailing.ReplaceAllString(pyInlineComment.ReplaceAllString(s, ""), ""), ok
}

// pythonExpand is resolve_variables with an empty environment.
func pythonExpand(s string, values map[string]string) string {
	return pyVariable.ReplaceAllStringFunc(s, func(m string) string {
		groups := pyVariable.FindStringSubmatch(m)
		if v, ok := values[groups[1]]; ok {
			return v
		}
		return groups[2]
	})
}

// nodeDotenv reads as Node's dotenv 17 does: its LINE pattern and the few lines around it. It replaces no ${NAME}.
func nodeDotenv(text string) map[string]string {
	values := map[string]string{}
	text = regexp.MustCompile(`\r\n?`).ReplaceAllString(text, "\n")
	for _, m := range nodeLine.FindAllStringSubmatch(text, -1) {
		value := strings.Trim(m[2], jsSpace)
		quote := ""
		if value != "" {
			quote = value[:1]
		}
		value = nodeQuotes.ReplaceAllStringFunc(value, func(s string) string {
			return s[1 : len(s)-1]
		})
		if quote == `"` {
			value = strings.ReplaceAll(strings.ReplaceAll(value, `\n`, "\n"), `\r`, "\r")
		}
		values[m[1]] = value
	}
	return values
}

const jsSpace = "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"

var (
	jsS        = "[" + jsSpace + "]"
	nodeLine   = regexp.MustCompile(strings.ReplaceAll(`(?m)^\s*(?:export\s+)?([\w.-]+)(?:\s*=\s*?|:\s+?)(\s*'(?:\\'|[^'])*'|\s*"(?:\\"|[^"])*"|\s*`+"`(?:\\\\`|[^`])*`"+`|[^#\r\n]+)?\s*(?:#.*)?$`, `\s`, jsS))
	nodeQuotes = regexp.MustCompile("(?m)^(?:'(?s:.*)'|\"(?s:.*)\"|`(?s:.*)`)$")
)
