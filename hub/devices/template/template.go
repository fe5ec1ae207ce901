// Package template evaluates the part of Jinja that announcements use to derive
// availability from a payload, with the results of Home Assistant's engine:
// text, {{ expressions }} of value and value_json, {% if %} and {% set %},
// comments, and the filters, tests and methods that are listed in
// jinja_filters.go, jinja_tests.go and jinja_methods.go. testdata/results.jsonl holds what Home Assistant itself renders.
//
// Whatever else Home Assistant can do (states of entities, the clock, loops,
// macros) is an Unsupported error that names it, never a guess. Templates and
// payloads come from strangers: the size of values and the number of steps are
// bounded. The package is pure and imports nothing of the project. Only
// hub/devices imports it.
//
// # Files
//
//	arithmetic.go     operators on numbers and texts
//	eval.go           evaluating expressions and statements
//	expression.go     parsing expressions
//	jinja_filters.go  filters
//	jinja_methods.go  methods of values
//	jinja_tests.go    tests (is …)
//	json.go           value_json
//	lex.go            words of a template
//	parse.go          parsing statements
//	template.go       templates and their bounds
//	value.go          values: types, comparison, text
package template

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of one rendering.
const (
	maxText  = 16 << 10 // bytes of one text
	maxItems = 4096     // elements of one list
	maxSteps = 20_000   // nodes that are evaluated, and elements that are looked at
	maxDepth = 60       // of nested expressions and of nested JSON
)

// ErrIgnored is returned by Render where Home Assistant's rendering fails in a
// way that makes it ignore the message: what it knew before stays.
var ErrIgnored = errors.New("home assistant ignores this payload")

// Unsupported names something that Home Assistant knows and this package does not.
type Unsupported struct{ What string }

func (u *Unsupported) Error() string { return u.What + " is not supported" }

// Template is a template that was parsed. It does not change: several
// goroutines may render it.
type Template struct {
	// static is the text of one without any markup.
	static string
	body   []node
}

// Parse reads a template. The error is an *Unsupported, or says what is wrong
// with a template that Home Assistant refuses too.
func Parse(text string) (t *Template, err error) {
	defer catch(&err)
	text = strings.TrimFunc(text, isSpace)
	if !strings.Contains(text, "{{") && !strings.Contains(text, "{%") && !strings.Contains(text, "{#") {
		return &Template{static: text}, nil
	}
	p := &parser{tokens: lex(text), assigned: make(map[string]bool)}
	for _, t := range p.tokens {
		if t.kind == tokenName && t.text == "set" {
			p.findAssigned()
			break
		}
	}
	body := p.block()
	if p.peek().kind != tokenEnd {
		fail("unexpected %q", p.peek().text)
	}
	return &Template{body: body}, nil
}

// Payload is what templates are rendered with. It is parsed once for all of them,
// so it is not for several goroutines.
type Payload struct {
	text string
	// json is the payload as JSON; undefined where it is none.
	json   any
	failed error
	parsed bool
}

// NewPayload returns a payload of this text.
func NewPayload(text string) *Payload { return &Payload{text: text} }

// value returns the JSON of a payload.
func (p *Payload) value() any {
	if !p.parsed {
		p.parsed, p.json = true, undefined{}
		p.failed = p.parse()
	}
	if p.failed != nil {
		panic(failure{p.failed})
	}
	return p.json
}

func (p *Payload) parse() (err error) {
	defer catch(&err)
	if v, ok := parseJSON(p.text); ok {
		p.json = v
	}
	return nil
}

// Render returns what the template makes of a payload. As in Home Assistant the
// result is the payload itself where the template uses what is undefined. The
// error is ErrIgnored or an *Unsupported.
func (t *Template) Render(p *Payload) (result string, err error) {
	if t.body == nil {
		return t.static, nil
	}
	if !utf8.ValidString(p.text) {
		return "", ErrIgnored
	}
	if len(p.text) > maxText {
		return "", &Unsupported{fmt.Sprintf("a payload of more than %d bytes", maxText)}
	}
	defer func() {
		if errors.Is(err, errUndefined) {
			result, err = p.text, nil
		}
	}()
	defer catch(&err)
	e := &evaluator{payload: p}
	e.run(t.body)
	return strings.TrimFunc(e.out.String(), isSpace), nil
}

// Constant reports whether the template renders a text whatever the payload is.
func (t *Template) Constant(text string) bool {
	if t.body == nil {
		return t.static == text
	}
	if len(t.body) != 1 {
		return false
	}
	c, is := t.body[0].(constant)
	return is && c.value == text
}

// errUndefined is an error of Jinja itself, such as a field of what is undefined.
var errUndefined = errors.New("undefined")

// failure is what catch turns into an error: parser and evaluator give up in
// the middle of a recursion by a panic with it, and none leaves the package.
type failure struct{ err error }

func catch(err *error) {
	switch p := recover().(type) {
	case nil:
	case failure:
		*err = p.err
	default:
		panic(p)
	}
}

func fail(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

func unsupported(format string, args ...any) {
	panic(failure{&Unsupported{fmt.Sprintf(format, args...)}})
}

// ignored is Python's TypeError, ValueError and the like.
func ignored() { panic(failure{ErrIgnored}) }

func undefinedError() { panic(failure{errUndefined}) }
