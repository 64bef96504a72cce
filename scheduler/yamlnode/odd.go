package yamlnode

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// IsInvisible reports whether a reader takes r for a blank, or does not see it, and programs do neither: a no-break
// space, a zero width space, a soft hyphen.
func IsInvisible(r rune) bool {
	return r > unicode.MaxASCII && (unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zs, r))
}

// isLookalike reports whether r is what an editor or a web page puts in the place of a quote or a hyphen.
func isLookalike(r rune) bool {
	return strings.ContainsRune("‘’“”„«»–—−‐‑•", r)
}

// CharName is r as a message can show it.
func CharName(r rune) string {
	names := map[rune]string{'\u00a0': "a no-break space", '\u200b': "a zero width space", '\u2013': "an en dash",
		'\u2014': "an em dash", '\u201c': "a curved quote", '\u201d': "a curved quote", '\ufeff': "a byte order mark"}
	if name, known := names[r]; known {
		return fmt.Sprintf("%s (%U)", name, r)
	}
	return fmt.Sprintf("the character %U", r)
}

// Odd returns the first character of s that is invisible or a look-alike, and where it is.
func Odd(s string) (r rune, at int) {
	at = strings.IndexFunc(s, func(r rune) bool { return IsInvisible(r) || isLookalike(r) })
	if at < 0 {
		return 0, -1
	}
	r, _ = utf8.DecodeRuneInString(s[at:])
	return r, at
}
