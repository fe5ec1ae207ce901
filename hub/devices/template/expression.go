package template

import (
	"slices"
	"strconv"
)

// expression reads one, with "a if b else c".
func (p *parser) expression() node {
	p.enter()
	defer p.exit()
	n := p.or()
	for p.accept(tokenName, "if") {
		c := choice{condition: p.or(), yes: n}
		if p.accept(tokenName, "else") {
			c.no = p.expression()
		}
		n = c
	}
	return n
}

func (p *parser) or() node {
	n := p.and()
	for p.accept(tokenName, "or") {
		n = logical{n, p.and(), true}
	}
	return n
}

func (p *parser) and() node {
	n := p.not()
	for p.accept(tokenName, "and") {
		n = logical{n, p.not(), false}
	}
	return n
}

func (p *parser) not() node {
	p.enter()
	defer p.exit()
	if p.accept(tokenName, "not") {
		return negation{p.not()}
	}
	return p.comparison()
}

// membership parses the operators "in" and "not in".
func (p *parser) membership() (op string, ok bool) {
	if p.accept(tokenName, "in") {
		return "in", true
	}
	if p.peek() == (token{tokenName, "not"}) && p.tokens[1] == (token{tokenName, "in"}) {
		p.tokens = p.tokens[2:]
		return "not in", true
	}
	return "", false
}

// comparison parses a chain of comparisons, such as a < b <= c, "in" and "not in".
func (p *parser) comparison() node {
	c := comparison{first: p.sum()}
	for {
		op, ok := p.operator("==", "!=", "<", ">", "<=", ">=")
		if !ok {
			op, ok = p.membership()
		}
		if !ok && len(c.operators) == 0 {
			return c.first
		}
		if !ok {
			return c
		}
		c.operators = append(c.operators, op)
		c.rest = append(c.rest, p.sum())
	}
}

func (p *parser) sum() node {
	n := p.concatenation()
	for {
		op, ok := p.operator("+", "-")
		if !ok {
			return n
		}
		n = arithmetic{op, n, p.concatenation()}
	}
}

func (p *parser) concatenation() node {
	n := p.product()
	for p.accept(tokenOperator, "~") {
		n = concatenation{n, p.product()}
	}
	return n
}

func (p *parser) product() node {
	n := p.power()
	for {
		op, ok := p.operator("*", "/", "//", "%")
		if !ok {
			return n
		}
		n = arithmetic{op, n, p.power()}
	}
}

func (p *parser) power() node {
	n := p.unary(true)
	for p.accept(tokenOperator, "**") {
		n = arithmetic{"**", n, p.unary(true)}
	}
	return n
}

func (p *parser) unary(withFilters bool) (n node) {
	p.enter()
	defer p.exit()
	if op, ok := p.operator("-", "+"); ok {
		n = sign{p.unary(false), op == "-"}
	} else {
		n = p.primary()
	}
	n = p.postfix(n)
	if withFilters {
		n = p.filters(n)
	}
	return n
}

// filters reads "| filter" and "is test".
func (p *parser) filters(n node) node {
	for {
		switch {
		case p.accept(tokenOperator, "|"):
			name := p.dotted()
			f, known := filters[name]
			if !known {
				unsupported("the filter %q", name)
			}
			n = call{name, f, n, p.arguments()}
		case p.accept(tokenName, "is"):
			n = p.test(n)
		case p.peek() == (token{tokenOperator, "("}):
			unsupported("calling what a filter returns")
		default:
			return n
		}
	}
}

func (p *parser) dotted() string {
	name := p.next()
	if name.kind != tokenName {
		fail("unexpected %q where a name should be", name.text)
	}
	if p.peek() == (token{tokenOperator, "."}) {
		unsupported("%q", name.text+".")
	}
	return name.text
}

// test parses what follows "is".
func (p *parser) test(n node) node {
	not := p.accept(tokenName, "not")
	name := p.dotted()
	f, known := tests[name]
	if !known {
		unsupported("the test %q", name)
	}
	var with arguments
	if t := p.peek(); t == (token{tokenOperator, "("}) {
		with = p.arguments()
	} else if t.kind == tokenString || t.kind == tokenInteger || t.kind == tokenFloat ||
		t.kind == tokenOperator && (t.text == "[" || t.text == "{") ||
		t.kind == tokenName && !slices.Contains([]string{"else", "or", "and", "is", "if", "in", "not"}, t.text) {
		with.all = []node{p.postfix(p.primary())}
	}
	n = call{name, f, n, with}
	if not {
		n = negation{n}
	}
	return n
}

