// Package nearest finds the name that was probably meant by one that does not exist,
// for messages such as `did you mean "kitchen"?`. It reads what is written and nothing
// else: callers choose which names are compared and how different they may be.
package nearest

import "strings"

// maxLength is the longest word that is compared, in bytes, so that the work for one
// word is proportional to the number of names. The longest name of a service or domain
// is 63; the longest variable of dominion.toml that contains such a name is not much
// longer than twice that.
const maxLength = 128

// Find returns the one of names with the fewest edits from word: at most maxEdits, and
// fewer than the name has bytes. Of several it returns the one with the longest common
// prefix, of these the first in alphabetical order; "" when there is none.
func Find(word string, names []string, maxEdits int) string {
	return find(word, names, maxEdits, func(name string) string { return name })
}

// FindFold is Find without regard to case.
func FindFold(word string, names []string, maxEdits int) string {
	return find(strings.ToLower(word), names, maxEdits, strings.ToLower)
}

// find compares word with each name as form returns it, and returns that name as it is
// in names.
func find(word string, names []string, maxEdits int, form func(string) string) string {
	if word == "" || len(word) > maxLength {
		return ""
	}
	best, bestForm, fewest := "", "", maxEdits+1
	for _, name := range names {
		if len(name) > maxLength {
			continue
		}
		formed := form(name)
		// Two words differ by at least as many edits as their lengths do.
		if abs(len(formed)-len(word)) > fewest || len(formed) > maxLength {
			continue
		}
		d := editDistance(word, formed, fewest)
		if d >= len(formed) {
			continue
		}
		if d < fewest || d == fewest && best != "" && preferred(word, formed, bestForm) {
			best, bestForm, fewest = name, formed, d
		}
	}
	return best
}

// preferred reports whether a is the better answer for word than b, which has as many
// edits.
func preferred(word, a, b string) bool {
	if x, y := commonPrefix(word, a), commonPrefix(word, b); x != y {
		return x > y
	}
	return a < b
}

// commonPrefix returns the length of the common prefix of two words.
func commonPrefix(a, b string) (n int) {
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

func abs(n int) int { return max(n, -n) }

// editDistance returns the number of edits between two words of at most maxLength
// bytes: a byte inserted, deleted or substituted, or two neighbours transposed. For
// words with more edits than maxEdits it returns any number above maxEdits.
func editDistance(a, b string, maxEdits int) int {
	var rows [3][maxLength + 1]uint8
	beforeLast, last, row := &rows[0], &rows[1], &rows[2]
	for j := range len(b) + 1 {
		row[j] = uint8(j)
	}
	lastLeast := 0 // the smallest number of the last row
	for i := range len(a) {
		beforeLast, last, row = last, row, beforeLast
		row[0] = uint8(i + 1)
		least := i + 1
		for j := range len(b) {
			cost := uint8(1)
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, row[j]+1, last[j+1]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], beforeLast[j-1]+1)
			}
			least = min(least, int(row[j+1]))
		}
		if least > maxEdits && lastLeast > maxEdits { // the rest is derived from these two rows
			return maxEdits + 1
		}
		lastLeast = least
	}
	return int(row[len(b)])
}
