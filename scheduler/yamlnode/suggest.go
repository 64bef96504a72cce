package yamlnode

import (
	"slices"
	"strings"
)

// Suggest asks whether one of the known words was meant, the nearest; it is empty where none is near.
func Suggest(word string, known []string) string {
	best, least := "", 3
	for _, k := range slices.Sorted(slices.Values(known)) {
		far := distance(bare(word), bare(k))
		if allowed := 1 + len(k)/8; far <= min(allowed, 2) && far < least {
			best, least = k, far
		}
	}
	if best == "" {
		return ""
	}
	return "did you mean " + best + "?"
}

// bare is a word without case and without the marks between its parts.
func bare(word string) string { return strings.ToLower(marks.Replace(word)) }

var marks = strings.NewReplacer("_", "", "-", "", " ", "")

// distance counts the letters to add, to leave out, to change, and the neighbours to exchange, between two words. Words
// of very different lengths are far, however long.
func distance(a, b string) int {
	const far = 99
	if len(a)-len(b) > 2 || len(b)-len(a) > 2 {
		return far
	}
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			row[j] = min(last[j], row[j-1]) + 1
			if a[i-1] == b[j-1] {
				row[j] = min(row[j], last[j-1])
			} else {
				row[j] = min(row[j], last[j-1]+1)
			}
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
