package config

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// wrong reports a value of the wrong type.
func (t *table) wrong(key string, v any, want, example string) bool {
	t.fault(key, "write "+example, "must be %s, not %s", want, kind(v))
	return false
}

// kind names the TOML type of a value as a person who writes the file does.
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

// addresses reads one address or a list of them, in the environment with commas
// between them. In to they are joined by commas: Addresses takes them apart.
func (t *table) addresses(key string, to *string) (all []string, ok bool) {
	v, fromVariable, set := t.take(key)
	if !set {
		return Addresses(*to), true
	}
	switch v := v.(type) {
	case string:
		if fromVariable {
			all = Addresses(v)
		} else if v != "" {
			all = []string{v}
		}
	case []any:
		for i, e := range v {
			s, isText := e.(string)
			if !isText || s == "" {
				t.fault(key, "write "+key+` = ["…", "…"]`, "element %d must be an address, not %s", i+1, kind(e))
				return nil, false
			}
			all = append(all, s)
		}
	default:
		return nil, t.wrong(key, v, "an address or a list of these", key+` = "…", in quotes`)
	}
	for _, a := range all {
		if strings.Contains(a, ",") {
			t.fault(key, "write "+key+` = ["…", "…"]`, "an address holds a comma")
			return nil, false
		}
	}
	*to = strings.Join(all, ",")
	return all, true
}

// Addresses returns the addresses of Broker.External or Domain.Hub, in the order in
// which they are tried.
func Addresses(joined string) (all []string) {
	for part := range strings.SplitSeq(joined, ",") {
		if part = strings.TrimSpace(part); part != "" {
			all = append(all, part)
		}
	}
	return all
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

// flag reads true or false. It returns false if there is a fault.
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

// number reads a whole number of 32 bits. It returns false if there is a fault.
func (t *table) number(key string, to *int) bool {
	v, fromVariable, ok := t.take(key)
	if !ok {
		return true
	}
	if fromVariable {
		n, err := strconv.ParseInt(strings.TrimSpace(v.(string)), 10, 64)
		if err != nil {
			t.fault(key, "write digits alone", "%.60q is not a whole number", v)
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
		t.fault(key, "write a number such as 0.5", "%v is not a finite number", n)
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
		t.fault(key, hint, "%.60q is not a valid size: %v", s, err)
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

// duration reads a duration with its unit, as "1m30s". It returns false if there is a
// fault.
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
		t.fault(key, `write it as "500ms", "10s", "1m30s" or "2h"`, "%.60q is not a valid duration", s)
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
