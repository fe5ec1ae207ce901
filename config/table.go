package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// table reads the keys of one table. Each of its readers sets its destination
// where file or environment have the key, reports what is wrong with it, and
// reports whether the destination may be judged further: it is false after a
// fault, so that one mistake is not reported twice.
type table struct {
	l    *loader
	up   *table
	path string
	// variable is the prefix of its variables.
	variable string
	values   map[string]any
	// requested are the keys that were looked for.
	requested map[string]bool
}

// fault reports what is wrong with a key of the table, of which it keeps the
// default; key "" is the table.
func (t *table) fault(key, hint, format string, args ...any) {
	t.report(key, hint, format, args...)
	t.l.faulty[t.keyPath(key)] = true
}

// report reports what is wrong with a part of a key's value: the rest of it
// may be judged further.
func (t *table) report(key, hint, format string, args ...any) {
	f := t.l.at(t, key)
	f.Message, f.Hint = fmt.Sprintf(format, args...), hint
	t.l.faults = append(t.l.faults, f)
}

func (t *table) keyPath(key string) string {
	if key == "" {
		return t.path
	}
	return join(t.path, key)
}

// valid reports whether no fault was found at a key.
func (t *table) valid(key string) bool { return !t.l.faulty[t.keyPath(key)] }

func (t *table) variableName(key string) string {
	return t.variable + "_" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r - 'a' + 'A'
		}
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, key)
}

// take returns the value of a key, and whether it is a variable's.
func (t *table) take(key string) (v any, fromVariable, ok bool) {
	name := t.variableName(key)
	t.note(key, name)
	if s, set := t.override(name, t.keyPath(key)); set {
		return s, true, true
	}
	v, ok = t.values[key]
	return v, false, ok
}

// note notes that a key was looked for, and the variable that overrides it.
func (t *table) note(key, variable string) {
	if t.requested == nil {
		t.requested = make(map[string]bool)
	}
	t.requested[key] = true
	t.l.requested = append(t.l.requested, requestedKey{t.path, key, variable})
}

// override returns the value of a variable and notes that it overrides path.
func (t *table) override(name, path string) (value string, set bool) {
	value, set = t.l.variables[name]
	if !set {
		return "", false
	}
	if other := t.l.taken[name]; other != "" && other != path {
		t.l.faults = append(t.l.faults, Fault{
			File: Environment, Key: name,
			Message: fmt.Sprintf("names two keys: %s and %s", other, path),
			Hint:    "write the value into the file",
		})
	}
	t.l.taken[name], t.l.overridden[path] = path, name
	return value, true
}

// has reports whether file or environment have the key or something in it.
func (t *table) has(key string) bool {
	if _, ok := t.values[key]; ok {
		return true
	}
	name := t.variableName(key)
	for v := range t.l.variables {
		if t.l.taken[v] == "" && (v == name || strings.HasPrefix(v, name+"_")) {
			return true
		}
	}
	return false
}

// set reports whether file or environment have a key that was read.
func (t *table) set(key string) bool {
	_, ok := t.values[key]
	return ok || t.l.overridden[t.keyPath(key)] != ""
}

// pairs reads a table of text with keys of the user's choice. A variable of
// the table's own name replaces it, as in A=1,B=2; one that goes on after it
// sets the one key of that name, by an existing key's spelling where one
// differs in case alone. check says what is wrong with one.
func (t *table) pairs(key string, to *map[string]string, check func(name, value string) error) {
	all := make(map[string]string)
	path := t.keyPath(key)
	in := &table{l: t.l, up: t, path: path}
	v, fromVariable, ok := t.take(key)
	switch values := v.(type) {
	case string:
		if !fromVariable {
			t.wrong(key, v, "a table", key+` = { NAME = "value" }`)
			break
		}
		for part := range strings.SplitSeq(values, ",") {
			if part = strings.TrimSpace(part); part == "" {
				continue
			}
			name, value, found := strings.Cut(part, "=")
			if !found {
				t.fault(key, "write NAME=value,NAME=value", "%.60q has no =", part)
			}
			all[strings.TrimSpace(name)] = value
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(values)) {
			s, isText := values[name].(string)
			if !isText {
				in.wrong(name, values[name], "text", name+` = "…", in quotes`)
			}
			all[name] = s
		}
	default:
		if ok {
			t.wrong(key, v, "a table", key+` = { NAME = "value" }`)
		}
	}
	prefix := t.variableName(key) + "_"
	for _, variable := range slices.Sorted(maps.Keys(t.l.variables)) {
		name, ours := strings.CutPrefix(variable, prefix)
		if !ours || name == "" || t.l.taken[variable] != "" {
			continue
		}
		for known := range all {
			if strings.EqualFold(known, name) {
				name = known
				break
			}
		}
		all[name], _ = t.override(variable, join(path, name))
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := check(name, all[name]); err != nil && in.valid(name) {
			in.fault(name, "take it out, or use a name of letters, digits and _", "%v", err)
			t.l.faulty[path] = true
		}
	}
	if len(all) > 0 {
		*to = all
	}
}

// sub returns the table of a key, without values where there is none.
func (t *table) sub(key string) *table {
	t.note(key, "")
	sub := &table{l: t.l, up: t, path: t.keyPath(key), variable: t.variableName(key)}
	v, ok := t.values[key]
	if !ok {
		return sub
	}
	values, isTable := v.(map[string]any)
	if !isTable {
		hint := fmt.Sprintf("write [%s] on a line of its own and its keys below", sub.path)
		if key == "restart" || key == "health" { // people write these in one line
			hint = fmt.Sprintf("write %s = { … }, or %s", key, strings.TrimPrefix(hint, "write "))
		}
		t.fault(key, hint, "must be a table, not %s", kind(v))
	}
	sub.values = values
	return sub
}

// tables returns the tables of an array of tables. Their variables are named
// after the value of the key by, not after their place.
func (t *table) tables(key, by string) []*table {
	t.note(key, "")
	v, ok := t.values[key]
	if !ok {
		return nil
	}
	hint := fmt.Sprintf("write [[%s]] on a line of its own and its keys below, once for each", t.keyPath(key))
	var elements []any
	switch v := v.(type) {
	case []map[string]any:
		for _, e := range v {
			elements = append(elements, e)
		}
	case []any:
		elements = v
	default:
		t.fault(key, hint, "must be an array of tables, not %s", kind(v))
		return nil
	}
	var all []*table
	for i, e := range elements {
		values, isTable := e.(map[string]any)
		if !isTable {
			t.fault(key, hint, "element %d must be a table, not %s", i+1, kind(e))
			continue
		}
		sub := &table{l: t.l, up: t, path: element(t.keyPath(key), i), values: values}
		name, _ := values[by].(string)
		sub.variable = t.variableName(key) + "_" + strings.TrimPrefix(sub.variableName(name), "_")
		all = append(all, sub)
	}
	return all
}

// close reports the keys that nobody asked for.
func (t *table) close() {
	for _, key := range slices.Sorted(maps.Keys(t.values)) {
		if !t.requested[key] {
			t.l.unknown = append(t.l.unknown, unknownKey{t, key})
		}
	}
}
