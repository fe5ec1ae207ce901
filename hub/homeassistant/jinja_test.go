package homeassistant

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// render evaluates a template as Home Assistant's Jinja does, for the small part
// of the language that the templates of this package use. What Home Assistant
// would complain about, printing or using what is not defined, is an error.
func render(template string, vars map[string]any) (out string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: %v", template, p)
		}
	}()
	scope := map[string]any{}
	for k, v := range vars {
		scope[k] = v
	}
	var b strings.Builder
	for rest := template; rest != ""; {
		open := strings.IndexAny(rest, "{")
		if open < 0 || !strings.HasPrefix(rest[open:], "{{") && !strings.HasPrefix(rest[open:], "{%") {
			b.WriteString(rest)
			break
		}
		b.WriteString(rest[:open])
		closing := map[string]string{"{{": "}}", "{%": "%}"}[rest[open:open+2]]
		end := strings.Index(rest[open:], closing)
		if end < 0 {
			panic("not closed")
		}
		p := &jinja{tokens: tokens(rest[open+2 : open+end]), scope: scope}
		if closing == "%}" {
			p.need("set")
			name := p.next()
			p.need("=")
			scope[name] = p.ternary()
		} else {
			v := p.ternary()
			if v == undefined {
				panic("prints what is undefined")
			}
			b.WriteString(printed(v))
		}
		if p.peek() != "" {
			panic("does not understand " + p.peek())
		}
		rest = rest[open+end+2:]
	}
	return b.String(), nil
}

type missing struct{}

// undefined is a key that is not there.
var undefined = missing{}

type jinja struct {
	tokens []string
	scope  map[string]any
}

func tokens(s string) (all []string) {
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		n := 1
		switch c := s[0]; {
		case c == '\'':
			n = strings.IndexByte(s[1:], '\'') + 2
		case strings.HasPrefix(s, "=="):
			n = 2
		case c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			for n < len(s) && (s[n] == '_' || s[n] >= 'a' && s[n] <= 'z' || s[n] >= 'A' && s[n] <= 'Z' || s[n] >= '0' && s[n] <= '9') {
				n++
			}
		case c >= '0' && c <= '9':
			for n < len(s) && s[n] >= '0' && s[n] <= '9' {
				n++
			}
		}
		all = append(all, s[:n])
		s = s[n:]
	}
	return all
}

func (p *jinja) peek() string {
	if len(p.tokens) == 0 {
		return ""
	}
	return p.tokens[0]
}

func (p *jinja) next() string {
	t := p.peek()
	p.tokens = p.tokens[min(1, len(p.tokens)):]
	return t
}

func (p *jinja) take(t string) bool {
	if p.peek() != t {
		return false
	}
	p.next()
	return true
}

func (p *jinja) need(t string) {
	if !p.take(t) {
		panic(fmt.Sprintf("wants %s, not %s", t, p.peek()))
	}
}

// ternary evaluates both branches; what is undefined in the one not taken does
// no harm, as in Jinja.
func (p *jinja) ternary() any {
	rest := p.tokens
	v, failed := p.try()
	if p.take("if") {
		if truthy(p.or()) {
			if failed != nil {
				panic(failed)
			}
			p.need("else")
			p.skip()
			return v
		}
		p.need("else")
		return p.ternary()
	}
	if failed != nil {
		p.tokens = rest
		panic(failed)
	}
	return v
}

func (p *jinja) try() (v, failed any) {
	before := p.tokens
	defer func() {
		if failed = recover(); failed != nil {
			p.tokens = before
			depth := 0
			for p.peek() != "" && (depth > 0 || p.peek() != "if") {
				switch p.next() {
				case "(", "[":
					depth++
				case ")", "]":
					depth--
				}
			}
		}
	}()
	return p.or(), nil
}

func (p *jinja) skip() { _, _ = p.try() }

func (p *jinja) or() any {
	v := p.compare()
	for p.take("or") {
		if w := p.compare(); !truthy(v) {
			v = w
		}
	}
	return v
}

func (p *jinja) compare() any {
	v := p.sum()
	switch {
	case p.take("in"):
		return slices.ContainsFunc(p.sum().([]any), func(x any) bool { return reflect.DeepEqual(x, v) })
	case p.take("=="):
		return reflect.DeepEqual(v, p.sum())
	case p.take("is"):
		p.need("defined")
		return v != undefined
	}
	return v
}