// arguments reads those in brackets, if there are any.
func (p *parser) arguments() (a arguments) {
	if !p.accept(tokenOperator, "(") {
		return a
	}
	for !p.accept(tokenOperator, ")") {
		if t := p.peek(); t == (token{tokenOperator, "*"}) || t == (token{tokenOperator, "**"}) {
			unsupported("unpacking arguments")
		}
		if p.peek().kind == tokenName && p.tokens[1] == (token{tokenOperator, "="}) {
			name := p.next().text
			p.next()
			a.names = append(a.names, name)
			a.named = append(a.named, p.expression())
		} else {
			if len(a.named) > 0 {
				fail("an argument without a name follows one with a name")
			}
			a.all = append(a.all, p.expression())
		}
		if p.peek() != (token{tokenOperator, ")"}) {
			p.expect(tokenOperator, ",")
		}
	}
	return a
}

// postfix reads members, elements and calls.
func (p *parser) postfix(n node) node {
	for {
		switch {
		case p.accept(tokenOperator, "."):
			switch t := p.next(); t.kind {
			case tokenName:
				if p.peek() == (token{tokenOperator, "("}) {
					n = method{n, t.text, p.arguments()}
				} else {
					n = member{n, t.text}
				}
			case tokenInteger:
				n = element{n, p.integer(t.text)}
			default:
				fail("unexpected %q where a name should be", t.text)
			}
		case p.accept(tokenOperator, "["):
			n = p.subscript(n)
		case p.peek() == (token{tokenOperator, "("}):
			unsupported("calling what is no function")
		default:
			return n
		}
	}
}

// subscript reads what is in square brackets: an index, a key, or a slice.
func (p *parser) subscript(of node) node {
	var from, to node
	if p.peek() != (token{tokenOperator, ":"}) {
		from = p.expression()
	}
	if p.accept(tokenOperator, "]") {
		return element{of, from}
	}
	p.expect(tokenOperator, ":")
	if p.peek() == (token{tokenOperator, ":"}) {
		unsupported("a slice with a step")
	}
	if p.peek() != (token{tokenOperator, "]"}) {
		to = p.expression()
	}
	if p.peek() == (token{tokenOperator, ":"}) {
		unsupported("a slice with a step")
	}
	p.expect(tokenOperator, "]")
	return slice{of, from, to}
}

func (p *parser) integer(text string) node {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		unsupported("a number as large as %s", text)
	}
	return constant{n}
}

// primary parses a constant, a name, a list, a dict, or an expression in brackets.
func (p *parser) primary() node {
	t := p.next()
	switch t.kind {
	case tokenString:
		text := t.text
		for p.peek().kind == tokenString { // as in Python
			text += p.next().text
		}
		return constant{text}
	case tokenInteger:
		return p.integer(t.text)
	case tokenFloat:
		f, err := strconv.ParseFloat(t.text, 64)
		if err != nil {
			unsupported("a number as large as %s", t.text)
		}
		return constant{f}
	case tokenName:
		return p.name(t.text)
	case tokenOperator:
		switch t.text {
		case "(":
			return p.brackets()
		case "[":
			return display{p.list("]"), false}
		case "{":
			return p.dict()
		}
	}
	fail("unexpected %q", t.text)
	return nil
}

// name reads a constant, a variable, or the call of a function.
func (p *parser) name(name string) node {
	switch name {
	case "true", "True":
		return constant{true}
	case "false", "False":
		return constant{false}
	case "none", "None":
		return constant{nil}
	}
	if p.assigned[name] || name == "value" || name == "value_json" {
		return variable{name}
	}
	f, known := functions[name]
	if !known || p.peek() != (token{tokenOperator, "("}) {
		unsupported("%q", name)
	}
	a := p.arguments()
	if len(a.all) == 0 {
		unsupported("%s without an argument", name)
	}
	first := a.all[0]
	a.all = a.all[1:]
	return call{name, f, first, a}
}

func (p *parser) brackets() node {
	if p.accept(tokenOperator, ")") {
		return display{nil, true}
	}
	n := p.expression()
	if p.accept(tokenOperator, ",") {
		return display{append([]node{n}, p.list(")")...), true}
	}
	p.expect(tokenOperator, ")")
	return n
}

func (p *parser) list(end string) (all []node) {
	for !p.accept(tokenOperator, end) {
		all = append(all, p.expression())
		if p.peek() != (token{tokenOperator, end}) {
			p.expect(tokenOperator, ",")
		}
	}
	return all
}

func (p *parser) dict() node {
	var n mapping
	for !p.accept(tokenOperator, "}") {
		n.keys = append(n.keys, p.expression())
		p.expect(tokenOperator, ":")
		n.values = append(n.values, p.expression())
		if p.peek() != (token{tokenOperator, "}"}) {
			p.expect(tokenOperator, ",")
		}
	}
	return n
}
