package scheduler

import (
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// A pair is one key of a mapping with its value, whose aliases are not yet resolved.
type pair struct {
	key     string
	keyNode ast.Node
	value   ast.Node
	free    bool // nobody is shown the value: it may have line breaks and control characters
}

// entries gives the keys of a mapping, those it merges in after its own.
func (y *cronYAML) entries(n ast.Node) []pair {
	n = y.resolve(n)
	m, ok := n.(ast.MapNode)
	if !ok {
		if n != nil {
			y.faultAt(n, "", "expected keys and values")
		}
		return nil
	}
	var own []pair
	var merged []ast.Node
	lines := map[string]int{}
	for it := m.MapRange(); it.Next(); {
		k := it.Key()
		if !y.spend(k, keyBytes) { // a merge reads all keys again
			return own
		}
		if k.IsMergeKey() {
			merged = append(merged, it.Value())
			continue
		}
		key := k.GetToken().Value
		if first, twice := lines[key]; twice {
			y.faultAt(k, "", "key %q stands here twice; first in line %d", key, first)
			continue
		}
		lines[key], _ = y.place(k)
		own = append(own, pair{key: key, keyNode: k, value: it.Value()})
	}
	for _, n := range merged {
		own = y.merge(own, lines, n)
	}
	return own
}

// merge adds the entries of a merge key's value whose keys are not there yet.
func (y *cronYAML) merge(own []pair, there map[string]int, n ast.Node) []pair {
	if y.merges--; y.merges < 0 {
		if y.merges == -1 {
			y.faultAt(n, "", "too many merge keys")
		}
		return own
	}
	sources := []ast.Node{n}
	if list, ok := y.resolve(n).(*ast.SequenceNode); ok {
		sources = list.Values
	}
	for _, s := range sources {
		for _, e := range y.entries(s) {
			if _, ok := there[e.key]; !ok {
				there[e.key] = 0
				own = append(own, e)
			}
		}
	}
	return own
}

// spend takes n bytes of the table's budget for a node.
func (y *cronYAML) spend(at ast.Node, n int) bool {
	line, column := y.place(at)
	return y.parser.spend(n, line, column)
}

// resolve follows anchors and aliases to the value they stand for: nil after a fault.
func (y *cronYAML) resolve(n ast.Node) ast.Node {
	for range 10 {
		switch v := n.(type) {
		case *ast.AnchorNode:
			n = v.Value
		case *ast.AliasNode:
			to, ok := y.anchors[aliasName(v)]
			if !ok {
				y.faultAt(v, "quote a value that begins with a star",
					"reference *%s has no anchor &%[1]s", aliasName(v))
				return nil
			}
			n = to
		case *ast.TagNode:
			n = v.Value
		default:
			return n
		}
	}
	y.faultAt(n, "", "a reference that refers to itself")
	return nil
}

func aliasName(a *ast.AliasNode) string {
	if a.Value == nil {
		return ""
	}
	return a.Value.GetToken().Value
}

// text gives a value that must be text.
func (y *cronYAML) text(e pair) (string, bool) {
	switch v := y.resolve(e.value).(type) {
	case nil:
		return "", false
	case *ast.StringNode:
		return v.Value, y.plain(e, v.Value)
	case *ast.LiteralNode:
		return v.Value.Value, y.plain(e, v.Value.Value)
	case *ast.NullNode:
		y.faultAt(e.value, "", "%s has no value", e.key)
	case ast.ScalarNode:
		y.faultAt(v, "put it in quotes", "%s must be text", e.key)
	default:
		y.faultAt(v, "", "%s must be text", e.key)
	}
	return "", false
}

// plain reports whether a text can be shown, or passed on where it is free. YAML's escapes make characters that the
// file itself does not have. The last line break is that of a block.
func (y *cronYAML) plain(e pair, text string) bool {
	at := strings.IndexFunc(strings.TrimSuffix(text, "\n"), commands)
	if e.free {
		at = strings.IndexByte(text, 0)
	}
	if at >= 0 {
		y.faultAt(e.value, "a terminal obeys it instead of showing it", "%s has a control character: %+q", e.key,
			[]rune(text[at:])[0])
	}
	return at < 0
}

// scalar gives any single value as it is written.
func (y *cronYAML) scalar(e pair) (string, bool) {
	switch v := y.resolve(e.value).(type) {
	case nil:
		return "", false
	case *ast.StringNode, *ast.LiteralNode, *ast.NullNode:
		return y.text(e)
	case ast.ScalarNode:
		return v.GetToken().Value, true
	default:
		y.faultAt(v, "", "%s must be a single value", e.key)
		return "", false
	}
}

// boolean gives true or false.
func (y *cronYAML) boolean(e pair) (value, ok bool) {
	switch v := y.resolve(e.value).(type) {
	case nil:
		return false, false
	case *ast.BoolNode:
		return v.Value, true
	default:
		y.faultAt(v, "", "%s must be true or false", e.key)
		return false, false
	}
}

// texts gives a list of texts, or a single one as a list.
func (y *cronYAML) texts(e pair) ([]string, bool) {
	v := y.resolve(e.value)
	if v == nil {
		return nil, false
	}
	list, ok := v.(*ast.SequenceNode)
	if !ok {
		t, ok := y.text(e)
		return []string{t}, ok
	}
	var out []string
	good := true
	for _, n := range list.Values {
		t, ok := y.text(pair{key: "each of " + e.key, value: n, free: e.free})
		out, good = append(out, t), good && ok && y.spend(n, len(t)+textBytes)
		if y.left < 0 {
			break
		}
	}
	return out, good
}

// place gives the line of the file and the column of a node.
func (y *cronYAML) place(n ast.Node) (line, column int) {
	if n == nil {
		return y.shift + 1, 1
	}
	t := n.GetToken()
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 && m.Start != nil &&
		m.Start.Type != token.MappingStartType {
		t = m.Values[0].Key.GetToken()
	}
	if t == nil || t.Position == nil {
		return y.shift + 1, 1
	}
	return t.Position.Line + y.shift, t.Position.Column
}

func (y *cronYAML) faultAt(n ast.Node, hint, format string, args ...any) {
	line, column := y.place(n)
	y.fault(line, column, hint, format, args...)
}

// unknown reports an unknown key, with the one that may have been meant. Where Beanstalk's daemon, or others, read the
// file too, a key that is like none of ours is theirs, and no fault.
func (y *cronYAML) unknown(e pair, shared bool, known []string) {
	hint := ""
	slices.Sort(known)
	for _, k := range known {
		if near(k, strings.ToLower(e.key)) {
			hint = "did you mean " + k + "?"
		}
	}
	if shared && hint == "" {
		line, column := y.place(e.keyNode)
		y.warn(line, column, "", "key %q has no meaning here", e.key)
		return
	}
	y.faultAt(e.keyNode, hint, "unknown key %q", e.key)
}

// near reports whether two words differ by one letter, or by one exchange of neighbours,
// or by nothing but the marks between their parts.
func near(a, b string) bool {
	if plain := strings.NewReplacer("_", "", "-", ""); plain.Replace(a) == plain.Replace(b) {
		return true
	}
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	a, b = a[i:], b[i:]
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return len(a) <= 1 && len(b) <= 1 || len(a) == 2 && len(b) == 2 && a[0] == b[1] && a[1] == b[0]
}
