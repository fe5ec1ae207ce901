package logs

import (
	"bytes"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jmbarzee/dominion/topics"
)

// maxLine is where a line is cut, in bytes.
const maxLine = 4 << 10

// Clean makes a line fit to be shown: without terminal escapes (ECMA-48) and
// control characters but the tab, as valid UTF-8, 4 KiB at most. A line that a
// carriage return wrote over is what was written last.
func Clean(line []byte) string {
	line = bytes.TrimRight(line, "\r\n")
	if i := bytes.LastIndexByte(line, '\r'); i >= 0 {
		line = line[i+1:]
	}
	line = line[:min(len(line), 4*maxLine)] // escapes may take room that the rest does not
	var out strings.Builder
	for len(line) > 0 {
		r, size := utf8.DecodeRune(line)
		if skip := escape(line, r, size); skip > 0 {
			line = line[skip:]
			continue
		}
		line = line[size:]
		if r != '\t' && hidden(r) {
			continue
		}
		if out.Len()+utf8.RuneLen(r) > maxLine {
			break
		}
		out.WriteRune(r)
	}
	return out.String()
}

// hidden reports whether a character is not displayed: control characters, and those
// that change the direction of writing.
func hidden(r rune) bool {
	return unicode.IsControl(r) || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 ||
		r == 0x2028 || r == 0x2029
}

// escape returns the length of the escape sequence that line begins with, 0 if
// there is none.
func escape(line []byte, r rune, size int) int {
	var kind byte
	switch {
	case r == 0x1b && len(line) > 1:
		kind, size = line[1], 2
	case r == 0x1b:
		return 1
	case r >= 0x80 && r <= 0x9f: // the same in one character
		kind = byte(r) - 0x40
	default:
		return 0
	}
	switch {
	case kind == '[': // CSI: parameters, then a final byte
		for i, c := range line[size:] {
			if c >= 0x40 && c <= 0x7e {
				return size + i + 1
			}
			if c < 0x20 || c > 0x7e {
				return size + i
			}
		}
		return len(line)
	case strings.IndexByte("]PX^_", kind) >= 0: // strings, up to BEL or ST
		for i := size; i < len(line); i++ {
			switch {
			case line[i] == 0x07:
				return i + 1
			case line[i] == 0x1b && i+1 < len(line) && line[i+1] == '\\':
				return i + 2
			case line[i] == 0xc2 && i+1 < len(line) && line[i+1] == 0x9c:
				return i + 2
			}
		}
		return len(line)
	case kind >= 0x20 && kind <= 0x2f: // intermediate bytes, then a final one
		for i, c := range line[size:] {
			if c < 0x20 || c > 0x2f {
				return size + i + 1
			}
		}
		return len(line)
	case kind < 0x20 || kind >= 0x80:
		return size - 1 // a lone ESC; what follows is looked at by itself
	}
	return size
}

// at returns a time as a line has it: none if it is unknown.
func at(t time.Time) topics.Time {
	if t.IsZero() {
		return topics.Time{}
	}
	return topics.At(t)
}
