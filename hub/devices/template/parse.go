package template

import "slices"

// parser builds the tree of a template, by the grammar of Jinja 3.
type parser struct {
	tokens []token
	// assigned are the names that {% set %} gives a value somewhere.
	assigned map[string]bool
	depth    int
}

// findAssigned notes the names that are set: Jinja knows them everywhere.
func (p *parser) findAssigned() {
	for i := 0; i+2 < len(p.tokens); i++ {
		if p.tokens[i] == (token{tokenBegin, "{%"}) && p.tokens[i+1] == (token{tokenName, "set"}) && p.tokens[i+2].kind == tokenName {
			p.assigned[p.tokens[i+2].text] = true
		}
	}
}

func (p *parser) peek() token { return p.tokens[0] }

func (p *parser) next() token {
	t := p.tokens[0]
	if t.kind != tokenEnd {
		p.tokens = p.tokens[1:]
	}
	return t
}

func (p *parser) accept(kind tokenKind, text string) bool {
	if p.tokens[0] != (token{kind, text}) {
		return false
	}
	p.tokens = p.tokens[1:]
	return true
}

func (p *parser) expect(kind tokenKind, text string) {
	if !p.accept(kind, text) {
		fail("unexpected %q where %q should be", p.peek().text, text)
	}
}

func (p *parser) operator(all ...string) (op string, ok bool) {
	if t := p.peek(); t.kind == tokenOperator && slices.Contains(all, t.text) {
		p.next()
		return t.text, true
	}
	return "", false
}

func (p *parser) enter() {
	if p.depth++; p.depth > maxDepth {
		unsupported("an expression that nests deeper than %d levels", maxDepth)
	}
}

func (p *parser) exit() { p.depth-- }

// block reads up to the end, or to a statement that only whoever asked for the
// block can read: else, elif, an end.
func (p *parser) block() []node {
	p.enter()
	defer p.exit()
	all := []node{}
	for {
		switch t := p.peek(); {
		case t.kind == tokenEnd:
			return all
		case t.kind == tokenText:
			all = append(all, constant{p.next().text})
		case t.text == "{{":
			p.next()
			all = append(all, p.expression())
			if p.peek() == (token{tokenOperator, ","}) {
				unsupported("a tuple without brackets")
			}
			p.expect(tokenClose, "}}")
		default:
			n := p.statement()
			if n == nil {
				return all
			}
			all = append(all, n)
		}
	}
}

// statement reads one, nil where a block ends: it is then still to be read.
func (p *parser) statement() node {
	name := p.tokens[1].text
	switch name {
	case "else", "elif", "endif", "endset":
		return nil
	case "if":
		return p.ifStatement()
	case "set":
		return p.setStatement()
	}
	if p.tokens[1].kind != tokenName {
		fail("unexpected %q in a statement", name)
	}
	if !slices.Contains(knownStatements, name) {
		fail("there is no statement %q", name)
	}
	unsupported("{%% %s %%}", name)
	return nil
}

var knownStatements = []string{"for", "macro", "call", "filter", "import", "from", "include", "extends", "block", "raw", "with", "autoescape", "do", "break", "continue", "print"}

func (p *parser) open(name string) bool {
	if p.peek() != (token{tokenBegin, "{%"}) || p.tokens[1] != (token{tokenName, name}) {
		return false
	}
	p.tokens = p.tokens[2:]
	return true
}

func (p *parser) endOf(name string) {
	if !p.open("end" + name) {
		fail("{%% %s %%} has no end", name)
	}
	p.expect(tokenClose, "%}")
}

// ifStatement parses from {% if %} to {% endif %}.
func (p *parser) ifStatement() node {
	p.open("if")
	var n branches
	for {
		condition := p.expression()
		p.expect(tokenClose, "%}")
		n.conditions = append(n.conditions, condition)
		n.blocks = append(n.blocks, p.block())
		if !p.open("elif") {
			break
		}
	}
	if p.open("else") {
		p.expect(tokenClose, "%}")
		n.otherwise = p.block()
	}
	p.endOf("if")
	return n
}

// setStatement parses {% set %}, with a value or with a block.
func (p *parser) setStatement() node {
	p.open("set")
	name := p.next()
	if name.kind != tokenName {
		fail("unexpected %q where a name should be", name.text)
	}
	if p.accept(tokenClose, "%}") {
		body := p.block()
		p.endOf("set")
		return assignment{name.text, body, nil}
	}
	if t := p.peek(); t.kind == tokenOperator && (t.text == "," || t.text == "." || t.text == "|") {
		unsupported("{%% set %%} with %q", t.text)
	}
	p.expect(tokenOperator, "=")
	value := p.expression()
	if p.peek() == (token{tokenOperator, ","}) {
		unsupported("a tuple without brackets")
	}
	p.expect(tokenClose, "%}")
	return assignment{name.text, nil, value}
}
