package config

import (
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// findLines returns the line of every key, table and list element of a TOML
// text, by path. toml itself tells positions in errors only.
//
// The text must be one that toml has accepted: the scan knows where keys,
// values and tables begin and end, not what is allowed.
func findLines(text string) map[string]int {
	text = strings.TrimPrefix(text, "\ufeff")
	s := scanner{text: text, line: 1, lines: make(map[string]int), implicit: make(map[string]bool), elements: make(map[string]int)}
	table := ""
	for s.blank(); s.pos < len(s.text); s.blank() {
		start := s.pos
		switch {
		case s.skip("[["):
			table = s.header(true)
		case s.skip("["):
			table = s.header(false)
		default:
			s.keyValue(table)
		}
		if s.pos == start { // not TOML after all
			s.next()
		}
	}
	return s.lines
}

// join returns the path of key in the table at path, quoted where TOML would
// have it quoted.
func join(path, key string) string {
	bare := key != ""
	for i := range len(key) {
		bare = bare && isBare(key[i])
	}
	if !bare {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// element returns the path of the element i of the list at path.
func element(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

func isBare(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

type scanner struct {
	text  string
	pos   int
	line  int
	lines map[string]int
	// implicit are the paths that were noted only on the way to something in them.
	implicit map[string]bool
	// elements counts those of arrays of tables so far.
	elements map[string]int
}

func (s *scanner) next() {
	if s.pos < len(s.text) {
		if s.text[s.pos] == '\n' {
			s.line++
		}
		s.pos++
	}
}

func (s *scanner) peek() byte {
	if s.pos < len(s.text) {
		return s.text[s.pos]
	}
	return 0
}

func (s *scanner) skip(word string) bool {
	if !strings.HasPrefix(s.text[s.pos:], word) {
		return false
	}
	s.pos += len(word)
	return true
}

// blank skips white space, new lines and comments.
func (s *scanner) blank() {
	for s.pos < len(s.text) {
		switch s.text[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.next()
		case '#':
			for s.pos < len(s.text) && s.text[s.pos] != '\n' {
				s.pos++
			}
		default:
			return
		}
	}
}

// note keeps the line of a path: that of its own header or key, where it has
// one, else the first that mentions it.
func (s *scanner) note(path string, line int, implicit bool) {
	if _, known := s.lines[path]; known && (implicit || !s.implicit[path]) {
		return
	}
	s.lines[path] = line
	s.implicit[path] = implicit
}

// header reads the rest of [a.b] or [[a.b]] and returns the path of the table.
func (s *scanner) header(isElement bool) string {
	line := s.line
	path := s.descend("", s.key(), line, isElement)
	s.skip("]")
	s.skip("]")
	return path
}

// descend returns the path of the dotted key parts below base, by way of the
// last element of each array of tables.
func (s *scanner) descend(base string, parts []string, line int, isElement bool) string {
	for i, part := range parts {
		base = join(base, part)
		last := i == len(parts)-1
		s.note(base, line, !last)
		if last && isElement {
			s.elements[base]++
		}
		if n := s.elements[base]; n > 0 {
			base = element(base, n-1)
			s.note(base, line, !last)
		}
	}
	return base
}

func (s *scanner) keyValue(table string) {
	line := s.line
	path := s.descend(table, s.key(), line, false)
	s.blank()
	s.skip("=")
	s.blank()
	s.value(path)
}

// key reads a dotted key.
func (s *scanner) key() []string {
	var parts []string
	for {
		s.blank()
		parts = append(parts, s.keyPart())
		s.blank()
		if !s.skip(".") {
			return parts
		}
	}
}

func (s *scanner) keyPart() string {
	start := s.pos
	if c := s.peek(); c != '"' && c != '\'' {
		for s.pos < len(s.text) && isBare(s.text[s.pos]) {
			s.pos++
		}
		return s.text[start:s.pos]
	}
	s.quoted()
	var unquoted struct{ Key string }
	if _, err := toml.Decode("key = "+s.text[start:s.pos], &unquoted); err != nil {
		return s.text[start:s.pos]
	}
	return unquoted.Key
}

// value passes over the value of the key at path, and notes the lines of what is in it.
func (s *scanner) value(path string) {
	switch s.peek() {
	case '"', '\'':
		s.quoted()
	case '[':
		s.next()
		s.list(']', func(i int) {
			path := element(path, i)
			s.note(path, s.line, false)
			s.value(path)
		})
	case '{':
		s.next()
		s.list('}', func(int) { s.keyValue(path) })
	default:
		for s.pos < len(s.text) && !strings.ContainsRune(",]}#\n", rune(s.text[s.pos])) {
			s.pos++
		}
	}
}

// list reads comma-separated items up to the closing bracket.
func (s *scanner) list(closing byte, item func(i int)) {
	for i := 0; ; {
		s.blank()
		switch s.peek() {
		case 0:
			if s.pos >= len(s.text) {
				return
			}
			s.next()
		case closing:
			s.next()
			return
		case ',':
			s.next()
		default:
			start := s.pos
			item(i)
			i++
			if s.pos == start { // not TOML after all
				s.next()
			}
		}
	}
}

// quoted skips a string of any of the four kinds.
func (s *scanner) quoted() {
	quote := s.text[s.pos : s.pos+1]
	escapes := quote == `"`
	end := quote
	if triple := strings.Repeat(quote, 3); s.skip(triple) {
		end = triple
	} else {
		s.next()
	}
	for s.pos < len(s.text) {
		switch {
		case escapes && s.text[s.pos] == '\\':
			s.next()
			s.next()
		case s.skip(end):
			// a string in triple quotes may end with one or two of its own
			for extra := 0; len(end) == 3 && extra < 2 && s.skip(quote); extra++ {
			}
			return
		default:
			s.next()
		}
	}
}
