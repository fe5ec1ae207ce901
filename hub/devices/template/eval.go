package template

import "strings"

// node is a part of a template that has a value.
type node interface{ eval(e *evaluator) any }

// evaluator is one rendering.
type evaluator struct {
	payload   *Payload
	variables map[string]any
	out       strings.Builder
	steps     int
}

func (e *evaluator) eval(n node) any {
	e.step(1)
	return n.eval(e)
}

// step counts work that a template makes.
func (e *evaluator) step(n int) {
	if e.steps += n; e.steps > maxSteps {
		unsupported("a rendering of more than %d steps", maxSteps)
	}
}

// run renders a block.
func (e *evaluator) run(body []node) {
	for _, n := range body {
		switch n.(type) {
		case branches, assignment:
			e.eval(n)
		default:
			text := e.text(e.eval(n))
			bounded(e.out.Len() + len(text))
			e.out.WriteString(text)
		}
	}
}

// text returns what a value is rendered as.
func (e *evaluator) text(v any) string {
	text := textOf(v)
	e.step(len(text) / 64)
	return text
}

func bounded(bytes int) {
	if bytes > maxText {
		unsupported("a text of more than %d bytes", maxText)
	}
}

type constant struct{ value any }

func (n constant) eval(*evaluator) any { return n.value }

type variable struct{ name string }

func (n variable) eval(e *evaluator) any {
	if v, assigned := e.variables[n.name]; assigned {
		return v
	}
	switch n.name {
	case "value":
		return e.payload.text
	case "value_json":
		return e.payload.value()
	}
	return undefined{}
}

// branches is {% if %}.
type branches struct {
	conditions []node
	blocks     [][]node
	otherwise  []node
}

func (n branches) eval(e *evaluator) any {
	for i, condition := range n.conditions {
		if truth(e.eval(condition)) {
			e.run(n.blocks[i])
			return nil
		}
	}
	e.run(n.otherwise)
	return nil
}

// assignment is {% set %}, of a value or of what a block renders.
type assignment struct {
	name  string
	body  []node
	value node
}

// eval assigns the value, and renders nothing.
func (n assignment) eval(e *evaluator) any {
	var v any
	if n.value != nil {
		v = e.eval(n.value)
	} else {
		outside := e.out.String()
		e.out.Reset()
		e.run(n.body)
		v = e.out.String()
		e.out.Reset()
		e.out.WriteString(outside)
	}
	if e.variables == nil {
		e.variables = make(map[string]any)
	}
	e.variables[n.name] = v
	return nil
}

// choice is "yes if condition else no".
type choice struct{ condition, yes, no node }

func (n choice) eval(e *evaluator) any {
	if truth(e.eval(n.condition)) {
		return e.eval(n.yes)
	}
	if n.no != nil {
		return e.eval(n.no)
	}
	return undefined{}
}

// logical is "a or b" and "a and b", of which the second may not be evaluated.
type logical struct {
	left, right node
	or          bool
}

func (n logical) eval(e *evaluator) any {
	left := e.eval(n.left)
	if truth(left) == n.or {
		return left
	}
	return e.eval(n.right)
}

type negation struct{ of node }

func (n negation) eval(e *evaluator) any { return !truth(e.eval(n.of)) }

// comparison may be a chain, as "1 < a < 3".
type comparison struct {
	first     node
	operators []string
	rest      []node
}

func (n comparison) eval(e *evaluator) any {
	left := e.eval(n.first)
	for i, op := range n.operators {
		right := e.eval(n.rest[i])
		if !e.compare(op, left, right) {
			return false
		}
		left = right
	}
	return true
}

// compare evaluates one comparison of two values.
func (e *evaluator) compare(op string, left, right any) bool {
	switch op {
	case "==":
		return e.equal(left, right)
	case "!=":
		return !e.equal(left, right)
	case "in":
		return e.contains(right, left)
	case "not in":
		return !e.contains(right, left)
	}
	order, comparable := e.order(left, right)
	if !comparable { // not a number
		return false
	}
	switch op {
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	}
	return order >= 0
}

type concatenation struct{ left, right node }

func (n concatenation) eval(e *evaluator) any {
	left := e.text(e.eval(n.left))
	text := left + e.text(e.eval(n.right))
	bounded(len(text))
	return text
}

// display is a list or a tuple.
type display struct {
	elements []node
	tuple    bool
}

func (n display) eval(e *evaluator) any {
	all := make([]any, len(n.elements))
	for i, element := range n.elements {
		all[i] = e.eval(element)
	}
	return list{all, n.tuple}
}

type mapping struct{ keys, values []node }

func (n mapping) eval(e *evaluator) any {
	d := newDict()
	for i := range n.keys {
		key := e.eval(n.keys[i])
		d.put(keyOf(key), key, e.eval(n.values[i]))
	}
	return d
}

// member is of.name: in Jinja an attribute of the object, then an element.
type member struct {
	of   node
	name string
}

