package services

import (
	"slices"
	"strings"
)

// maxSpelling bounds the words that Nearest compares, in bytes: the longest
// name of a service or domain is 63, the longest variable of dominion.toml that
// holds such a name is not much longer than twice that.
const maxSpelling = 128

// Nearest returns the name of names that word was probably meant to be: the one
// with the fewest edits, at most most and fewer than it has letters; of several the
// one with the longest common prefix, then the first in the order of names; "" if
// there is none. Words longer than maxSpelling bytes are ignored, so that the work
// for one word is proportional to the number of names.
func Nearest(word string, names []string, most int) string {
	if word == "" || len(word) > maxSpelling {
		return ""
	}
	best, fewest := "", most+1
	for _, k := range names {
		// Words have as many edits as their lengths differ, or more.
		if max(len(k)-len(word), len(word)-len(k)) > fewest || len(k) > maxSpelling {
			continue
		}
		if d := editDistance(word, k, fewest); d >= len(k) {
			continue
		} else if d < fewest || d == fewest && best != "" && preferred(word, k, best) {
			best, fewest = k, d
		}
	}
	return best
}

// preferred reports whether word more probably means a than b, with as many edits.
func preferred(word, a, b string) bool {
	if x, y := common(word, a), common(word, b); x != y {
		return x > y
	}
	return a < b
}

// common returns the length of the common prefix of two words.
func common(a, b string) (n int) {
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// NearestFold is Nearest without regard to case.
func NearestFold(word string, names []string, most int) string {
	if len(word) > maxSpelling {
		return ""
	}
	lower := make([]string, len(names))
	for i, k := range names {
		lower[i] = strings.ToLower(k)
	}
	best := Nearest(strings.ToLower(word), lower, most)
	if best == "" {
		return ""
	}
	return names[slices.Index(lower, best)]
}

// editDistance is the number of edits between two words of at most maxSpelling
// bytes: a letter inserted, deleted or substituted, or two neighbours
// transposed. Of words with more edits than most it is any number above most.
func editDistance(a, b string, most int) int {
	var rows [3][maxSpelling + 1]uint8
	before, last, row := &rows[0], &rows[1], &rows[2]
	for j := range len(b) + 1 {
		row[j] = uint8(j)
	}
	least := 0 // of the row before
	for i := range len(a) {
		before, last, row = last, row, before
		row[0] = uint8(i + 1)
		now := i + 1
		for j := range len(b) {
			cost := uint8(1)
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, row[j]+1, last[j+1]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
			now = min(now, int(row[j+1]))
		}
		if now > most && least > most { // what follows is built on these two rows
			return most + 1
		}
		least = now
	}
	return int(row[len(b)])
}
