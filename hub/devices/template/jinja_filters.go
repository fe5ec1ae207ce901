package template

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// functions may be called by their name, with what filters of the same name are
// applied to as their first argument.
var functions = map[string]function{
	"bool": filters["bool"], "float": filters["float"], "int": filters["int"], "iif": filters["iif"], "is_number": filters["is_number"],
	"bitwise_and": filters["bitwise_and"], "bitwise_or": filters["bitwise_or"], "bitwise_xor": filters["bitwise_xor"],
}

// filters are those of Jinja, and of Home Assistant where it replaces or adds
// them.
var filters = map[string]function{
	"abs":         {nil, filterAbs},
	"bitwise_and": {[]string{"second_value"}, bitwise(func(x, y int64) int64 { return x & y })},
	"bitwise_or":  {[]string{"second_value"}, bitwise(func(x, y int64) int64 { return x | y })},
	"bitwise_xor": {[]string{"second_value"}, bitwise(func(x, y int64) int64 { return x ^ y })},
	"bool":        {[]string{"default"}, filterBool},
	"capitalize":  {nil, ofText(capitalize)},
	"contains":    {[]string{"value"}, func(e *evaluator, v any, with []any) any { return e.contains(v, required(with[0])) }},
	"count":       {nil, filterLength},
	"d":           {[]string{"default_value", "boolean"}, filterDefault},
	"default":     {[]string{"default_value", "boolean"}, filterDefault},
	"first":       {nil, func(e *evaluator, v any, _ []any) any { return at(e.iterate(v), 0) }},
	"float":       {[]string{"default"}, filterFloat},
	"from_json":   {[]string{"default"}, filterFromJSON},
	"iif":         {[]string{"if_true", "if_false", "if_none"}, filterIif},
	"int":         {[]string{"default", "base"}, filterInt},
	"is_defined":  {nil, filterIsDefined},
	"is_number":   {nil, isNumber},
	"join":        {[]string{"d"}, filterJoin},
	"last":        {nil, func(e *evaluator, v any, _ []any) any { return at(e.iterate(v), -1) }},
	"length":      {nil, filterLength},
	"list":        {nil, func(e *evaluator, v any, _ []any) any { return list{e.iterate(v), false} }},
	"lower":       {nil, ofText(strings.ToLower)},
	"max":         {nil, extreme(1)},
	"min":         {nil, extreme(-1)},
	"regex_match": {[]string{"find", "ignorecase"}, matches(true)},
	"regex_search": {
		[]string{"find", "ignorecase"}, matches(false),
	},
	"replace": {[]string{"old", "new", "count"}, func(e *evaluator, v any, with []any) any { return replace(e, e.text(v), with) }},
	"round":   {[]string{"precision", "method", "default"}, filterRound},
	"string":  {nil, ofText(func(s string) string { return s })},
	"title":   {nil, ofText(title)},
	"trim":    {[]string{"chars"}, func(e *evaluator, v any, with []any) any { return strip(e.text(v), with[0], true, true) }},
	"upper":   {nil, ofText(strings.ToUpper)},
}

// ofText makes a filter of what it does to a value's text.
func ofText(f func(string) string) func(*evaluator, any, []any) any {
	return func(e *evaluator, v any, _ []any) any {
		text := f(e.text(v))
		bounded(len(text))
		return text
	}
}

// required returns an argument that must be given.
func required(v any) any {
	if _, is := v.(absent); is {
		ignored()
	}
	return v
}

// or returns an argument, or another value where it was not given.
func or(v, otherwise any) any {
	if _, is := v.(absent); is {
		return otherwise
	}
	return v
}

// textArgument returns an argument that has to be a text.
func textArgument(v any) string {
	s, is := required(v).(string)
	if !is {
		ignored()
	}
	return s
}

// iterate returns the elements of what Python can iterate over.
func (e *evaluator) iterate(v any) (all []any) {
	switch v := v.(type) {
	case undefined:
	case string:
		for _, r := range v {
			all = append(all, string(r))
		}
	case list:
		all = slices.Clone(v.all)
	case view:
		all = v
	case *dict:
		all = slices.Clone(v.keys)
	default:
		ignored()
	}
	e.step(len(all))
	return all
}

