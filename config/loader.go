package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/jmbarzee/dominion/internal/nearest"
)

// maxSize is far above any real file: it stops a disk image given by mistake.
const maxSize = 1 << 20

// maxCompared bounds the search for the keys that unknown keys were meant to
// be: the first of them have a suggestion.
const maxCompared = 1 << 20

// loader is one reading of one file and of the variables that override it.
type loader struct {
	file string
	// folder is that of file, absolute: its paths are relative to it.
	folder string
	// lines are by path.
	lines  map[string]int
	faults Faults
	// faulty are the paths of values with a fault.
	faulty map[string]bool
	// prefix is that of the variables, without the last "_".
	prefix string
	// variables are the values by name, of those of the prefix only.
	variables map[string]string
	// taken is the path by the name of the variable that overrides it.
	taken map[string]string
	// overridden is the name of the variable by path.
	overridden map[string]string
	requested  []requestedKey
	unknown    []unknownKey
	sibling    sibling
	// compared counts the requested keys that unknown ones were compared with.
	compared int
	// atRunTime is set where definitions at run time are read.
	atRunTime bool
	// exists and isUser are those of host.
	exists func(path string) bool
	isUser func(name string) bool
}

// requestedKey is a key that was looked for, whether the file has it or not.
type requestedKey struct{ table, key, variable string }

// unknownKey is a key of a file that nobody looked for.
type unknownKey struct {
	in  *table
	key string
}

// open reads file into the root table. A nil table means that nothing can be
// said beyond the faults of the loader.
func open(file, prefix string, environ []string) (*loader, *table) {
	if file == "" {
		return openText("", "", prefix, environ)
	}
	text, err := read(file)
	if err != nil {
		return &loader{file: file, faults: Faults{unreadable(file, err)}}, nil
	}
	l, root := openText(file, text, prefix, environ)
	l.folder = absolute(filepath.Dir(file))
	return l, root
}

// openText is open for the text of a file.
func openText(file, text, prefix string, environ []string) (*loader, *table) {
	l := &loader{
		file:       file,
		lines:      make(map[string]int),
		faulty:     make(map[string]bool),
		prefix:     prefix,
		variables:  make(map[string]string),
		taken:      make(map[string]string),
		overridden: make(map[string]string),
	}
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		if prefix != "" && strings.HasPrefix(name, prefix+"_") {
			l.variables[name] = value
		}
	}
	root := &table{l: l, variable: prefix}
	if text == "" {
		return l, root
	}
	values, err := decode(file, text)
	if err != nil {
		l.faults = Faults{*err}
		return l, nil
	}
	root.values = values
	l.lines = findLines(text)
	return l, root
}

// decode reads a text as TOML, if it keeps to the limits of checkBounds.
func decode(file, text string) (map[string]any, *Fault) {
	if line, problem := checkBounds(text); problem != "" {
		return nil, &Fault{File: file, Line: line, Message: problem, Hint: "is it the right file?"}
	}
	var values map[string]any
	if _, err := toml.Decode(text, &values); err != nil {
		f := syntax(file, err)
		return nil, &f
	}
	return values, nil
}

func read(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(b) > maxSize {
		err = fmt.Errorf("it is larger than %d bytes", maxSize)
	}
	return string(b), err
}

func unreadable(file string, err error) Fault {
	var inPath *fs.PathError
	if errors.As(err, &inPath) {
		err = inPath.Err
	}
	hint := "is it the right file?"
	if errors.Is(err, fs.ErrNotExist) {
		hint = "write the path of a file that is there, or name none for the built-in defaults"
	} else if errors.Is(err, fs.ErrPermission) {
		hint = "let the user that runs this program read it"
	}
	return Fault{File: file, Message: fmt.Sprintf("cannot read it: %v", err), Hint: hint}
}

// syntax returns the fault that a file is not TOML, with the line and a hint where the
// library's message says enough.
func syntax(file string, err error) Fault {
	f := Fault{File: file, Message: err.Error(), Hint: "mend it first: what follows could not be read"}
	var parse toml.ParseError
	if errors.As(err, &parse) {
		// The library gives line 0 to some faults of the first line.
		f.Line, f.Message = max(parse.Position.Line, 1), strings.TrimSuffix(parse.Message, ".")
		if strings.Contains(f.Message, "expected value but found") {
			f.Hint = `text is written in quotes, as name = "home"`
		}
		if strings.Contains(f.Message, "already been defined") {
			f.Hint = "write it once, with all that belongs to it"
		}
	}
	f.Message = "cannot read it as TOML: " + strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, f.Message)
	return f
}

