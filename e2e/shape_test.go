package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// shape says which keys a JSON payload has, a line a key:
//
//	name kind      the key must be there
//	name? kind     it may be there
//	a.b, a[].b     keys of an object, of every object of a list
//	a.* kind       the values of an object whose keys are names
//
// Kinds are string, word (a non-empty string), uuid, time, number, count (a
// whole number from 0), bool, list, object, and a|b|c for one of a closed list.
// A key that is not named is a fault.
type shape string

var (
	uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	timePattern = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)
)

// check reports what differs between a message's payload and its shape.
func (s shape) check(t testing.TB, m Message) {
	t.Helper()
	var payload any
	if err := json.Unmarshal([]byte(m.Payload), &payload); err != nil {
		t.Errorf("%s: %v: %q", m.Topic, err, m.Payload)
		return
	}
	keys := make(map[string]string)
	for line := range strings.Lines(string(s)) {
		if f := strings.Fields(line); len(f) == 2 {
			keys[f[0]] = f[1]
		}
	}
	for _, fault := range checkValue("", payload, keys) {
		t.Errorf("%s: %s in %s", m.Topic, fault, m.Payload)
	}
}

func checkValue(at string, value any, keys map[string]string) (faults []string) {
	below := at
	if at != "" {
		below += "."
	}
	switch v := value.(type) {
	case []any:
		for _, element := range v {
			faults = append(faults, checkValue(at+"[]", element, keys)...)
		}
	case map[string]any:
		if _, free := keys[below+"*"]; free {
			for name, element := range v {
				faults = append(faults, checkKind(below+name, keys[below+"*"], element)...)
				faults = append(faults, checkValue(below+"*", element, keys)...)
			}
			return faults
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			kind, ok := keys[below+name]
			if !ok {
				kind, ok = keys[below+name+"?"]
			}
			if !ok {
				faults = append(faults, fmt.Sprintf("unknown key %s", below+name))
				continue
			}
			faults = append(faults, checkKind(below+name, kind, v[name])...)
			faults = append(faults, checkValue(below+name, v[name], keys)...)
		}
		for key := range keys {
			name, direct := strings.CutPrefix(key, below)
			if !direct || strings.ContainsAny(name, ".[?") {
				continue
			}
			if _, there := v[name]; !there {
				faults = append(faults, fmt.Sprintf("no key %s", key))
			}
		}
	}
	return faults
}

func checkKind(at, kind string, value any) []string {
	ok := false
	switch kind {
	case "bool":
		_, ok = value.(bool)
	case "list":
		_, ok = value.([]any)
	case "object":
		_, ok = value.(map[string]any)
	case "number", "count":
		n, is := value.(float64)
		ok = is && (kind == "number" || n >= 0 && n == float64(int64(n)))
	default:
		s, is := value.(string)
		switch {
		case !is:
		case kind == "string":
			ok = true
		case kind == "word":
			ok = s != ""
		case kind == "uuid":
			ok = uuidPattern.MatchString(s)
		case kind == "time":
			ok = timePattern.MatchString(s)
		default:
			ok = slices.Contains(strings.Split(kind, "|"), s)
		}
	}
	if ok {
		return nil
	}
	return []string{fmt.Sprintf("%s is %v, want %s", at, value, kind)}
}

func TestShape(t *testing.T) {
	s := shape("id uuid\nn? count\nlist list\nlist[].state on|off\nby object\nby.* object\nby.*.at time\n")
	for payload, faults := range map[string]int{
		`{"id":"01234567-89ab-cdef-0123-456789abcdef","list":[],"by":{}}`:                                       0,
		`{"id":"01234567-89ab-cdef-0123-456789abcdef","n":1.5,"list":[{"state":"on"}],"by":{}}`:                 1,
		`{"id":"x","list":[{"state":"dim"},{}],"by":{"web":{"at":"2026-01-02T15:04:05Z"}}}`:                     4,
		`{"list":[{"state":"on","more":1}],"by":{"web":{"at":"2026-01-02T15:04:05.000Z"},"lamp":null}}`:         3,
		`{"id":"01234567-89ab-cdef-0123-456789abcdef","list":[{"state":"off"}],"by":{"a":{"at":"2026-01-02"}}}`: 1,
	} {
		var v any
		if err := json.Unmarshal([]byte(payload), &v); err != nil {
			t.Fatal(err)
		}
		keys := make(map[string]string)
		for line := range strings.Lines(string(s)) {
			f := strings.Fields(line)
			keys[f[0]] = f[1]
		}
		if got := checkValue("", v, keys); len(got) != faults {
			t.Errorf("%s: %d faults %q, want %d", payload, len(got), got, faults)
		}
	}
}
