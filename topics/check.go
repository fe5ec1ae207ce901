package topics

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// Check returns an error that names the first field of a payload that holds
// what its type does not allow, nil if there is none.
func Check(payload any) error {
	v := reflect.ValueOf(payload)
	if !v.IsValid() {
		return nil
	}
	return checkerOf(v.Type())(v, "")
}

// checker checks a value, and names it in its error. nil checks nothing.
type checker func(v reflect.Value, field string) error

// checkers are made once for a type: heartbeats come by the hundred.
var checkers sync.Map // reflect.Type → checker

func checkerOf(t reflect.Type) checker {
	if c, ok := checkers.Load(t); ok {
		return c.(checker)
	}
	c := makeChecker(t, reflect.StructField{})
	if c == nil {
		c = func(reflect.Value, string) error { return nil }
	}
	checkers.Store(t, c)
	return c
}

// makeChecker returns the checker of a type at a field, whose tags name the type of its
// strings; nil where there is nothing to check.
func makeChecker(t reflect.Type, f reflect.StructField) checker {
	switch t.Kind() {
	case reflect.String:
		return checkText(textType(f.Tag.Get("type")))
	case reflect.Int:
		if f.Tag.Get("type") == "port" {
			return checkPort
		}
	case reflect.Pointer:
		if of := makeChecker(t.Elem(), f); of != nil {
			return func(v reflect.Value, field string) error {
				if v.IsNil() {
					return nil
				}
				return of(v.Elem(), field)
			}
		}
	case reflect.Slice:
		if of := makeChecker(t.Elem(), f); of != nil && t.Elem().Kind() != reflect.Uint8 {
			return func(v reflect.Value, field string) error { return checkElements(v, field, of, f) }
		}
	case reflect.Map:
		return checkMap(textType(f.Tag.Get("key")), makeChecker(t.Elem(), f))
	case reflect.Struct:
		return structChecker(t)
	}
	return nil
}

// structChecker returns the checker of a struct; nil where no field has one.
func structChecker(t reflect.Type) checker {
	type part struct {
		index int
		key   string
		check checker
	}
	var parts []part
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		if c := makeChecker(f.Type, f); c != nil {
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			parts = append(parts, part{i, key, c})
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return func(v reflect.Value, field string) error {
		for _, p := range parts {
			if err := p.check(v.Field(p.index), join(field, p.key)); err != nil {
				return err
			}
		}
		return nil
	}
}

func join(field, key string) string {
	if field == "" {
		return key
	}
	return field + "." + key
}

// invalid is the error about a string, cut short where it is long.
func (t *TextType) invalid(field, s string) error {
	if field == "" {
		field = "the payload"
	} else {
		field = "field " + field
	}
	return fmt.Errorf("%s: %.60q is not %s", field, s, t.Expected)
}

func checkText(t *TextType) checker {
	if t == nil || t.Name == "text" {
		return nil
	}
	return func(v reflect.Value, field string) error {
		if s := v.String(); s != "" && !t.valid(s) {
			return t.invalid(field, s)
		}
		return nil
	}
}

func checkPort(v reflect.Value, field string) error {
	if n := v.Int(); n < 0 || n > 65535 {
		return fmt.Errorf("field %s: %d is not a port: use 0 to 65535", field, n)
	}
	return nil
}

// checkElements checks a list. A list of names or addresses may not have an
// empty element.
func checkElements(v reflect.Value, field string, of checker, f reflect.StructField) error {
	for i := range v.Len() {
		e := v.Index(i)
		if e.Kind() == reflect.String && e.Len() == 0 {
			return textType(f.Tag.Get("type")).invalid(field, "")
		}
		if err := of(e, field); err != nil {
			return err
		}
	}
	return nil
}

// checkMap checks keys and values of an object, in the order of the keys, so
// that the same payload gives the same error.
func checkMap(keys *TextType, of checker) checker {
	if keys == nil && of == nil {
		return nil
	}
	return func(v reflect.Value, field string) error {
		names := v.MapKeys()
		slices.SortFunc(names, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range names {
			if keys != nil && (k.Len() == 0 || !keys.valid(k.String())) {
				return keys.invalid(field, k.String())
			}
			if of == nil {
				continue
			}
			if err := of(v.MapIndex(k), join(field, k.String())); err != nil {
				return err
			}
		}
		return nil
	}
}
