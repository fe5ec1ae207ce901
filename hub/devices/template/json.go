package template

import (
	"encoding/json"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
)

// parseJSON reads a payload as orjson does, which Home Assistant reads it with.
// ok is false where it is no JSON.
func parseJSON(payload string) (v any, ok bool) {
	if loneSurrogate(payload) {
		return nil, false
	}
	d := json.NewDecoder(strings.NewReader(payload))
	d.UseNumber()
	v, ok = jsonValue(d, 0)
	if !ok {
		return nil, false
	}
	_, err := d.Token()
	return v, err == io.EOF //nolint:errorlint // the decoder returns it as it is
}

// jsonValue reads one value from the decoder; deep is how deep it is nested.
func jsonValue(d *json.Decoder, deep int) (any, bool) {
	t, err := d.Token()
	if err != nil {
		return nil, false
	}
	switch t := t.(type) {
	case json.Number:
		return jsonNumber(t.String())
	case json.Delim:
		if deep++; deep > maxDepth {
			unsupported("JSON that nests deeper than %d levels", maxDepth)
		}
		if t == '[' {
			all := []any{}
			for d.More() {
				v, ok := jsonValue(d, deep)
				if !ok {
					return nil, false
				}
				all = append(all, v)
			}
			_, err := d.Token()
			return list{all, false}, err == nil
		}
		return jsonObject(d, deep)
	}
	return t, true
}

func jsonObject(d *json.Decoder, deep int) (any, bool) {
	object := newDict()
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, false
		}
		v, ok := jsonValue(d, deep)
		if !ok {
			return nil, false
		}
		object.put(key, key, v)
	}
	_, err := d.Token()
	return object, err == nil
}

func jsonNumber(s string) (any, bool) {
	if !strings.ContainsAny(s, ".eE") {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return n, true
		}
		if _, err := strconv.ParseUint(s, 10, 64); err == nil {
			return bigInt(s), true
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil && !math.IsInf(f, 0)
}

// loneSurrogate reports whether an escape of the payload is half of a pair, which
// Go's decoder takes and orjson does not.
func loneSurrogate(payload string) bool {
	for i := 0; i < len(payload); i++ {
		if payload[i] != '\\' {
			continue
		}
		i++
		r, ok := unicodeEscape(payload[i:])
		if !ok || !utf16.IsSurrogate(r) {
			continue
		}
		i += len("ud800")
		second, ok := unicodeEscape(strings.TrimPrefix(payload[i:], `\`))
		if !ok || !strings.HasPrefix(payload[i:], `\`) || utf16.DecodeRune(r, second) == unicode.ReplacementChar {
			return true
		}
		i += len("udc00")
	}
	return false
}

// unicodeEscape reads uXXXX.
func unicodeEscape(s string) (rune, bool) {
	if len(s) < len("uXXXX") || s[0] != 'u' {
		return 0, false
	}
	code, err := strconv.ParseUint(s[1:5], 16, 16)
	return rune(code), err == nil
}
