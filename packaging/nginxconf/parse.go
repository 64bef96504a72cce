// Package nginxconf reads nginx's configuration as nginx does: its directives, the files it includes, and where it
// sends a request.
//
// Contract: it reads from a file system that it is given, of limited size, and runs nothing. A file that nginx would
// refuse is read up to the fault. It knows the grammar and the directives that decide who answers, no others.
// Source: nginx 1.22, src/core/ngx_conf_file.c.
package nginxconf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// Directive is one directive with its block, if it has one.
type Directive struct {
	Name  string
	Args  []string // without quotes and escapes
	Block []Directive
	File  string
	Line  int // from 1
}

// At is where the directive stands, "FILE:LINE".
func (d Directive) At() string { return fmt.Sprintf("%s:%d", d.File, d.Line) }

// Arg is the argument number i from 0, or from -1 for the last, "" where there are fewer.
func (d Directive) Arg(i int) string {
	if i < 0 {
		i += len(d.Args)
	}
	if 0 <= i && i < len(d.Args) {
		return d.Args[i]
	}
	return ""
}

const (
	maxFile  = 256 << 10 // bytes; more than any configuration that a person wrote
	maxTotal = 1 << 20   // bytes of a tree
	maxDepth = 16        // of includes, and of blocks
)

// Parse reads the text of one file. With an error it returns what is before the fault.
func Parse(file string, text string) ([]Directive, error) {
	p := parser{file: file, text: text, line: 1}
	return p.block(0)
}

type parser struct {
	file, text string
	at, line   int
}

func (p *parser) fault(what string) error { return fmt.Errorf("%s:%d: %s", p.file, p.line, what) }

// block reads directives up to the end of the block or, at depth 0, of the file.
func (p *parser) block(depth int) (list []Directive, err error) {
	var words []string
	line := 0
	for {
		word, end, err := p.token()
		switch {
		case err != nil:
			return list, err
		case word != nil:
			if words = append(words, *word); len(words) == 1 {
				line = p.line
			}
			continue
		case end == 0 && (len(words) > 0 || depth > 0):
			return list, p.fault("the file ends before the directive does")
		case end == 0:
			return list, nil
		case end == '}' && (len(words) > 0 || depth == 0):
			return list, p.fault(`unexpected "}"`)
		case end == '}':
			return list, nil
		case len(words) == 0:
			return list, p.fault(fmt.Sprintf("unexpected %q", end))
		}
		d := Directive{Name: words[0], Args: words[1:], File: p.file, Line: line}
		if end == '{' {
			if depth == maxDepth {
				return list, p.fault("blocks in too many blocks")
			}
			d.Block, err = p.block(depth + 1)
			d.Block = append([]Directive{}, d.Block...)
		}
		list, words = append(list, d), nil
		if err != nil {
			return list, err
		}
	}
}

// token returns a word, or what ends a directive: ; { } or 0 for the end of the file.
func (p *parser) token() (word *string, end byte, err error) {
	for ; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; c {
		case '\n':
			p.line++
		case ' ', '\t', '\r':
		case '#':
			for p.at < len(p.text) && p.text[p.at] != '\n' {
				p.at++
			}
			p.at--
		case ';', '{', '}':
			p.at++
			return nil, c, nil
		case '"', '\'':
			return p.quoted(c)
		default:
			w := p.plain()
			return &w, 0, nil
		}
	}
	return nil, 0, nil
}

// plain reads a word without quotes around it. In it "{" is a word's end, but not after "$".
func (p *parser) plain() string {
	var w strings.Builder
	for ; p.at < len(p.text); p.at++ {
		c := p.text[p.at]
		if strings.IndexByte(" \t\r\n;{", c) >= 0 && !(c == '{' && strings.HasSuffix(w.String(), "$")) {
			break
		}
		if c == '\\' && p.at+1 < len(p.text) {
			w.WriteString(p.escape())
			continue
		}
		w.WriteByte(c)
	}
	return w.String()
}