// finish returns all faults, nil if there are none.
func (l *loader) finish() error {
	for _, u := range l.unknown {
		f := l.at(u.in, u.key)
		f.Message, f.Hint = "unknown key", l.suggestKey(u)
		l.faults = append(l.faults, f)
	}
	for _, name := range slices.Sorted(maps.Keys(l.variables)) {
		if l.taken[name] == "" {
			l.faults = append(l.faults, Fault{File: Environment, Key: name, Message: "names no key", Hint: l.suggestVariable(name)})
		}
	}
	if len(l.faults) == 0 {
		return nil
	}
	l.faults.sort()
	return l.faults
}

// at returns a fault of a key without a message: at the variable that set it,
// else at its line, else at the line of its table.
func (l *loader) at(t *table, key string) Fault {
	path := t.path
	if key != "" {
		path = join(t.path, key)
	}
	if name := l.variableOf(path); name != "" {
		return Fault{File: Environment, Key: name}
	}
	f := Fault{File: l.file, Line: l.lines[path], Key: path}
	for ; f.Line == 0 && t != nil; t = t.up {
		f.Line = l.lines[t.path]
	}
	if f.Line == 0 && l.file != "" {
		f.Line = 1
	}
	return f
}

// variableOf returns the variable that set the value at path, or one in it.
func (l *loader) variableOf(path string) string {
	if name := l.overridden[path]; name != "" {
		return name
	}
	var within []string
	for p, name := range l.overridden {
		if path != "" && (strings.HasPrefix(p, path+".") || strings.HasPrefix(p, path+"[")) {
			within = append(within, name)
		}
	}
	if len(within) == 0 {
		return ""
	}
	return slices.Min(within)
}

// suggestKey returns a hint for an unknown key: the closest key of its table,
// or the table where there is a key of that name.
func (l *loader) suggestKey(u unknownKey) string {
	if l.compared += len(l.requested); l.compared > maxCompared {
		return "take it out"
	}
	var here []string
	var elsewhere []string
	for _, k := range l.requested {
		if k.table == u.in.path {
			here = append(here, k.key)
		} else if k.key == u.key && !slices.Contains(elsewhere, k.table) {
			elsewhere = append(elsewhere, k.table)
		}
	}
	if other := l.siblingFile(u); other != "" {
		return "it is a key of " + other + ": write it there"
	}
	if best := closest(u.key, here, 2); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	if len(elsewhere) == 0 {
		slices.Sort(here)
		if len(here) == 0 {
			return "take it out"
		}
		return "known here: " + strings.Join(slices.Compact(here), ", ")
	}
	if elsewhere[0] == "" {
		return "it belongs at the top, before the first [table]"
	}
	if array, _, in := strings.Cut(elsewhere[0], "["); in {
		return "it belongs into [[" + array + "]]"
	}
	return "it belongs into [" + elsewhere[0] + "]"
}

// suggestVariable returns a hint for a variable of our prefix that names no key: the
// closest variable that does.
func (l *loader) suggestVariable(name string) string {
	var known []string
	for _, k := range l.requested {
		if strings.HasPrefix(k.variable, name+"_") {
			return "it names a table: set its keys, as " + k.variable
		}
		known = append(known, k.variable)
	}
	adds := strings.HasPrefix(name, l.prefix+"_SERVICES_") || strings.HasPrefix(name, l.prefix+"_BROKER_USERS_")
	reach := 2
	if adds { // of names that users choose, short ones are alike by chance
		reach = 1
	}
	if best := closest(name, known, reach); best != "" {
		return fmt.Sprintf("did you mean %s?", best)
	}
	if adds {
		return "a variable changes what the file defines and adds nothing: is the name defined there?"
	}
	return "unset it, or write it as " + l.prefix + "_<TABLE>_<KEY>"
}

// closest returns the known word that was probably meant, at most most edits
// away, "" if none is.
func closest(word string, known []string, most int) string {
	if best := nearest.FindFold(word, known, most); best != "" {
		return best
	}
	lower := strings.ToLower(word)
	for _, k := range known { // "password" for "password_file"
		if len(word) >= 4 && (strings.HasPrefix(k, lower+"_") || strings.HasSuffix(k, "_"+lower)) {
			return k
		}
	}
	return ""
}

// absolute returns path as an absolute one; as it is where the working
// directory is gone.
func absolute(path string) string {
	if a, err := filepath.Abs(path); err == nil {
		return a
	}
	return path
}
