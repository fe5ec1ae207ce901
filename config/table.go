package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// table reads the keys of one table. Each of its readers sets its destination
// where file or environment have the key, reports what is wrong with it, and
// tells whether the destination may be judged further: it is false after a
// fault, so that one mistake is not reported twice.
type table struct {
	l        *loader
	up       *table
	path     string
	variable string // prefix of its variables
	values   map[string]any
	seen     []string
}

// fault reports what is wrong with a key of the table, of which it keeps the
// default; key "" is the table.
func (t *table) fault(key, hint, format string, args ...any) {
	t.report(key, hint, format, args...)
	t.l.broken[t.keyPath(key)] = true
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

// fine tells whether no fault was found at a key.
func (t *table) fine(key string) bool { return !t.l.broken[t.keyPath(key)] }

func (t *table) variableName(key string) string {
	return t.variable + "_" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
}

// take returns the value of a key, and whether it is a variable's.
func (t *table) take(key string) (v any, fromVariable, ok bool) {
	name := t.variableName(key)
	t.seen = append(t.seen, key)
	t.l.known = append(t.l.known, knownKey{t.path, key, name})
	if s, set := t.override(name, t.keyPath(key)); set {
		return s, true, true
	}
	v, ok = t.values[key]
	return v, false, ok
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

// has tells whether file or environment have the key or something in it.
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

// set tells whether file or environment have a key that was read.
func (t *table) set(key string) bool {
	_, ok := t.values[key]
	return ok || t.l.overridden[t.keyPath(key)] != ""
}

// wrong reports a value of the wrong type.
func (t *table) wrong(key string, v any, want, example string) bool {
	t.fault(key, "write "+example, "must be %s, not %s", want, kind(v))
	return false
}

func kind(v any) string {
	switch v.(type) {
	case string:
		return "text"
	case int64:
		return "a number"
	case float64:
		return "a number with a point"
	case bool:
		return "true or false"
	case time.Time:
		return "a date"
	case map[string]any:
		return "a table"
	case []map[string]any:
		return "an array of tables"
	case []any:
		return "a list"
	}
	return fmt.Sprintf("%T", v)
}

func (t *table) text(key string, to *string) bool {
	v, _, ok := t.take(key)
	if !ok {
		return true
	}
	s, isText := v.(string)
	if !isText {
		return t.wrong(key, v, "text", key+` = "…", in quotes`)
	}
	*to = s
	return true
}

// file reads the path of a file or folder and makes it absolute.
func (t *table) file(key string, to *string) bool {
	v, fromVariable, ok := t.take(key)
	if !ok {
		return true
	}
	s, isText := v.(string)
	switch {
	case !isText:
		return t.wrong(key, v, "a path", key+` = "…", in quotes`)
	case strings.ContainsRune(s, 0):
		t.fault(key, "take it out", "a path cannot hold a NUL byte")
		return false
	case s == "~" || strings.HasPrefix(s, "~/"):
		t.fault(key, "write the whole path", `"~" stands for no folder here`)
		return false
	case s != "" && !filepath.IsAbs(s) && !fromVariable:
		s = filepath.Join(t.l.folder, s)
	case s != "":
		s = absolute(s)
	}
	*to = s
	if named := key == "cafile" || strings.HasSuffix(key, "_file"); named && s != "" && t.l.exists != nil && !t.l.exists(s) {
		t.report(key, "write the path of one that is there", "there is no file %s", s)
	}
	return true
}

func (t *table) flag(key string, to *bool) bool {
	v, fromVariable, ok := t.take(key)
	if !ok {
		return true
	}
	if fromVariable {
		b, err := strconv.ParseBool(v.(string))
		if err != nil {
			t.fault(key, "write true or false", "must be true or false")
			return false
		}
		*to = b
		return true
	}
	b, isFlag := v.(bool)
	if !isFlag {
		return t.wrong(key, v, "true or false", key+" = true or false, without quotes")
	}
	*to = b
	return true
}

func (t *table) number(key string, to *int) bool {
	v, fromVariable, ok := t.take(key)
	if !ok {
		return true
	}
	if fromVariable {
		n, err := strconv.ParseInt(strings.TrimSpace(v.(string)), 10, 64)
		if err != nil {
			t.fault(key, "write digits alone", "%.60q is no whole number", v)
			return false
		}
		v = n
	}
	n, isNumber := v.(int64)
	if !isNumber {
		return t.wrong(key, v, "a whole number", key+" = 1, without quotes or point")
	}
	if n < math.MinInt32 || n > math.MaxInt32 {
		t.fault(key, "use a number nearer to zero", "%d is out of range", n)
		return false
	}
	*to = int(n)
	return true
}

// decimal reads a number that may have a point.
func (t *table) decimal(key string, to *float64) bool {
	v, fromVariable, ok := t.take(key)
	if !ok {
		return true
	}
	var n float64
	switch v := v.(type) {
	case int64:
		n = float64(v)
	case float64:
		n = v
	case string:
		parsed, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		if err != nil || !fromVariable {
			return t.wrong(key, v, "a number", key+" = 0.5, without quotes")
		}
		n = parsed
	default:
		return t.wrong(key, v, "a number", key+" = 0.5, without quotes")
	}
	if math.IsNaN(n) || math.IsInf(n, 0) {
		t.fault(key, "write a number such as 0.5", "%v is no number to reckon with", n)
		return false
	}
	*to = n
	return true
}

// size reads a number of bytes: a whole number, or text with a unit.
func (t *table) size(key string, to *int64) bool {
	v, fromVariable, ok := t.take(key)
	if !ok {
		return true
	}
	if n, isNumber := v.(int64); isNumber && n >= 0 {
		*to = n
		return true
	}
	const hint = `write it as "512kB", "256MB" or "1.5GB"`
	s, isText := v.(string)
	if !isText {
		return t.wrong(key, v, "a size", key+` = "256MB"`)
	}
	n, err := parseSize(s, fromVariable)
	if err != nil {
		t.fault(key, hint, "%.60q is no size: %v", s, err)
		return false
	}
	*to = n
	return true
}

// parseSize reads "256MB". bare allows a number without a unit.
func parseSize(s string, bare bool) (int64, error) {
	digits := strings.TrimRight(strings.TrimSpace(s), "BbGgIiKkMm ")
	factor, known := map[string]float64{
		"kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "b": 1,
	}[strings.ToLower(strings.TrimSpace(strings.TrimSpace(s)[len(digits):]))]
	switch n, err := strconv.ParseFloat(strings.TrimSpace(digits), 64); {
	case err != nil:
		return 0, errors.New("it does not begin with a number")
	case !known && (!bare || len(digits) != len(strings.TrimSpace(s))):
		return 0, errors.New("its unit is none")
	case !(n >= 0 && n*max(factor, 1) <= math.MaxInt32*1024):
		return 0, errors.New("it is out of range")
	default:
		return int64(n * max(factor, 1)), nil
	}
}

// longest is the longest duration that start commands carry.
const longest = 1e8 * time.Second

func (t *table) duration(key string, to *time.Duration) bool {
	v, _, ok := t.take(key)
	if !ok {
		return true
	}
	if n, isNumber := v.(int64); isNumber {
		t.fault(key, fmt.Sprintf(`write "%ds"`, n), "a duration needs a unit")
		return false
	}
	if n, isNumber := v.(float64); isNumber {
		t.fault(key, fmt.Sprintf(`write "%gs"`, n), "a duration needs a unit")
		return false
	}
	s, isText := v.(string)
	if !isText {
		return t.wrong(key, v, "a duration", key+` = "1s"`)
	}
	d, err := time.ParseDuration(s)
	if _, bare := strconv.ParseFloat(s, 64); bare == nil && s != "0" { // time reads "0", but no other bare number
		t.fault(key, fmt.Sprintf("write %q", s+"s"), "a duration needs a unit")
		return false
	}
	switch {
	case err != nil:
		t.fault(key, `write it as "500ms", "10s", "1m30s" or "2h"`, "%.60q is no duration", s)
	case d < 0:
		t.fault(key, "write "+quote(strings.TrimPrefix(s, "-")), "%q is negative", s)
	case d > longest:
		t.fault(key, "write a shorter one", "%q is longer than three years", s)
	case d%time.Millisecond != 0:
		t.fault(key, `write whole milliseconds, as "1ms"`, "%q is finer than a millisecond", s)
	default:
		*to = d
		return true
	}
	return false
}

// list reads a list of text, as much of it as is text. In the environment commas separate its elements.
func (t *table) list(key string, to *[]string) bool {
	v, fromVariable, ok := t.take(key)
	if !ok {
		return true
	}
	if fromVariable {
		*to = nil
		for part := range strings.SplitSeq(v.(string), ",") {
			if part = strings.TrimSpace(part); part != "" {
				*to = append(*to, part)
			}
		}
		return true
	}
	example := key + ` = ["…", "…"]`
	all, isList := v.([]any)
	if !isList {
		return t.wrong(key, v, "a list of text", example)
	}
	list := make([]string, 0, len(all))
	for i, e := range all {
		s, isText := e.(string)
		if !isText {
			t.report(key, "write "+example, "element %d must be text, not %s", i+1, kind(e))
			continue
		}
		list = append(list, s)
	}
	if len(list) > 0 {
		*to = list
	}
	return true
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
		if err := check(name, all[name]); err != nil && in.fine(name) {
			in.fault(name, "take it out, or use a name of letters, digits and _", "%v", err)
			t.l.broken[path] = true
		}
	}
	if len(all) > 0 {
		*to = all
	}
}

// sub returns the table of a key, without values where there is none.
func (t *table) sub(key string) *table {
	t.seen = append(t.seen, key)
	t.l.known = append(t.l.known, knownKey{table: t.path, key: key})
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
	t.seen = append(t.seen, key)
	t.l.known = append(t.l.known, knownKey{table: t.path, key: key})
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
		if !slices.Contains(t.seen, key) {
			t.l.unknown = append(t.l.unknown, unknownKey{t, key})
		}
	}
}
