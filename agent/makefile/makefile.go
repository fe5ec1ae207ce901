// Package makefile finds which variables of its environment a Makefile has make
// expand. Make passes its environment on unchanged, but a Makefile that contains
// $(X) gets the value of X expanded, and a value with a $ becomes another value
// there, or runs a program.
//
// It parses text; the caller reads the files. Where it cannot decide, it returns
// that with the reason, and never takes a variable for unused by mistake. Only
// package agent's supervisor imports it.
package makefile

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Files is how the files of a service are read. Names that are not absolute
// are meant in the service's directory.
type Files interface {
	Read(name string) (string, error)
	Glob(pattern string) ([]string, error)
}

// Uses are the variables that a Makefile and the files that it includes expand.
type Uses struct {
	// expanded is where each variable is named so that make expands it.
	expanded map[string]string
	// unclear is where and why others may be expanded, too.
	unclear string
}

// Expands returns where a variable is named so that make expands its value, ""
// if it is not. unclear reports that this cannot be decided; where is the reason
// then.
func (u Uses) Expands(variable string) (where string, unclear bool) {
	if at, named := u.expanded[variable]; named {
		return at, false
	}
	if slices.Contains(builtIn, variable) {
		return "make's own rules", false
	}
	return u.unclear, u.unclear != ""
}

// builtIn are the variables that the rules which make has by itself expand,
// whatever the Makefile contains (make -p).
var builtIn = []string{
	"AR", "ARFLAGS", "AS", "ASFLAGS", "CC", "CFLAGS", "CO", "COFLAGS", "CPP", "CPPFLAGS", "CTANGLE", "CWEAVE", "CXX", "CXXFLAGS",
	"F77", "F77FLAGS", "FC", "FFLAGS", "GET", "GFLAGS", "LD", "LDFLAGS", "LDLIBS", "LEX", "LFLAGS", "LINT", "LINTFLAGS", "LOADLIBES",
	"M2C", "MAKEINFO", "MAKEINFO_FLAGS", "MODFLAGS", "OBJC", "OBJCFLAGS", "OUTPUT_OPTION", "PC", "PFLAGS", "RFLAGS", "RM", "SCCS_OUTPUT_OPTION",
	"TANGLE", "TARGET_ARCH", "TARGET_MACH", "TEX", "TEXI2DVI", "TEXI2DVI_FLAGS", "WEAVE", "XLDLIBS", "YACC", "YFLAGS",
}

// The bounds of what is parsed; beyond them nothing can be decided.
const (
	maxFiles = 64
	maxDepth = 16 // of references in references
)

// Read reads the Makefile of a name and what it includes.
func Read(files Files, name string) Uses {
	s := scan{Uses: Uses{expanded: make(map[string]string)}, files: files, read: make(map[string]bool)}
	s.file(name)
	return s.Uses
}

type scan struct {
	Uses
	files Files
	read  map[string]bool

	// name is that of the file that is being scanned.
	name string
	// text is its content without comments.
	text string
	// lines are the offsets at which its lines begin.
	lines []int
}

// cannot records why expansion cannot be decided, at an offset of the text; the
// first reason counts.
func (s *scan) cannot(at int, why string) {
	if s.unclear == "" {
		s.unclear = s.place(at) + " " + why
	}
}

func (s *scan) place(at int) string {
	n, _ := slices.BinarySearch(s.lines, at+1)
	return fmt.Sprintf("%s:%d", s.name, n)
}

func (s *scan) note(at int, variable string) {
	variable = strings.TrimSpace(variable)
	if _, noted := s.expanded[variable]; !noted {
		s.expanded[variable] = s.place(at)
	}
}

// file scans a file, and then those that it includes.
func (s *scan) file(name string) {
	if s.read[name] {
		return
	}
	s.read[name] = true
	text, err := s.files.Read(name)
	if len(s.read) > maxFiles {
		err = errors.New("too many files are included")
	}
	if err != nil {
		if s.unclear == "" {
			s.unclear = fmt.Sprintf("%s cannot be read: %v", name, err)
		}
		return
	}
	s.name, s.text, s.lines = name, plain(text), nil
	for at := 0; at >= 0; {
		s.lines = append(s.lines, at)
		if next := strings.IndexByte(s.text[at:], '\n'); next >= 0 {
			at += next + 1
		} else {
			at = -1
		}
	}
	s.references(0, len(s.text), 0)
	included := s.directives()
	for _, f := range included { // last: s.name and s.text are theirs then
		s.file(f)
	}
}

// plain removes comments and keeps the lines. There are no comments in a recipe or a
// define: there make expands the text after a #, too.
func plain(text string) string {
	var b strings.Builder
	defines, continued := 0, false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		comment := false
		partOfAnother := continued || strings.HasPrefix(line, "\t") // the line before, or a recipe
		if word := directive(line); !partOfAnother {
			switch {
			case defines == 0 && strings.HasPrefix(word, "#"):
				line, comment = "", true
			case word == "define":
				defines++
			case word == "endef" && defines > 0:
				defines--
			}
		}
		continued = !comment && endsInBackslash(line)
		b.WriteString(line)
		b.WriteByte('\n')
	}
	return b.String()
}

// directive returns the first word of a line behind what may stand before a
// define.
func directive(line string) string {
	for word := range strings.FieldsSeq(line) {
		if word != "override" && word != "export" && word != "private" && word != "unexport" {
			return word
		}
	}
	return ""
}