func at(all []any, i int) any {
	if len(all) == 0 {
		return undefined{}
	}
	return all[(i+len(all))%len(all)]
}

func filterLength(e *evaluator, v any, _ []any) any { return int64(len(e.iterate(v))) }

func filterAbs(_ *evaluator, v any, _ []any) any {
	switch n := number(v).(type) {
	case int64:
		if n == math.MinInt64 {
			failOperand(bigInt(""))
		}
		return abs(n)
	case float64:
		return math.Abs(n)
	}
	if _, is := v.(undefined); !is { // of which Python says the same as of others
		failOperand(v)
	}
	ignored()
	return nil
}

func bitwise(f func(x, y int64) int64) func(*evaluator, any, []any) any {
	return func(_ *evaluator, v any, with []any) any {
		x, isX := v.(int64)
		y, isY := required(with[0]).(int64)
		if !isX || !isY {
			if _, boolean := v.(bool); boolean {
				unsupported("bits of a truth value")
			}
			if _, is := v.(undefined); is {
				ignored() // Python's TypeError: Jinja has no such operation
			}
			failOperand(v, with[0])
		}
		return f(x, y)
	}
}

func filterDefault(_ *evaluator, v any, with []any) any {
	_, missing := v.(undefined)
	if missing || truth(or(with[1], false)) && !truth(v) {
		return or(with[0], "")
	}
	return v
}

func filterIif(_ *evaluator, v any, with []any) any {
	if _, has := with[2].(absent); v == nil && !has {
		return with[2]
	}
	if truth(v) {
		return or(with[0], true)
	}
	return or(with[1], false)
}

func filterIsDefined(_ *evaluator, v any, _ []any) any {
	if _, is := v.(undefined); is {
		undefinedError()
	}
	return v
}

// withDefault returns the default of a filter that cannot convert its value.
func withDefault(otherwise any) any { return required(otherwise) }

func filterBool(_ *evaluator, v any, with []any) any {
	switch v := v.(type) {
	case bool:
		return v
	case int64, float64, bigInt:
		return truth(v)
	case string:
		switch strings.TrimFunc(strings.ToLower(v), isSpace) {
		case "1", "true", "yes", "on", "enable":
			return true
		case "0", "false", "no", "off", "disable":
			return false
		}
	}
	return withDefault(with[0])
}

// toFloat is Python's float. ok is false where it raises an error.
func toFloat(v any) (f float64, ok bool) {
	switch v := v.(type) {
	case undefined:
		undefinedError()
	case bigInt:
		f, err := strconv.ParseFloat(string(v), 64)
		return f, err == nil
	case string:
		return parseFloat(v)
	}
	n := number(v)
	return floatOf(n), n != nil
}

