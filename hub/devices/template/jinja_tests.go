package template

import "regexp"

// tests are those of Jinja and Home Assistant: "a is defined".
var tests = map[string]function{
	"boolean":     is(func(v any) bool { _, is := v.(bool); return is }),
	"contains":    filters["contains"],
	"defined":     is(func(v any) bool { _, is := v.(undefined); return !is }),
	"divisibleby": {[]string{"num"}, testDivisible},
	"eq":          compared("=="), "equalto": compared("=="),
	"even":  is(func(v any) bool { return remainder(v) == 0 }),
	"false": is(func(v any) bool { return v == false }),
	"float": is(func(v any) bool { _, is := v.(float64); return is }),
	"ge":    compared(">="),
	"gt":    compared(">"), "greaterthan": compared(">"),
	"in":        compared("in"),
	"integer":   is(func(v any) bool { return isInteger(v) }),
	"is_number": filters["is_number"],
	"iterable":  is(func(v any) bool { return v == undefined{} || isSequence(v) }),
	"le":        compared("<="),
	"list":      is(func(v any) bool { l, is := v.(list); return is && !l.tuple }),
	"lt":        compared("<"), "lessthan": compared("<"),
	"mapping":   is(func(v any) bool { _, is := v.(*dict); return is }),
	"match":     {[]string{"find", "ignorecase"}, matches(true)},
	"ne":        compared("!="),
	"none":      is(func(v any) bool { return v == nil }),
	"number":    is(func(v any) bool { _, big := v.(bigInt); return number(v) != nil || big }),
	"odd":       is(func(v any) bool { return remainder(v) == 1 }),
	"search":    {[]string{"find", "ignorecase"}, matches(false)},
	"sequence":  is(isSequence),
	"string":    is(func(v any) bool { _, is := v.(string); return is }),
	"true":      is(func(v any) bool { return v == true }),
	"undefined": is(func(v any) bool { _, is := v.(undefined); return is }),
}

func is(f func(any) bool) function {
	return function{nil, func(_ *evaluator, v any, _ []any) any { return f(v) }}
}

func compared(op string) function {
	return function{[]string{"b"}, func(e *evaluator, v any, with []any) any { return e.compare(op, v, required(with[0])) }}
}

func isInteger(v any) bool {
	switch v.(type) {
	case int64, bigInt:
		return true
	}
	return false
}

func isSequence(v any) bool {
	switch v.(type) {
	case string, list, *dict:
		return true
	case view, undefined:
		unsupported("this test of such a value")
	}
	return false
}

// remainder is that of a division by two.
func remainder(v any) float64 {
	n := number(v)
	if n == nil {
		if _, is := v.(string); is {
			unsupported("formatting by %%")
		}
		failOperand(v)
	}
	return floatOf(number(modulo(n, int64(2))))
}

func modulo(x, y any) any {
	return arithmetic{"%", constant{x}, constant{y}}.eval(new(evaluator))
}

func testDivisible(_ *evaluator, v any, with []any) any {
	return floatOf(number(modulo(v, required(with[0])))) == 0
}

// The longest regular expression, and what it is looked for in, in bytes.
const (
	maxPattern = 256
	maxMatched = 1024
)

// whereDifferent finds what Go and Python understand differently in a regular
// expression, and what makes it expensive.
var whereDifferent = regexp.MustCompile(`\{|\\[^.\[\](){}*+?|^$/\-dDsSwWbBtnr"' ]|\[\[|\(\?[^:i]`)

// matches reports whether a regular expression is found, or found at the
// beginning. Only what is the same in Go and in Python is evaluated.
func matches(start bool) func(*evaluator, any, []any) any {
	return func(e *evaluator, v any, with []any) any {
		text, find := e.text(v), textArgument(or(with[0], ""))
		if len(find) > maxPattern || len(text) > maxMatched || whereDifferent.MatchString(find) || !isPlain(text) || !isPlain(find) {
			unsupported("such a regular expression")
		}
		if start {
			find = "^(?:" + find + ")"
		}
		if truth(or(with[1], false)) {
			find = "(?i)" + find
		}
		pattern, err := regexp.Compile(find)
		if err != nil {
			unsupported("such a regular expression")
		}
		return pattern.MatchString(text)
	}
}

// isPlain reports whether a text is of printable ASCII.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