func (p *parser) quoted(quote byte) (*string, byte, error) {
	var w strings.Builder
	for p.at++; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; {
		case c == quote:
			p.at++
			if p.at < len(p.text) && strings.IndexByte(" \t\r\n;{)", p.text[p.at]) < 0 {
				return nil, 0, p.fault(fmt.Sprintf("unexpected %q after a quote", p.text[p.at]))
			}
			s := w.String()
			return &s, 0, nil
		case c == '\\' && p.at+1 < len(p.text):
			w.WriteString(p.escape())
		default:
			if c == '\n' {
				p.line++
			}
			w.WriteByte(c)
		}
	}
	return nil, 0, p.fault("a quote is not closed")
}

// escape reads a backslash and what follows. Before any other character than these the backslash stays.
func (p *parser) escape() string {
	p.at++
	switch c := p.text[p.at]; c {
	case '"', '\'', '\\':
		return string(c)
	case 't':
		return "\t"
	case 'r':
		return "\r"
	case 'n':
		return "\n"
	case '\n':
		p.line++
		fallthrough
	default:
		return `\` + string(rune(c))
	}
}

// Tree is a configuration of several files.
type Tree struct {
	FS   fs.FS  // holds the folder of nginx.conf
	Root string // where nginx has that folder: "/etc/nginx"

	read int // bytes
}

// Read reads the file name below FS, with the directives of each file that it includes after the include. What is
// included from outside of Root is left out.
func (t *Tree) Read(name string) ([]Directive, error) { return t.file(name, 0) }

// Included is what a file with this include alone would have.
func (t *Tree) Included(pattern string) []Directive {
	return t.include([]Directive{{Name: "include", Args: []string{pattern}}}, 0)[1:]
}

func (t *Tree) file(name string, depth int) ([]Directive, error) {
	text, err := t.text(name)
	if err != nil {
		return nil, err
	}
	list, err := Parse(name, text)
	return t.include(list, depth), err
}

// text reads a regular file of limited size.
func (t *Tree) text(name string) (string, error) {
	if info, err := fs.Stat(t.FS, name); err != nil || !info.Mode().IsRegular() {
		return "", errors.Join(err, fmt.Errorf("read %q: no such regular file", name))
	}
	f, err := t.FS.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	t.read += len(data)
	switch {
	case err != nil:
		return "", err
	case len(data) > maxFile || t.read > maxTotal:
		return "", fmt.Errorf("read %q: nginx's configuration is larger than %d kB", name, maxTotal>>10)
	}
	return string(data), nil
}

func (t *Tree) include(list []Directive, depth int) (out []Directive) {
	for _, d := range list {
		if d.Block != nil {
			d.Block = append([]Directive{}, t.include(d.Block, depth)...)
		}
		out = append(out, d)
		if d.Name != "include" || len(d.Args) != 1 || depth == maxDepth {
			continue
		}
		for _, name := range t.names(d.Args[0]) {
			more, _ := t.file(name, depth+1)
			out = append(out, more...)
		}
	}
	return out
}

// Includes reports whether d includes the file of this name below Root.
func (t *Tree) Includes(d Directive, name string) bool {
	pattern, ok := t.below(d.Arg(0))
	matches, err := path.Match(pattern, name)
	return d.Name == "include" && ok && err == nil && matches
}

// Places are the blocks of list that include the file of this name, once for each time; an empty Directive stands for
// list itself.
func (t *Tree) Places(list []Directive, name string) []Directive {
	return t.places(Directive{Block: list}, name)
}

func (t *Tree) places(block Directive, name string) (found []Directive) {
	for _, d := range block.Block {
		if t.Includes(d, name) {
			found = append(found, block)
		}
		found = append(found, t.places(d, name)...)
	}
	return found
}

// below is an include's pattern relative to Root.
func (t *Tree) below(pattern string) (string, bool) {
	if !path.IsAbs(pattern) {
		return path.Clean(pattern), true
	}
	return strings.CutPrefix(path.Clean(pattern), t.Root+"/")
}

// names are the files that an include means, in nginx's order.
func (t *Tree) names(pattern string) []string {
	pattern, ok := t.below(pattern)
	all, err := fs.Glob(t.FS, pattern)
	if !ok || err != nil {
		return nil
	}
	var names []string
	for _, name := range all { // glob(3) hides what begins with a dot
		if !strings.HasPrefix(path.Base(name), ".") || strings.HasPrefix(path.Base(pattern), ".") {
			names = append(names, name)
		}
	}
	return names
}
