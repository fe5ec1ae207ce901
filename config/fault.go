package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Environment is the File of a fault of an environment variable.
const Environment = "environment"

// Fault is one thing wrong with a configuration.
type Fault struct {
	// File is "" for the built-in defaults, Environment for a variable.
	File string
	// Line is counted from 1; 0: the file as a whole, or a variable.
	Line int
	// Key is a path such as services.web.port, or the variable; "": none.
	Key string
	// Message says what is wrong.
	Message string
	// Hint says what to do.
	Hint string
}

// String returns "file:line: key: message (hint)", without what is not known.
func (f Fault) String() string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File)
		if f.Line > 0 {
			fmt.Fprintf(&b, ":%d", f.Line)
		}
		b.WriteString(": ")
	}
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	b.WriteString(f.Message)
	if f.Hint != "" {
		b.WriteString(" (" + f.Hint + ")")
	}
	return b.String()
}

// Faults are all faults of a configuration: those of the file by line, then
// those of the environment by variable.
type Faults []Fault

// Error returns one fault a line.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

func (f Faults) sort() {
	slices.SortStableFunc(f, func(a, b Fault) int {
		inEnvironment := func(f Fault) int {
			if f.File == Environment {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(inEnvironment(a), inEnvironment(b)), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Key, b.Key))
	})
}