func (n member) eval(e *evaluator) any {
	of := e.eval(n.of)
	if _, is := of.(undefined); is {
		undefinedError()
	}
	if hasAttribute(of, n.name) {
		unsupported("%q, which is a method in Python,", n.name)
	}
	if d, is := of.(*dict); is {
		if v, found := d.get(n.name); found {
			return v
		}
	}
	return undefined{}
}

// element is of[key].
type element struct{ of, key node }

// eval returns an element of a list, a text or a dict.
func (n element) eval(e *evaluator) any {
	of := e.eval(n.of)
	key := e.eval(n.key)
	switch of := of.(type) {
	case undefined:
		undefinedError()
	case *dict:
		if _, is := key.(list); is {
			return undefined{}
		}
		if v, found := of.get(keyOf(key)); found {
			return v
		}
	case list:
		if i, ok := indexOf(key, len(of.all)); ok {
			return of.all[i]
		}
	case string:
		runes := []rune(of)
		if i, ok := indexOf(key, len(runes)); ok {
			return string(runes[i])
		}
	}
	if name, is := key.(string); is && hasAttribute(of, name) {
		unsupported("%q, which is a method in Python,", name)
	}
	return undefined{}
}

// indexOf returns the element that an index means, counted from the end where
// it is negative.
func indexOf(key any, length int) (int, bool) {
	i, ok := integerOf(key)
	if i < 0 {
		i += int64(length)
	}
	return int(i), ok && i >= 0 && i < int64(length)
}

// slice is of[from:to].
type slice struct{ of, from, to node }

// eval returns a part of a list or a text.
func (n slice) eval(e *evaluator) any {
	of := e.eval(n.of)
	bound := func(n node, length, otherwise int) int {
		if n == nil {
			return otherwise
		}
		v := e.eval(n)
		if v == nil {
			return otherwise
		}
		i, ok := integerOf(v)
		if !ok {
			ignored()
		}
		if i < 0 {
			i += int64(length)
		}
		return int(min(max(i, 0), int64(length)))
	}
	switch of := of.(type) {
	case undefined:
		undefinedError()
	case list:
		from, to := bound(n.from, len(of.all), 0), bound(n.to, len(of.all), len(of.all))
		return list{of.all[from:max(from, to)], of.tuple}
	case string:
		runes := []rune(of)
		from, to := bound(n.from, len(runes), 0), bound(n.to, len(runes), len(runes))
		return string(runes[from:max(from, to)])
	}
	unsupported("a slice of neither text nor list") // Jinja's depends on its optimizer
	return nil
}

// sign is "-a" and "+a".
type sign struct {
	of       node
	negative bool
}

// eval applies the sign to a number.
func (n sign) eval(e *evaluator) any {
	v := e.eval(n.of)
	switch v := number(v).(type) {
	case int64:
		if n.negative {
			return -v
		}
		return v
	case float64:
		if n.negative {
			return -v
		}
		return v
	}
	failOperand(v)
	return nil
}

// arguments are those of a filter, test, function or method.
type arguments struct {
	all   []node
	names []string
	named []node
}

// call is a filter, a test or a function, which are alike: of is what it is
// applied to.
type call struct {
	name string
	f    function
	of   node
	with arguments
}

type function struct {
	// parameters are those beside what it is applied to.
	parameters []string
	apply      func(e *evaluator, v any, with []any) any
}

// absent stands for an argument that was not given.
type absent struct{}

func (n call) eval(e *evaluator) any {
	v := e.eval(n.of)
	return n.f.apply(e, v, e.bind(n.name, n.f.parameters, n.with))
}

// bind puts arguments at the places of parameters.
func (e *evaluator) bind(name string, parameters []string, a arguments) []any {
	with := make([]any, len(parameters))
	for i := range with {
		with[i] = absent{}
	}
	if len(a.all) > len(with) {
		unsupported("%s with %d arguments", name, len(a.all))
	}
	for i, n := range a.all {
		with[i] = e.eval(n)
	}
	for i, n := range a.named {
		at := -1
		for k, parameter := range parameters {
			if parameter == a.names[i] && k >= len(a.all) {
				at = k
			}
		}
		if at < 0 {
			unsupported("%s with the argument %q", name, a.names[i])
		}
		with[at] = e.eval(n)
	}
	return with
}

// method is of.name(…).
type method struct {
	of   node
	name string
	with arguments
}

// eval calls a method by the type of its object.
func (n method) eval(e *evaluator) any {
	of := e.eval(n.of)
	var all map[string]function
	switch of.(type) {
	case undefined:
		undefinedError()
	case *dict:
		all = objectMethods
	case string:
		all = stringMethods
	}
	f, known := all[n.name]
	if !known {
		if d, is := of.(*dict); is {
			_, known = d.get(n.name)
		}
		if known || hasAttribute(of, n.name) {
			unsupported("the method %q", n.name)
		}
		undefinedError() // which cannot be called
	}
	return f.apply(e, of, e.bind(n.name, f.parameters, n.with))
}
