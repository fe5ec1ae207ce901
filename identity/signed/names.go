package signed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// maxDepth is how deep the values of a signed message may be nested.
const maxDepth = 64

// CheckNames returns an error if an object of a payload has a name twice. encoding/json
// takes the last one, and matches the names of struct fields in any case; other
// parsers take the first one. So names are compared in any case, except where T has a
// map: its keys are matched byte for byte, and variables of an environment may
// differ in case alone. For a T that is any, all names are compared in any case.
func CheckNames[T any](payload []byte) error {
	if !json.Valid(payload) {
		return errors.New("cannot read a signed message: it is not valid JSON")
	}
	s := scanner{rest: payload, names: make([][]byte, 0, 4*maxFew)}
	return s.value(shapeOf(reflect.TypeFor[T]()), 0)
}

// shape is what CheckNames has to know of a type.
type shape struct {
	// exact is true for maps: names that differ in case are different.
	exact bool
	// element is the shape of the values of a map, and of the elements of a list.
	element *shape
	// fields holds the shapes of the fields of a struct, by folded name.
	fields map[string]*shape
}

// anything is the shape of values whose type is not known.
var anything = &shape{}

// member returns the shape of the value at a folded name of an object.
func (s *shape) member(folded []byte) *shape {
	if s.exact {
		return s.element
	}
	if f := s.fields[string(folded)]; f != nil {
		return f
	}
	return anything
}

// shapes are made once for a type.
var shapes sync.Map // reflect.Type → *shape

func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	s := makeShape(t, make(map[reflect.Type]bool))
	shapes.Store(t, s)
	return s
}

// makeShape makes the shape of a type. open holds the structs that are being made: a
// type that contains itself is checked strictly below.
func makeShape(t reflect.Type, open map[reflect.Type]bool) *shape {
	if t == reflect.TypeFor[json.RawMessage]() {
		return anything
	}
	switch t.Kind() {
	case reflect.Pointer:
		return makeShape(t.Elem(), open)
	case reflect.Slice, reflect.Array:
		return &shape{element: makeShape(t.Elem(), open)}
	case reflect.Map:
		return &shape{exact: true, element: makeShape(t.Elem(), open)}
	case reflect.Struct:
		if open[t] {
			return anything
		}
		open[t] = true
		defer delete(open, t)
		s := &shape{fields: make(map[string]*shape)}
		s.addFields(t, open)
		return s
	}
	return anything
}

// addFields adds the fields of a struct, and those of structs that it embeds.
func (s *shape) addFields(t reflect.Type, open map[reflect.Type]bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		of := f.Type
		if of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		if f.Anonymous && name == "" && of.Kind() == reflect.Struct {
			s.addFields(of, open)
			continue
		}
		if !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		s.fields[fold(name)] = makeShape(f.Type, open)
	}
}

// fold returns a name in which letters that Unicode folds into each other are one, as
// encoding/json and bytes.EqualFold compare them.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf {
			if 'A' <= r && r <= 'Z' {
				return r + 'a' - 'A'
			}
			return r
		}
		smallest := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			smallest = min(smallest, next)
		}
		if 'A' <= smallest && smallest <= 'Z' {
			return smallest + 'a' - 'A'
		}
		return smallest
	}, name)
}

// scanner walks over JSON that is valid.
type scanner struct {
	rest []byte
	// names are those of the objects that are open, outermost first.
	names [][]byte
}

// next skips space and returns the next byte.
func (s *scanner) next() byte {
	for len(s.rest) > 0 {
		switch s.rest[0] {
		case ' ', '\t', '\r', '\n':
			s.rest = s.rest[1:]
		default:
			return s.rest[0]
		}
	}
	return 0
}

// text takes a string, quotes included.
func (s *scanner) text() []byte {
	for end := 1; ; {
		i := bytes.IndexByte(s.rest[end:], '"')
		if i < 0 {
			t := s.rest
			s.rest = nil
			return t
		}
		end += i + 1
		escapes := 0
		for escapes < end-2 && s.rest[end-2-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			t := s.rest[:end]
			s.rest = s.rest[end:]
			return t
		}
	}
}

// value takes a value of a shape.
func (s *scanner) value(of *shape, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("cannot read a signed message: it is nested deeper than %d", maxDepth)
	}
	switch s.next() {
	case '{':
		return s.object(of, depth)
	case '[':
		element := of.element
		if element == nil || of.exact {
			element = anything
		}
		s.rest = s.rest[1:]
		for s.next() != ']' {
			if err := s.value(element, depth+1); err != nil {
				return err
			}
			if s.next() == ',' {
				s.rest = s.rest[1:]
			}
		}
		s.rest = s.rest[1:]
	case '"':
		s.text()
	default: // a number, true, false, null
		for len(s.rest) > 0 && !endsLiteral(s.rest[0]) {
			s.rest = s.rest[1:]
		}
	}
	return nil
}

// endsLiteral reports whether a byte is behind a number, true, false or null.
func endsLiteral(b byte) bool {
	switch b {
	case ',', ']', '}', ' ', '\t', '\r', '\n':
		return true
	}
	return false
}

// object takes an object, and refuses a name that it has twice.
func (s *scanner) object(of *shape, depth int) error {
	outer := len(s.names)
	defer func() { s.names = s.names[:outer] }()
	var many map[string]bool
	s.rest = s.rest[1:]
	for s.next() != '}' {
		quoted := s.text()
		key, folded := quoted[1:len(quoted)-1], quoted[1:len(quoted)-1]
		if !isPlain(key, of.exact) {
			var name string
			if err := json.Unmarshal(quoted, &name); err != nil {
				return fmt.Errorf("cannot read a signed message: %w", err)
			}
			folded = []byte(fold(name))
			if key = folded; of.exact {
				key = []byte(name)
			}
		}
		if s.isThere(key, outer, &many) {
			return fmt.Errorf("cannot read a signed message: it has the name %.60q twice", key)
		}
		s.next()
		s.rest = s.rest[1:] // the colon
		if err := s.value(of.member(folded), depth+1); err != nil {
			return err
		}
		if s.next() == ',' {
			s.rest = s.rest[1:]
		}
	}
	s.rest = s.rest[1:]
	return nil
}

// isPlain reports whether a name is what stands between its quotes, and, unless it is compared
// exactly, what it is folded to: nearly all are.
func isPlain(name []byte, exact bool) bool {
	for _, b := range name {
		if b == '\\' || b >= utf8.RuneSelf || !exact && 'A' <= b && b <= 'Z' {
			return false
		}
	}
	return true
}

// maxFew is how many names of an object are compared one by one, which needs no memory.
const maxFew = 16

// isThere reports whether an object whose names begin at outer has a name already, and adds it.
// many are its names once they are not few.
func (s *scanner) isThere(name []byte, outer int, many *map[string]bool) bool {
	if *many == nil {
		few := s.names[outer:]
		for _, other := range few {
			if bytes.Equal(other, name) {
				return true
			}
		}
		if len(few) < maxFew {
			s.names = append(s.names, name)
			return false
		}
		*many = make(map[string]bool)
		for _, other := range few {
			(*many)[string(other)] = true
		}
	}
	if (*many)[string(name)] {
		return true
	}
	(*many)[string(name)] = true
	return false
}
