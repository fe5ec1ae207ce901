package autoscale

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// MaxPayload is the longest payload that is looked at, in bytes.
const MaxPayload = 64 << 10

// Parse reads the number that a payload holds: the payload itself, or the
// field of a JSON object by its path, as "queue.length"; a number in the path
// counts into a list, from 0. Text that is a number counts as one, because many
// devices publish it so.
func Parse(payload []byte, field string) (float64, error) {
	if len(payload) > MaxPayload {
		return 0, fmt.Errorf("%d bytes are too many to look for a number in", len(payload))
	}
	payload = bytes.TrimSpace(payload)
	if field == "" {
		return parseNumber(string(payload))
	}
	for at := field; at != ""; {
		name, rest, _ := strings.Cut(at, ".")
		next, err := step(payload, name)
		if err != nil {
			return 0, fmt.Errorf("there is no field %q in it: %w", field, err)
		}
		payload, at = bytes.TrimSpace(next), rest
	}
	if len(payload) > 0 && payload[0] == '"' {
		var text string
		if err := json.Unmarshal(payload, &text); err != nil {
			return 0, errors.New("it is not JSON")
		}
		return parseNumber(strings.TrimSpace(text))
	}
	return parseNumber(string(payload))
}

// step takes one step of a path. Each looks at what is left once, and what is
// left is a part of MaxPayload.
func step(payload []byte, name string) (json.RawMessage, error) {
	switch {
	case len(payload) == 0:
		return nil, errors.New("it is empty")
	case payload[0] == '{':
		var object map[string]json.RawMessage
		if err := json.Unmarshal(payload, &object); err != nil {
			return nil, errors.New("it is not JSON")
		}
		if next, ok := object[name]; ok {
			return next, nil
		}
		return nil, fmt.Errorf("%q is missing", name)
	case payload[0] == '[':
		var list []json.RawMessage
		if err := json.Unmarshal(payload, &list); err != nil {
			return nil, errors.New("it is not JSON")
		}
		if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(list) {
			return list[i], nil
		}
		return nil, fmt.Errorf("a list of %d has no %q", len(list), name)
	}
	return nil, fmt.Errorf("%q is asked of something that is not an object", name)
}

// longest is more than any number needs.
const longest = 64

func parseNumber(s string) (float64, error) {
	if s == "" {
		return 0, errors.New("it is empty")
	}
	v, err := strconv.ParseFloat(s, 64)
	if len(s) > longest || err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("%.40q is not a number", s)
	}
	return v, nil
}
