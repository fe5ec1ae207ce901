package devices

import (
	"encoding/json"
	"errors"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The part of Jinja that announcements use for availability: one expression, of
// the payload, its JSON, constants, comparisons, a choice and a few filters. It
// has Home Assistant's semantics: True renders "True", and what is undefined "".
// What it does not know is an error, rather than a guess.

type undefined struct{}

var errTemplate = errors.New("a template that is not understood")

var (
	templateBody  = regexp.MustCompile(`(?s)^\{\{-?(.*?)-?\}\}$`)
	templateToken = regexp.MustCompile(`^\s*('[^'\\]*'|"[^"\\]*"|[0-9]+(?:\.[0-9]+)?|[A-Za-z_]\w*|==|!=|<=|>=|[-<>()\[\].,|])`)
)

type evaluator struct {
	tokens  []string
	payload string
	deep    int
}

// render returns what a template makes of a payload.
func render(template, payload string) (result string, err error) {
	m := templateBody.FindStringSubmatch(strings.TrimSpace(template))
	if m == nil {
		return "", errTemplate
	}
	e := &evaluator{payload: payload}
	for rest := strings.TrimSpace(m[1]); rest != ""; rest = strings.TrimSpace(rest) {
		t := templateToken.FindStringSubmatch(rest)
		if t == nil {
			return "", errTemplate
		}
		e.tokens, rest = append(e.tokens, t[1]), rest[len(t[0]):]
	}
	defer func() {
		if p := recover(); p != nil {
			if p != errTemplate { //nolint:errorlint // it is this value
				panic(p)
			}
			result, err = "", errTemplate
		}
	}()
	v := e.choice()
	e.refuse(len(e.tokens) > 0)
	return strings.TrimSpace(textOf(v)), nil
}

func (e *evaluator) refuse(when bool) {
	if when {
		panic(errTemplate)
	}
}

func (e *evaluator) peek() string {
	if len(e.tokens) == 0 {
		return ""
	}
	return e.tokens[0]
}

func (e *evaluator) next() string {
	t := e.peek()
	e.refuse(t == "")
	e.tokens = e.tokens[1:]
	return t
}

func (e *evaluator) accept(t string) bool {
	if e.peek() != t {
		return false
	}
	e.tokens = e.tokens[1:]
	return true
}

func (e *evaluator) expect(t string) { e.refuse(!e.accept(t)) }

func (e *evaluator) choice() any {
	e.deep++
	e.refuse(e.deep > deepest)
	defer func() { e.deep-- }()
	v := e.or()
	if !e.accept("if") {
		return v
	}
	if is := truth(e.or()); e.accept("else") {
		other := e.choice()
		if !is {
			return other
		}
	} else if !is {
		return undefined{}
	}
	return v
}

func (e *evaluator) or() any {
	v := e.and()
	for e.accept("or") {
		if w := e.and(); !truth(v) {
			v = w
		}
	}
	return v
}

func (e *evaluator) and() any {
	v := e.not()
	for e.accept("and") {
		if w := e.not(); truth(v) {
			v = w
		}
	}
	return v
}

func (e *evaluator) not() any {
	negative, no := false, false
	for e.accept("not") {
		negative, no = !negative, true
	}
	v := e.comparison()
	if no {
		return truth(v) != negative
	}
	return v
}

func (e *evaluator) comparison() any {
	v := e.filtered()
	switch op := e.peek(); op {
	case "==", "!=":
		e.next()
		return equal(v, e.filtered()) == (op == "==")
	case "<", ">", "<=", ">=":
		e.next()
		x, okX := number(v)
		y, okY := number(e.filtered())
		e.refuse(!okX || !okY)
		return op == "<" && x < y || op == ">" && x > y || op == "<=" && x <= y || op == ">=" && x >= y
	case "in":
		e.next()
		list, ok := e.filtered().([]any)
		e.refuse(!ok)
		return slices.ContainsFunc(list, func(w any) bool { return equal(v, w) })
	case "is":
		e.next()
		not := e.accept("not")
		_, no := v.(undefined)
		switch e.next() {
		case "defined":
			return no == not
		case "undefined":
			return no != not
		case "none":
			return (v == nil) != not
		}
		e.refuse(true)
	}
	return v
}

func (e *evaluator) filtered() any {
	v := e.member()
	for e.accept("|") {
		name := e.next()
		v = e.filter(name, v, e.arguments())
	}
	return v
}

// arguments reads those in brackets, if there are any.
func (e *evaluator) arguments() (all []any) {
	if !e.accept("(") {
		return nil
	}
	for !e.accept(")") {
		all = append(all, e.choice())
		if e.peek() != ")" {
			e.expect(",")
		}
	}
	return all
}

func (e *evaluator) filter(name string, v any, with []any) any {
	_, missing := v.(undefined)
	switch name {
	case "lower":
		return strings.ToLower(textOf(v))
	case "upper":
		return strings.ToUpper(textOf(v))
	case "trim":
		return strings.TrimSpace(textOf(v))
	case "string":
		return textOf(v)
	case "default", "d":
		switch {
		case missing || len(with) > 1 && truth(with[1]) && !truth(v):
			if len(with) == 0 {
				return ""
			}
			return with[0]
		}
		return v
	case "int", "float":
		n, ok := number(v)
		if s, is := v.(string); is {
			var err error
			n, err = strconv.ParseFloat(strings.TrimSpace(s), 64)
			ok = err == nil
		}
		if !ok {
			e.refuse(len(with) == 0)
			return with[0]
		}
		if name == "int" {
			n = math.Trunc(n)
		}
		return n
	case "iif":
		return iif(append([]any{v}, with...))
	}
	panic(errTemplate)
}

func iif(with []any) any {
	switch {
	case truth(with[0]) && len(with) < 2:
		return true
	case truth(with[0]):
		return with[1]
	case len(with) < 3:
		return false
	}
	return with[2]
}

func (e *evaluator) member() any {
	v := e.primary()
	for {
		var key any
		switch {
		case e.accept("."):
			name := e.next()
			if key = name; name == "get" && e.peek() == "(" {
				with := e.arguments()
				m, ok := v.(map[string]any)
				e.refuse(!ok || len(with) == 0)
				k, _ := with[0].(string)
				if v, ok = m[k]; !ok && len(with) > 1 {
					v = with[1]
				}
				continue
			}
		case e.accept("["):
			key = e.choice()
			e.expect("]")
		default:
			return v
		}
		if _, missing := v.(undefined); missing {
			panic(errTemplate)
		}
		v = element(v, key)
	}
}

func element(v, key any) any {
	switch of := v.(type) {
	case map[string]any:
		if k, ok := key.(string); ok {
			if found, ok := of[k]; ok {
				return found
			}
		}
	case []any:
		if n, ok := key.(float64); ok && n >= 0 && int(n) < len(of) {
			return of[int(n)]
		}
	}
	return undefined{}
}

func (e *evaluator) primary() any {
	t := e.next()
	switch t {
	case "(":
		v := e.choice()
		e.expect(")")
		return v
	case "[":
		var all []any
		for !e.accept("]") {
			all = append(all, e.choice())
			if e.peek() != "]" {
				e.expect(",")
			}
		}
		return all
	case "true", "True":
		return true
	case "false", "False":
		return false
	case "none", "None":
		return nil
	case "value":
		return e.payload
	case "value_json":
		var v any
		if json.Unmarshal([]byte(e.payload), &v) != nil {
			return undefined{}
		}
		return v
	case "iif":
		with := e.arguments()
		e.refuse(len(with) == 0)
		return iif(with)
	}
	if t[0] == '\'' || t[0] == '"' {
		return t[1 : len(t)-1]
	}
	n, err := strconv.ParseFloat(t, 64)
	e.refuse(err != nil || t[0] > '9')
	return n
}

func truth(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case float64:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return false
}

func number(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

func equal(v, w any) bool {
	x, okX := number(v)
	y, okY := number(w)
	if okX || okY {
		return okX && okY && x == y
	}
	s, okS := v.(string)
	t, okT := w.(string)
	return okS && okT && s == t || v == nil && w == nil
}

func textOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case string:
		return v
	case undefined:
		return ""
	}
	panic(errTemplate)
}