// parseFloat reads a text as Python's float does.
func parseFloat(s string) (float64, bool) {
	s = strings.TrimFunc(s, isSpace)
	if strings.ContainsAny(s, "xXpP") || !digitsOnly(&s) {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !math.IsInf(f, 0) {
		return 0, false
	}
	return f, true
}

// digitsOnly takes the underscores out of a number, each of which has to be
// between two digits.
func digitsOnly(s *string) bool {
	for i, c := range *s {
		digit := func(i int) bool { return i >= 0 && i < len(*s) && (*s)[i] >= '0' && (*s)[i] <= '9' }
		if c == '_' && (!digit(i-1) || !digit(i+1)) {
			return false
		}
	}
	*s = strings.ReplaceAll(*s, "_", "")
	return true
}

func filterFloat(_ *evaluator, v any, with []any) any {
	if f, ok := toFloat(v); ok {
		return f
	}
	return withDefault(with[0])
}

func isNumber(_ *evaluator, v any, _ []any) any {
	f, ok := toFloat(v)
	return ok && !math.IsInf(f, 0) && !math.IsNaN(f)
}

// filterInt is the filter int, with its default.
func filterInt(_ *evaluator, v any, with []any) any {
	if base := or(with[1], int64(10)); base != int64(10) {
		unsupported("int with a base")
	}
	switch v := v.(type) {
	case bool, int64:
		return number(v)
	case bigInt:
		return v
	case string:
		s := strings.TrimFunc(v, isSpace)
		if digitsOnly(&s) {
			if n, err := strconv.ParseInt(s, 10, 64); err == nil {
				return n
			}
		}
	}
	f, ok := toFloat(v)
	if !ok || math.IsNaN(f) || math.IsInf(f, 0) {
		return withDefault(with[0])
	}
	if math.Abs(f) >= 1<<62 {
		failOperand(bigInt(""))
	}
	return int64(f)
}

// filterRound is the filter round, with its precision and method.
func filterRound(_ *evaluator, v any, with []any) any {
	precision, ok := integerOf(or(with[0], int64(0)))
	if !ok || precision < 0 || precision > 15 {
		unsupported("round with such a precision")
	}
	f, ok := toFloat(v)
	if !ok || math.IsNaN(f) || math.IsInf(f, 0) {
		return withDefault(with[2])
	}
	factor := math.Pow10(int(precision))
	switch or(with[1], "common") {
	case "ceil":
		f = math.Ceil(f*factor) / factor
	case "floor":
		f = math.Floor(f*factor) / factor
	case "half":
		f = math.RoundToEven(f*2) / 2
	default:
		f, _ = strconv.ParseFloat(strconv.FormatFloat(f, 'f', int(precision), 64), 64)
	}
	if precision > 0 {
		return f
	}
	if math.Abs(f) >= 1<<62 {
		failOperand(bigInt(""))
	}
	return int64(f)
}

func filterFromJSON(_ *evaluator, v any, with []any) any {
	s, is := v.(string)
	if is {
		if parsed, ok := parseJSON(s); ok {
			return parsed
		}
	}
	return withDefault(with[0])
}

func filterJoin(e *evaluator, v any, with []any) any {
	var b strings.Builder
	between := e.text(or(with[0], ""))
	for i, element := range e.iterate(v) {
		if i > 0 {
			b.WriteString(between)
		}
		b.WriteString(e.text(element))
		bounded(b.Len())
	}
	return b.String()
}

// extreme is min or max of a list.
func extreme(sign int) func(*evaluator, any, []any) any {
	return func(e *evaluator, v any, _ []any) any {
		all := e.iterate(v)
		best := at(all, 0)
		for i, element := range all {
			if i == 0 {
				continue
			}
			order, ok := e.order(element, best)
			if !ok {
				unsupported("what is no number in a list")
			}
			if order*sign > 0 {
				best = element
			}
		}
		return best
	}
}

// replace is Python's str.replace.
func replace(e *evaluator, s string, with []any) any {
	before, after, count := e.text(required(with[0])), e.text(required(with[1])), int64(-1)
	if c := or(with[2], nil); c != nil {
		var ok bool
		if count, ok = integerOf(c); !ok {
			ignored()
		}
	}
	bounded(len(s) + (strings.Count(s, before)+1)*len(after))
	return strings.Replace(s, before, after, int(max(min(count, maxText), -1)))
}

// strip is Python's str.strip, lstrip and rstrip.
func strip(s string, chars any, left, right bool) string {
	of := isSpace
	if chars = or(chars, nil); chars != nil {
		all := textArgument(chars)
		of = func(r rune) bool { return strings.ContainsRune(all, r) }
	}
	if left {
		s = strings.TrimLeftFunc(s, of)
	}
	if right {
		s = strings.TrimRightFunc(s, of)
	}
	return s
}

func capitalize(s string) string {
	first := true
	return strings.Map(func(r rune) rune {
		if first {
			first = false
			return unicode.ToTitle(r)
		}
		return unicode.ToLower(r)
	}, s)
}

// title is Jinja's: words begin after spaces, hyphens and brackets.
func title(s string) string {
	begins := true
	return strings.Map(func(r rune) rune {
		first := begins
		begins = isSpace(r) || strings.ContainsRune("-({[<", r)
		if first {
			return unicode.ToUpper(r)
		}
		return unicode.ToLower(r)
	}, s)
}