func endsInBackslash(line string) bool {
	n := len(line) - len(strings.TrimRight(line, `\`))
	return n%2 == 1
}

// references finds what make expands in a part of the text.
func (s *scan) references(from, to, depth int) {
	for i := from; i < to-1; i++ {
		if s.text[i] != '$' {
			continue
		}
		i++
		switch c := s.text[i]; c {
		case '$':
		case '(', '{':
			end := s.closing(i, to)
			if end < 0 || depth == maxDepth {
				s.cannot(i, "has a reference without an end")
				return
			}
			s.reference(i+1, end, depth+1)
			i = end
		default:
			s.note(i, string(c))
		}
	}
}

// closing returns the offset of what closes a bracket, -1 if nothing does.
// Make counts brackets of the same kind alone.
func (s *scan) closing(at, to int) int {
	opens, closes := s.text[at], byte(')')
	if opens == '{' {
		closes = '}'
	}
	for i, n := at, 0; i < to; i++ {
		switch s.text[i] {
		case opens:
			n++
		case closes:
			if n--; n == 0 {
				return i
			}
		}
	}
	return -1
}

// reference scans the text between brackets: a variable or a function.
func (s *scan) reference(from, to, depth int) {
	text := s.text[from:to]
	name, rest, isCall := cutSpace(strings.TrimLeft(text, " \t\\\n"))
	switch {
	case isCall && (name == "origin" || name == "flavor"):
		break // these do not expand the variable
	case isCall && (name == "eval" || name == "guile"):
		s.cannot(from, "makes up what it expands by "+name)
	case isCall && (name == "call" || name == "value"):
		s.named(from, firstArgument(rest))
	case !isCall || !functions[name]:
		variable, _, _ := strings.Cut(text, ":")
		s.named(from, variable)
	}
	if text == "MAKE" {
		s.cannot(from, "runs make again")
	}
	s.references(from, to, depth)
}

// functions are those of make that take text, but for the ones above.
var functions = setOf("subst patsubst strip findstring filter filter-out sort word wordlist words firstword lastword dir notdir suffix basename addsuffix addprefix join wildcard realpath abspath if or and intcmp foreach let file shell error warning info")

func setOf(words string) map[string]bool {
	all := make(map[string]bool)
	for _, w := range strings.Fields(words) {
		all[w] = true
	}
	return all
}

// cutSpace cuts text at its first white space.
func cutSpace(text string) (before, after string, found bool) {
	i := strings.IndexAny(text, " \t\n")
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+1:], true
}

func firstArgument(text string) string {
	first, _, _ := strings.Cut(text, ",")
	return first
}

// named records a variable whose name is in the text, or that its name is computed.
func (s *scan) named(at int, name string) {
	if strings.Contains(name, "$") {
		s.cannot(at, "names a variable by another one")
		return
	}
	s.note(at, name)
}

// runsMake finds make, where a recipe has a command.
var runsMake = regexp.MustCompile(`(^[\t @+-]*|[;&|(]\s*|\b(then|do|else|exec|env|sudo)\s+)(\S*/)?g?make(\s|$)`)

// directives scans the text line by line, and returns the files that are included.
func (s *scan) directives() (included []string) {
	at := 0
	for line := range logicalLines(s.text) {
		word, rest, _ := cutSpace(strings.TrimSpace(line))
		recipe := strings.HasPrefix(line, "\t")
		switch {
		case strings.HasPrefix(word, ".SECONDEXPANSION"), strings.HasPrefix(word, ".RECIPEPREFIX"):
			s.cannot(at, "has "+strings.TrimRight(word, ":="))
		case word == "load" || word == "-load":
			s.cannot(at, "loads code")
		case word == "include" || word == "-include" || word == "sinclude":
			included = append(included, s.include(at, rest)...)
		case recipe && runsMake.MatchString(line):
			s.cannot(at, "runs make again")
		}
		s.appends(at, line, recipe)
		at += len(line) + 1
	}
	return included
}

// logicalLines yields lines with those that continue them, without the newline
// at the end.
func logicalLines(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		start := 0
		for i := range len(text) {
			if text[i] != '\n' || endsInBackslash(text[start:i]) {
				continue
			}
			if !yield(text[start:i]) {
				return
			}
			start = i + 1
		}
		if start < len(text) {
			yield(text[start:])
		}
	}
}

// include finds the files of an include.
func (s *scan) include(at int, names string) (included []string) {
	for _, name := range strings.Fields(strings.ReplaceAll(names, "\\\n", " ")) {
		switch {
		case strings.HasPrefix(name, "#"):
			return included
		case strings.ContainsAny(name, "$~"):
			s.cannot(at, "includes "+name)
		case strings.ContainsAny(name, "*?["):
			all, err := s.files.Glob(name)
			if err != nil {
				s.cannot(at, "includes "+name)
			}
			included = append(included, all...)
		default:
			included = append(included, filepath.Clean(name))
		}
	}
	return included
}

// appends records a variable that += makes one of the Makefile's own: make expands
// that before it passes it on.
func (s *scan) appends(at int, line string, recipe bool) {
	for i := 0; ; {
		n := strings.Index(line[i:], "+=")
		if n < 0 {
			return
		}
		before := strings.TrimRight(line[:i+n], " \t\\\n")
		start := len(before)
		for start > 0 && (before[start-1] == '_' || isWord(before[start-1])) {
			start--
		}
		if name := before[start:]; name != "" {
			s.note(at+i+n, name)
		} else if !recipe && (strings.HasSuffix(before, ")") || strings.HasSuffix(before, "}")) {
			s.cannot(at+i+n, "adds to a variable that it names by another one")
		}
		i += n + 2
	}
}

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
