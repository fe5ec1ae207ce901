package devices

import (
	"cmp"
	"encoding/json"
)

// longestShort is how long an abbreviation is at most.
const longestShort = len("pl_not_avail") + 1

// object is a JSON object by the long forms of its keys.
type object map[string]json.RawMessage

// objectOf returns an object by the long forms of its keys, nil for anything
// else. As in Home Assistant an abbreviation counts more than the long form.
func objectOf(raw json.RawMessage, own map[string]string) object {
	var o object
	if len(raw) == 0 || json.Unmarshal(raw, &o) != nil {
		return nil
	}
	var short []string
	for k := range o {
		if len(k) <= longestShort && (own[k] != "" || full[k] != "" || abbreviated[k] != "") {
			short = append(short, k)
		}
	}
	for _, k := range short {
		o[cmp.Or(own[k], full[k], abbreviated[k])] = o[k]
		delete(o, k)
	}
	return o
}

// listOf returns the elements of a list, or the one value without brackets;
// nothing of null.
func listOf(raw json.RawMessage) (all []json.RawMessage) {
	if len(raw) == 0 || raw[0] == 'n' {
		return nil
	}
	if raw[0] != '[' {
		return []json.RawMessage{raw}
	}
	if json.Unmarshal(raw, &all) != nil {
		return nil
	}
	return all
}

// textOfRaw returns a text, or a number or truth value as it is written; ok is
// false for anything else.
func textOfRaw(raw json.RawMessage) (text string, ok bool) {
	if len(raw) == 0 || raw[0] == 'n' || raw[0] == '{' || raw[0] == '[' {
		return "", false
	}
	if raw[0] != '"' {
		return string(raw), true
	}
	return text, json.Unmarshal(raw, &text) == nil
}
