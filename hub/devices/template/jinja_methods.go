package template

import (
	"slices"
	"strings"
	"unicode"
)

// view is what keys, values and items of an object return.
type view []any

// dictMethods are Python's, which hide members of the same name.
var dictMethods = set("clear copy fromkeys get items keys pop popitem setdefault update values")

// stringAttributes are Python's methods of texts.
var stringAttributes = set(`capitalize casefold center count encode endswith expandtabs find format format_map index isalnum
	isalpha isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper join ljust lower lstrip
	maketrans partition removeprefix removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines
	startswith strip swapcase title translate upper zfill`)

// otherAttributes are Python's of numbers and lists.
var otherAttributes = set(`append clear copy count extend index insert pop remove reverse sort real imag numerator denominator
	conjugate is_integer as_integer_ratio bit_length bit_count to_bytes from_bytes hex fromhex from_number`)

func set(names string) map[string]bool {
	all := make(map[string]bool)
	for _, name := range strings.Fields(names) {
		all[name] = true
	}
	return all
}

// hasAttribute reports whether Python finds an attribute at a value.
func hasAttribute(v any, name string) bool {
	if strings.HasPrefix(name, "_") {
		return true
	}
	switch v.(type) {
	case *dict:
		return dictMethods[name]
	case string:
		return stringAttributes[name]
	case nil:
		return false
	case view:
		return true
	}
	return otherAttributes[name]
}

// objectMethods are those of objects that are evaluated.
var objectMethods = map[string]function{
	"get": {[]string{"", ""}, func(_ *evaluator, v any, with []any) any {
		if found, ok := v.(*dict).get(keyOf(required(with[0]))); ok { //nolint:forcetypeassert // they are of it alone
			return found
		}
		return or(with[1], nil)
	}},
	"items": {nil, func(e *evaluator, v any, _ []any) any {
		var all view
		e.members(v, func(key, value any) { all = append(all, list{[]any{key, value}, true}) })
		return all
	}},
	"keys": {nil, func(e *evaluator, v any, _ []any) any {
		var all view
		e.members(v, func(key, _ any) { all = append(all, key) })
		return all
	}},
	"values": {nil, func(e *evaluator, v any, _ []any) any {
		var all view
		e.members(v, func(_, value any) { all = append(all, value) })
		return all
	}},
}

func (e *evaluator) members(v any, take func(key, value any)) {
	d, _ := v.(*dict)
	e.step(len(d.keys))
	for _, key := range d.keys {
		value, _ := d.get(keyOf(key))
		take(key, value)
	}
}

// stringMethods are those of texts that are evaluated.
var stringMethods = map[string]function{
	"capitalize":   onText(capitalize),
	"count":        {[]string{""}, func(_ *evaluator, v any, with []any) any { return int64(countOf(v, textArgument(with[0]))) }},
	"endswith":     {[]string{""}, affix(strings.HasSuffix)},
	"find":         {[]string{""}, find},
	"isdigit":      {nil, allRunes(unicode.IsDigit)},
	"isnumeric":    {nil, allRunes(unicode.IsNumber)},
	"lower":        onText(strings.ToLower),
	"lstrip":       {[]string{""}, func(_ *evaluator, v any, with []any) any { return strip(textOf(v), with[0], true, false) }},
	"removeprefix": {[]string{""}, func(_ *evaluator, v any, with []any) any { return strings.TrimPrefix(textOf(v), textArgument(with[0])) }},
	"removesuffix": {[]string{""}, func(_ *evaluator, v any, with []any) any { return strings.TrimSuffix(textOf(v), textArgument(with[0])) }},
	"replace":      {[]string{"", "", "count"}, replaceMethod},
	"rstrip":       {[]string{""}, func(_ *evaluator, v any, with []any) any { return strip(textOf(v), with[0], false, true) }},
	"split":        {[]string{"sep", "maxsplit"}, split},
	"startswith":   {[]string{""}, affix(strings.HasPrefix)},
	"strip":        {[]string{""}, func(_ *evaluator, v any, with []any) any { return strip(textOf(v), with[0], true, true) }},
	"upper":        onText(strings.ToUpper),
}

func onText(f func(string) string) function { return function{nil, ofText(f)} }

func countOf(v any, of string) int {
	if of == "" {
		return len([]rune(textOf(v))) + 1
	}
	return strings.Count(textOf(v), of)
}

// affix is startswith or endswith, of a text or of one of a tuple.
func affix(has func(s, part string) bool) func(*evaluator, any, []any) any {
	return func(e *evaluator, v any, with []any) any {
		if parts, is := with[0].(list); is && parts.tuple {
			e.step(len(parts.all))
			return slices.ContainsFunc(parts.all, func(part any) bool { return has(textOf(v), textArgument(part)) })
		}
		return has(textOf(v), textArgument(with[0]))
	}
}

func find(_ *evaluator, v any, with []any) any {
	s := textOf(v)
	i := strings.Index(s, textArgument(with[0]))
	if i < 0 {
		return int64(-1)
	}
	return int64(len([]rune(s[:i])))
}

func allRunes(f func(rune) bool) func(*evaluator, any, []any) any {
	return func(_ *evaluator, v any, _ []any) any {
		s := textOf(v)
		return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !f(r) })
	}
}

func replaceMethod(e *evaluator, v any, with []any) any {
	textArgument(with[0])
	textArgument(with[1])
	return replace(e, textOf(v), with)
}

// split is the method split of a text.
func split(e *evaluator, v any, with []any) any {
	s, parts := textOf(v), []string(nil)
	if or(with[1], nil) != nil {
		unsupported("split with a limit")
	}
	if separator := or(with[0], nil); separator == nil {
		parts = strings.FieldsFunc(s, isSpace)
	} else if parts = strings.Split(s, textArgument(separator)); separator == "" {
		ignored()
	}
	all := make([]any, len(parts))
	for i, part := range parts {
		all[i] = part
	}
	e.step(len(all))
	return list{all, false}
}