func (p *jinja) sum() any {
	v := p.product()
	for p.take("+") {
		v = append(slices.Clone(v.([]any)), p.product().([]any)...)
	}
	return v
}

func (p *jinja) product() any {
	v := p.postfix()
	for {
		switch {
		case p.take("*"):
			v = number(v) * number(p.postfix())
		case p.take("/"):
			v = number(v) / number(p.postfix())
		default:
			return v
		}
	}
}

func (p *jinja) postfix() any {
	v := p.atom()
	for {
		switch {
		case p.take("."):
			v = attribute(v, p.next())
		case p.take("["):
			if p.take(":") {
				n, _ := strconv.Atoi(p.next())
				if list, is := v.([]any); is {
					v = list[:min(n, len(list))]
				} else {
					s := v.(string)
					v = s[:min(n, len(s))]
				}
			} else if list, is := v.([]any); is {
				n, _ := strconv.Atoi(p.next())
				v = list[n]
			} else {
				v = attribute(v, strings.Trim(p.next(), "'"))
			}
			p.need("]")
		case p.take("|"):
			v = p.filter(v)
		default:
			return v
		}
	}
}

func (p *jinja) atom() any {
	switch t := p.next(); {
	case t == "(":
		v := p.ternary()
		p.need(")")
		return v
	case t == "[":
		all := []any{}
		for !p.take("]") {
			all = append(all, p.ternary())
			p.take(",")
		}
		return all
	case t == "dict":
		p.need("(")
		all := map[string]any{}
		for !p.take(")") {
			key := p.next()
			if !p.take("=") { // a dict that it begins with
				maps.Copy(all, p.scope[key].(map[string]any))
				p.take(",")
				continue
			}
			v := p.ternary()
			if v == undefined {
				panic(key + " is undefined")
			}
			all[key] = v
			p.take(",")
		}
		return all
	case t == "None":
		return nil
	case t != "" && t[0] == '\'':
		return strings.Trim(t, "'")
	case t != "" && t[0] >= '0' && t[0] <= '9':
		n, _ := strconv.ParseFloat(t, 64)
		return n
	default:
		v, known := p.scope[t]
		if !known {
			panic("there is no " + t)
		}
		return v
	}
}

func (p *jinja) filter(v any) any {
	name := p.next()
	var args []any
	if p.take("(") {
		for !p.take(")") {
			if p.peek() == "attribute" {
				p.next()
				p.need("=")
			}
			args = append(args, p.ternary())
			p.take(",")
		}
	}
	if name == "default" {
		if v == undefined {
			return args[0]
		}
		return v
	}
	if v == undefined {
		panic(name + " of what is undefined")
	}
	switch name {
	case "round":
		scale := math.Pow(10, number(args[0]))
		return math.Round(number(v)*scale) / scale
	case "int":
		return math.Trunc(number(v))
	case "min":
		all := v.([]any)
		return math.Min(number(all[0]), number(all[1]))
	case "list":
		return v
	case "length":
		return float64(len(v.([]any)))
	case "to_json":
		b, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return string(b)
	case "map":
		var all []any
		for _, one := range v.([]any) {
			all = append(all, attribute(one, args[0].(string)))
		}
		return all
	case "selectattr":
		var all []any
		for _, one := range v.([]any) {
			a := attribute(one, args[0].(string))
			if a == undefined {
				panic(args[0].(string) + " is undefined")
			}
			if args[1] == "in" && slices.ContainsFunc(args[2].([]any), func(x any) bool { return x == a }) || args[1] == "eq" && a == args[2] {
				all = append(all, one)
			}
		}
		return all
	}
	panic("there is no filter " + name)
}

func attribute(v any, name string) any {
	m, is := v.(map[string]any)
	if !is {
		panic(fmt.Sprintf("%v has no %s", v, name))
	}
	if found, has := m[name]; has {
		return found
	}
	return undefined
}

func number(v any) float64 {
	switch v := v.(type) {
	case float64:
		return v
	case string:
		n, err := strconv.ParseFloat(v, 64)
		if err == nil {
			return n
		}
	}
	panic(fmt.Sprintf("%v is not a number", v))
}

func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case missing:
		panic("asks whether what is undefined is true")
	case bool:
		return v
	case string:
		return v != ""
	case float64:
		return v != 0
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	panic(fmt.Sprintf("%T", v))
}

func printed(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		return map[bool]string{true: "True", false: "False"}[v]
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case string:
		return v
	}
	panic(fmt.Sprintf("prints a %T", v))
}
