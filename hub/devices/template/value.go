package template

import (
	"cmp"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// The values of a template are nil (None), bool, int64, float64, bigInt,
// string, list, *dict, view and undefined.

type undefined struct{}

// bigInt is an integer of a payload that an int64 cannot hold: only its text.
type bigInt string

type list struct {
	all   []any
	tuple bool
}

// dict is an object, in the order of its keys.
type dict struct {
	// keys are as they are rendered.
	keys   []any
	values map[any]any
}

func newDict() *dict { return &dict{values: make(map[any]any)} }

func (d *dict) get(key any) (any, bool) {
	v, found := d.values[key]
	return v, found
}

func (d *dict) put(key, rendered, value any) {
	if _, had := d.values[key]; !had {
		d.keys = append(d.keys, rendered)
	}
	d.values[key] = value
}

// keyOf returns a key of a dict: numbers that are equal are the same one.
func keyOf(v any) any {
	switch v := v.(type) {
	case nil, int64, string, undefined:
		return v
	case bool:
		n, _ := integerOf(v)
		return n
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v)
		}
		return v
	case *dict:
		ignored()
	case list:
		if !v.tuple {
			ignored()
		}
	}
	unsupported("such a key of an object")
	return nil
}

// truth reports whether a value is true in Python.
func truth(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case int64:
		return v != 0
	case float64:
		return v != 0
	case bigInt:
		return true
	case string:
		return v != ""
	case list:
		return len(v.all) > 0
	case view:
		return len(v) > 0
	case *dict:
		return len(v.keys) > 0
	}
	return false
}

// number returns an int64 or float64 of what counts as a number, else nil.
func number(v any) any {
	switch v := v.(type) {
	case int64, float64:
		return v
	case bool:
		if v {
			return int64(1)
		}
		return int64(0)
	}
	return nil
}

// integerOf returns v where it is an int or a bool.
func integerOf(v any) (int64, bool) {
	n, is := number(v).(int64)
	return n, is
}

// failOperand ends the rendering because an operation has no such operand.
func failOperand(operands ...any) {
	for _, v := range operands {
		if _, is := v.(undefined); is {
			undefinedError()
		}
	}
	for _, v := range operands {
		if _, is := v.(bigInt); is {
			unsupported("calculating with a number beyond 64 bits")
		}
	}
	ignored()
}

// compareNumbers compares numbers exactly. ok is false for what is no number.
func compareNumbers(v, w any) (order int, ok bool) {
	x, isX := v.(int64)
	y, isY := w.(int64)
	if isX && isY {
		return cmp.Compare(x, y), true
	}
	exact := func(v any) *big.Float {
		switch v := v.(type) {
		case int64:
			return new(big.Float).SetInt64(v)
		case float64:
			if !math.IsNaN(v) {
				return big.NewFloat(v)
			}
		}
		return nil
	}
	f, g := exact(v), exact(w)
	if f == nil || g == nil {
		return 0, false
	}
	return f.Cmp(g), true
}

// equal is Python's ==.
func (e *evaluator) equal(v, w any) bool {
	e.step(1)
	if x, y := number(v), number(w); x != nil && y != nil {
		order, ok := compareNumbers(x, y)
		return ok && order == 0
	}
	switch v := v.(type) {
	case nil:
		return w == nil
	case undefined:
		_, is := w.(undefined)
		return is
	case string:
		s, is := w.(string)
		return is && v == s
	case bigInt:
		s, is := w.(bigInt)
		if _, float := w.(float64); float {
			failOperand(v)
		}
		return is && v == s
	case float64:
		if _, is := w.(bigInt); is {
			failOperand(w)
		}
	case list:
		l, is := w.(list)
		return is && v.tuple == l.tuple && slices.EqualFunc(v.all, l.all, e.equal)
	case *dict:
		d, is := w.(*dict)
		if !is || len(v.keys) != len(d.keys) {
			return false
		}
		for _, key := range v.keys {
			x, _ := v.get(keyOf(key))
			if y, found := d.get(keyOf(key)); !found || !e.equal(x, y) {
				return false
			}
		}
		return true
	}
	return false
}

// order compares two values. ok is false where one is no number in the sense of
// floating point; what cannot be compared ends the rendering.
func (e *evaluator) order(v, w any) (order int, ok bool) {
	if x, y := number(v), number(w); x != nil && y != nil {
		return compareNumbers(x, y)
	}
	if s, is := v.(string); is {
		if t, is := w.(string); is {
			return strings.Compare(s, t), true
		}
	}
	l, isL := v.(list)
	m, isM := w.(list)
	if isL && isM && l.tuple == m.tuple {
		unsupported("comparing the order of lists")
	}
	failOperand(v, w)
	return 0, false
}

// contains is "v in of".
func (e *evaluator) contains(of, v any) bool {
	switch of := of.(type) {
	case undefined:
		return false
	case string:
		s, is := v.(string)
		if !is {
			ignored()
		}
		e.step(len(of) / 64)
		return strings.Contains(of, s)
	case list:
		return slices.ContainsFunc(of.all, func(w any) bool { return e.equal(v, w) })
	case view:
		return slices.ContainsFunc(of, func(w any) bool { return e.equal(v, w) })
	case *dict:
		_, found := of.get(keyOf(v))
		return found
	}
	ignored()
	return false
}

// textOf is Python's str.
func textOf(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case undefined:
		return ""
	}
	var b strings.Builder
	represent(&b, v)
	return b.String()
}

// represent writes Python's repr.
func represent(b *strings.Builder, v any) {
	bounded(b.Len())
	switch v := v.(type) {
	case nil:
		b.WriteString("None")
	case bool:
		if v {
			b.WriteString("True")
		} else {
			b.WriteString("False")
		}
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case bigInt:
		b.WriteString(string(v))
	case float64:
		b.WriteString(floatText(v))
	case undefined:
		b.WriteString("Undefined")
	case string:
		representText(b, v)
	case list:
		open, end := "[", "]"
		if v.tuple {
			open, end = "(", ")"
		}
		b.WriteString(open)
		for i, element := range v.all {
			if i > 0 {
				b.WriteString(", ")
			}
			represent(b, element)
		}
		if v.tuple && len(v.all) == 1 {
			b.WriteString(",")
		}
		b.WriteString(end)
	case *dict:
		b.WriteString("{")
		for i, key := range v.keys {
			if i > 0 {
				b.WriteString(", ")
			}
			represent(b, key)
			b.WriteString(": ")
			element, _ := v.get(keyOf(key))
			represent(b, element)
		}
		b.WriteString("}")
	default:
		unsupported("such a value")
	}
}

// representText writes a text as repr of Python does.
func representText(b *strings.Builder, s string) {
	quote := '\''
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	b.WriteRune(quote)
	for _, r := range s {
		switch {
		case r == quote || r == '\\':
			b.WriteRune('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f:
			b.WriteString(`\x`)
			b.WriteString(strconv.FormatInt(int64(r)+0x100, 16)[1:])
		case r != ' ' && !unicode.IsPrint(r):
			unsupported("showing %q within a list", r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteRune(quote)
}

// floatText is Python's repr of a float.
func floatText(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	s := strconv.FormatFloat(f, 'e', -1, 64)
	exponent, _ := strconv.Atoi(s[strings.IndexByte(s, 'e')+1:])
	if exponent < -4 || exponent >= 16 {
		return s
	}
	s = strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
