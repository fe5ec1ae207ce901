package config

import "fmt"

// What a TOML text may hold. The library that reads TOML recurses into nested
// values without a bound and compares each part of a key with all before it:
// these limits hold before it sees the text. Each is far above any real file.
const (
	maxDepth   = 16      // tables and lists within each other, and parts of a key
	maxKey     = 128     // bytes of one part of a key, and of a value without quotes
	maxPath    = 512     // bytes of all parts of a key, with those of its tables
	maxEntries = 1 << 15 // keys, tables and elements of lists
	maxPaths   = 4 << 20 // bytes of the paths of them all
)

// checkBounds reports at which line a text goes beyond a limit and what is wrong
// there; "" where it keeps to all of them. It reads the text once, without
// recursion, and holds nothing of it. Of a text that is not TOML it sees at
// least as much as a parser that stops at the first fault.
func checkBounds(text string) (line int, problem string) {
	s := boundsScanner{scanner: scanner{text: text, line: 1}, key: true}
	for s.pos < len(s.text) && s.problem == "" {
		s.step()
	}
	return s.line, s.problem
}

// boundsScanner is the state of checkBounds.
type boundsScanner struct {
	scanner
	problem string
	// key is set where a key is expected, or one is being read.
	key bool
	// header is set within the brackets of [a.b].
	header bool
	// table is the extent of the last header.
	table extent
	// now is the extent of what is being read.
	now extent
	// open are the brackets that are not closed, outermost first.
	open    []level
	entries int
	paths   int
}

// extent is how deep something is: the parts of its path, and their bytes.
type extent struct{ parts, bytes int }

// level is an open bracket of a value.
type level struct {
	list   bool
	within extent
}

// step reads the next character, or a whole word, string or comment.
func (s *boundsScanner) step() {
	switch c := s.text[s.pos]; c {
	case '#':
		for s.pos < len(s.text) && s.text[s.pos] != '\n' {
			s.pos++
		}
	case '\n':
		s.next()
		if len(s.open) == 0 {
			if s.header {
				s.table, s.header = s.now, false
			}
			s.key, s.now = true, s.table
		}
	case ' ', '\t', '\r', '.':
		s.next()
	case '"', '\'':
		start := s.pos
		s.quoted()
		s.word(s.pos - start)
	case '=':
		s.next()
		s.key = false
		s.entry()
	case '[', '{':
		s.opens(c)
	case ']', '}':
		s.closes()
	case ',':
		s.next()
		s.separate()
	default:
		start := s.pos
		for s.pos < len(s.text) && !isDelimiter(s.text[s.pos]) {
			s.pos++
		}
		if !s.key && s.pos-start > maxKey {
			s.problem = fmt.Sprintf("a value of %d bytes without quotes: %d are the most", s.pos-start, maxKey)
		}
		s.word(s.pos - start)
	}
}

func isDelimiter(c byte) bool {
	switch c {
	case '#', '\n', ' ', '\t', '\r', '.', '"', '\'', '=', '[', '{', ']', '}', ',':
		return true
	}
	return false
}

// word takes a word or string: where a key is read, one part of it.
func (s *boundsScanner) word(size int) {
	if !s.key || s.problem != "" {
		return
	}
	if size > maxKey {
		s.problem = fmt.Sprintf("a key of %d bytes: %d are the most", size, maxKey)
		return
	}
	s.deeper(size + 1)
}

// deeper adds one part to the path of what is being read.
func (s *boundsScanner) deeper(size int) {
	s.now.parts++
	s.now.bytes += size
	if s.now.parts > maxDepth {
		s.problem = fmt.Sprintf("tables, lists and parts of a key within each other: %d are the most", maxDepth)
	} else if s.now.bytes > maxPath {
		s.problem = fmt.Sprintf("a key of more than %d bytes with its tables", maxPath)
	}
}

// entry counts a key, a table or an element.
func (s *boundsScanner) entry() {
	s.entries++
	s.paths += s.now.bytes
	if s.problem != "" {
		return
	}
	if s.entries > maxEntries {
		s.problem = fmt.Sprintf("more than %d keys, tables and elements of lists", maxEntries)
	} else if s.paths > maxPaths {
		s.problem = fmt.Sprintf("all keys with their tables have more than %d bytes", maxPaths)
	}
}

// opens takes a bracket: of a header, where a key is expected outside all
// values, else of a list or an inline table.
func (s *boundsScanner) opens(c byte) {
	s.next()
	s.entry()
	if s.key && len(s.open) == 0 {
		if !s.header {
			s.now = extent{}
		}
		s.header = true
		return
	}
	s.deeper(8) // the number of an element is a part of the path, too
	s.open = append(s.open, level{c == '[', s.now})
	s.key = c == '{'
}

func (s *boundsScanner) closes() {
	s.next()
	if s.header || len(s.open) == 0 {
		return
	}
	s.open = s.open[:len(s.open)-1]
	s.key = false
	if len(s.open) > 0 {
		s.now = s.open[len(s.open)-1].within
	}
}

// separate takes the comma between two elements or keys of an inline table.
func (s *boundsScanner) separate() {
	s.entry()
	if len(s.open) == 0 {
		return
	}
	top := s.open[len(s.open)-1]
	s.now, s.key = top.within, !top.list
}
