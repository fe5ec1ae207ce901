package ctl

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// withoutEscapes returns s, which is valid UTF-8, without what a terminal takes for
// a control function (ECMA-48): control sequences (colours, cursor, erase), the strings OSC,
// DCS, SOS, PM and APC up to their end, and the short ones. An unfinished string
// swallows the rest, as a terminal would.
func withoutEscapes(s string) string {
	var out strings.Builder
	done := 0 // what of s is written or left out
	for i := 0; i < len(s); {
		n := escape(s[i:])
		if n == 0 {
			i++
			continue
		}
		out.WriteString(s[done:i])
		i += n
		done = i
	}
	if done == 0 {
		return s
	}
	out.WriteString(s[done:])
	return out.String()
}

// escape returns the length of the escape sequence that s begins with; 0: with none.
func escape(s string) int {
	kind, n := byte(0), 0 // as the second byte of the form with ESC
	switch {
	case s[0] == 0x1b && len(s) > 1:
		kind, n = s[1], 2
	case s[0] == 0x1b:
		return 1
	case s[0] == 0xc2 && len(s) > 1 && s[1] < 0xa0: // C1 in UTF-8
		kind, n = s[1]-0x40, 2
	default:
		return 0
	}
	switch kind {
	case '[':
		n += prefixRun(s[n:], '0', '?')
		n += prefixRun(s[n:], ' ', '/')
		return n + prefixOne(s[n:], '@', '~')
	case ']', 'P', 'X', '^', '_':
		for ; n < len(s); n++ {
			switch rest := s[n:]; {
			case rest[0] == 0x07:
				return n + 1
			case strings.HasPrefix(rest, "\x1b\\"), strings.HasPrefix(rest, "\u009c"):
				return n + 2
			}
		}
		return n
	}
	if s[0] != 0x1b {
		return 0 // another control character
	}
	n = 1 + prefixRun(s[1:], ' ', '/')
	return n + prefixOne(s[n:], '0', '~')
}

// prefixRun returns how many bytes from first to last s begins with.
func prefixRun(s string, first, last byte) (n int) {
	for n < len(s) && first <= s[n] && s[n] <= last {
		n++
	}
	return n
}

// prefixOne is prefixRun of one byte at most.
func prefixOne(s string, first, last byte) int { return min(1, prefixRun(s, first, last)) }

// cleanLine makes one line of something received that is safe to print:
// terminal escapes are removed, other control characters become a space, and
// so do those that reverse the direction of what follows. Whatever a service,
// an agent or a stranger on the broker wrote, it cannot control the terminal.
func cleanLine(s string) string {
	if printable(s) {
		return s
	}
	s = withoutEscapes(strings.ToValidUTF8(s, "\uFFFD"))
	return strings.TrimRight(strings.Map(func(r rune) rune {
		if unsafeRune(r) {
			return ' '
		}
		return r
	}, s), " ")
}

// cleanLines is cleanLine for a text that may have several lines.
func cleanLines(s string) []string {
	s = strings.TrimRight(strings.ReplaceAll(s, "\r\n", "\n"), "\n")
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = cleanLine(l)
	}
	return lines
}

// cleanWords returns a text as one line.
func cleanWords(s string) string {
	return strings.Join(strings.Fields(strings.Join(cleanLines(s), " ")), " ")
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// unsafeRune reports whether r moves the cursor or changes the direction of text: control characters
// (C0, DEL, C1), the bidirectional overrides, and the line separators.
func unsafeRune(r rune) bool {
	return unicode.IsControl(r) ||
		r == '\u061c' || r == '\u200e' || r == '\u200f' ||
		(r >= '\u2028' && r <= '\u202e') || (r >= '\u2066' && r <= '\u2069') || r == '\ufeff'
}

// cleanJSON returns a JSON document that is safe to print. Between tokens
// JSON allows harmless white space alone, so whatever is unsafe stands in a
// string, where \u says the same.
func cleanJSON(b []byte) []byte {
	if printable(string(b)) {
		return b
	}
	const hex = "0123456789abcdef"
	out := make([]byte, 0, len(b)+16)
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && n == 1:
			out = append(out, "\uFFFD"...)
		case unsafeRune(r) && r != '\n':
			out = append(out, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
		default:
			out = append(out, b[:n]...)
		}
		b = b[n:]
	}
	return out
}
