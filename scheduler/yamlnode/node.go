package yamlnode

import (
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// A Pair is one key of a mapping with its value, whose aliases are not yet resolved.
type Pair struct {
	Key     string // for messages, too
	KeyNode ast.Node
	Value   ast.Node
	Free    bool // nobody is shown the value: it may have line breaks and control characters
}

// Bytes of memory, rounded up, as Spend counts them.
const (
	keyBytes  = 8
	textBytes = 16 // of a list, beside the text itself
	nodeBytes = 600
)

// Entries gives the keys of the mapping that e is, those it merges in after its own. A key that stands there twice is
// a fault.
func (r *Reader) Entries(e Pair) []Pair {
	n := r.Resolve(e.Value)
	m, ok := n.(ast.MapNode)
	if !ok {
		if n != nil {
			r.wrong(e, "", "keys and values")
		}
		return nil
	}
	var own []Pair
	var merged []ast.Node
	lines := map[string]int{}
	for it := m.MapRange(); it.Next(); {
		var k ast.Node = it.Key()
		if !r.spend(k, keyBytes) { // a merge reads all keys again
			return own
		}
		if it.Key().IsMergeKey() {
			merged = append(merged, it.Value())
			continue
		}
		if long, ok := k.(*ast.MappingKeyNode); ok && long.Value != nil { // "? KEY"
			k = long.Value
		}
		key := k.GetToken().Value
		if first, twice := lines[key]; twice {
			r.FaultAt(k, "", "key %q stands here twice; first in line %d", key, first)
			continue
		}
		if c, at := Odd(key); at >= 0 {
			r.FaultAt(k, "type it anew", "key %q has %s", key, CharName(c))
			continue
		}
		lines[key], _ = r.Place(k)
		own = append(own, Pair{Key: key, KeyNode: k, Value: it.Value()})
	}
	for _, n := range merged {
		own = r.merge(own, lines, n)
	}
	return own
}

// merge adds the entries of a merge key's value whose keys are not there yet.
func (r *Reader) merge(own []Pair, there map[string]int, n ast.Node) []Pair {
	if r.Merges--; r.Merges < 0 {
		if r.Merges == -1 {
			r.FaultAt(n, "", "too many merge keys")
		}
		return own
	}
	sources := []ast.Node{n}
	if list, ok := r.Resolve(n).(*ast.SequenceNode); ok {
		sources = list.Values
	}
	for _, s := range sources {
		for _, e := range r.Entries(Pair{Key: "<<", Value: s}) {
			if _, ok := there[e.Key]; !ok {
				there[e.Key] = 0
				own = append(own, e)
			}
		}
	}
	return own
}

// spend takes n bytes of the budget for a node.
func (r *Reader) spend(at ast.Node, n int) bool {
	if r.Spend == nil {
		return true
	}
	line, column := r.Place(at)
	return r.Spend(n, line, column)
}

// Resolve follows anchors and aliases to the value they stand for: nil after a fault.
func (r *Reader) Resolve(n ast.Node) ast.Node {
	for range 10 {
		switch v := n.(type) {
		case *ast.AnchorNode:
			n = v.Value
		case *ast.AliasNode:
			to, ok := r.anchors[aliasName(v)]
			if !ok {
				r.FaultAt(v, "quote a value that begins with a star", "a reference to an anchor that is not there")
				return nil
			}
			n = to
		case *ast.TagNode:
			n = v.Value
		default:
			return n
		}
	}
	r.FaultAt(n, "", "a reference that refers to itself")
	return nil
}

func aliasName(a *ast.AliasNode) string {
	if a.Value == nil {
		return ""
	}
	return a.Value.GetToken().Value
}

// IsNull reports whether there is no value.
func IsNull(n ast.Node) bool {
	switch n.(type) {
	case nil, *ast.NullNode, *ast.CommentNode, *ast.CommentGroupNode:
		return true
	}
	return false
}

// Text gives a value that must be text.
func (r *Reader) Text(e Pair) (string, bool) {
	switch v := r.Resolve(e.Value).(type) {
	case nil:
		return "", false
	case *ast.StringNode:
		return v.Value, r.plain(e, v.Value)
	case *ast.LiteralNode:
		return v.Value.Value, r.plain(e, v.Value.Value)
	case ast.MapNode, ast.ScalarNode:
		if !IsNull(v) {
			r.wrong(e, "put it in quotes", "text")
			break
		}
		r.wrong(e, "", "text")
	default:
		r.wrong(e, "", "text")
	}
	return "", false
}

// plain reports whether a text can be shown, or passed on where it is free. YAML's escapes make characters that the
// file itself does not have. The last line break is that of a block.
func (r *Reader) plain(e Pair, text string) bool {
	at := strings.IndexFunc(strings.TrimSuffix(text, "\n"), IsCommand)
	if e.Free {
		at = strings.IndexByte(text, 0)
	}
	if at >= 0 {
		r.FaultAt(e.Value, "a terminal obeys it instead of showing it", "%s has a control character: %+q", e.Key,
			[]rune(text[at:])[0])
	}
	return at < 0
}

// IsCommand reports whether a terminal obeys c instead of showing it.
func IsCommand(c rune) bool { return unicode.IsControl(c) || unicode.Is(unicode.Bidi_Control, c) }

// Scalar gives any single value as it is written.
func (r *Reader) Scalar(e Pair) (string, bool) { return r.scalar(e, "a single value") }

func (r *Reader) scalar(e Pair, want string) (string, bool) {
	switch v := r.Resolve(e.Value).(type) {
	case nil:
		return "", false
	case *ast.StringNode, *ast.LiteralNode, *ast.NullNode:
		return r.Text(e)
	case ast.ScalarNode:
		return v.GetToken().Value, true
	default:
		r.wrong(e, "", want)
		return "", false
	}
}

// Boolean gives true or false.
func (r *Reader) Boolean(e Pair) (value, ok bool) {
	switch v := r.Resolve(e.Value).(type) {
	case nil:
		return false, false
	case *ast.BoolNode:
		return v.Value, true
	default:
		r.wrong(e, "", "true or false")
		return false, false
	}
}

// List gives the elements of a list.
func (r *Reader) List(e Pair) ([]ast.Node, bool) {
	switch v := r.Resolve(e.Value).(type) {
	case nil:
		return nil, false
	case *ast.SequenceNode:
		return v.Values, true
	default:
		r.wrong(e, "", "a list")
		return nil, false
	}
}

// Texts gives a list of texts, or a single one as a list.
func (r *Reader) Texts(e Pair) ([]string, bool) {
	v := r.Resolve(e.Value)
	if v == nil {
		return nil, false
	}
	list, ok := v.(*ast.SequenceNode)
	if !ok {
		t, ok := r.Text(e)
		return []string{t}, ok
	}
	var out []string
	good := true
	for _, n := range list.Values {
		t, ok := r.Text(Pair{Key: "each of " + e.Key, Value: n, Free: e.Free})
		out, good = append(out, t), good && ok
		if !r.spend(n, len(t)+textBytes) {
			return out, false
		}
	}
	return out, good
}

// Duration gives a length of time, as [ParseDuration] reads it.
func (r *Reader) Duration(e Pair) (time.Duration, bool) {
	t, ok := r.scalar(e, "a duration")
	if !ok {
		return 0, false
	}
	d, err := ParseDuration(t)
	if err != nil {
		r.FaultAt(e.Value, "such as 90s, 5m, 2h or 1d", "%s %v", e.Key, err)
	}
	return d, err == nil
}

// Place gives the line of the file and the column of a node.
func (r *Reader) Place(n ast.Node) (line, column int) {
	if n == nil {
		return r.Shift + 1, 1
	}
	t := n.GetToken()
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 && m.Start != nil &&
		m.Start.Type != token.MappingStartType {
		t = m.Values[0].Key.GetToken()
	}
	if t == nil || t.Position == nil {
		return r.Shift + 1, 1
	}
	return t.Position.Line + r.Shift, t.Position.Column
}

// FaultAt reports a fault at a node.
func (r *Reader) FaultAt(n ast.Node, hint, format string, args ...any) {
	line, column := r.Place(n)
	r.Report(line, column, hint, format, args...)
}

// wrong reports a value of another type.
func (r *Reader) wrong(e Pair, hint, want string) {
	before := ""
	if e.Key != "" {
		before = e.Key + ": "
	}
	r.FaultAt(e.Value, hint, "%sexpected %s, have %s", before, want, kind(r.Resolve(e.Value)))
}

// kind names a node's type, never its text.
func kind(n ast.Node) string {
	switch n.(type) {
	case ast.MapNode:
		return "keys and values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode, *ast.LiteralNode:
		return "a text"
	case *ast.BoolNode:
		return "true or false"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	}
	return "nothing"
}

// Unknown reports a key that is not one of known.
func (r *Reader) Unknown(e Pair, known []string) {
	hint := Suggest(e.Key, known)
	if hint == "" {
		hint = "one of " + strings.Join(slices.Sorted(slices.Values(known)), ", ")
	}
	r.FaultAt(e.KeyNode, hint, "unknown key %q", e.Key)
}
