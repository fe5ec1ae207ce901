package access

import "strings"

// covers reports whether a pattern matches a topic, or every topic that a filter
// matches. Besides the wildcards of MQTT, %u in a level of the pattern is replaced by
// the user's name and %c by the client identifier. A value that is empty or would be
// more than a part of a level matches nothing, as the client chooses its identifier.
func covers(pattern, filter string, c Client) bool {
	for {
		if pattern == "#" {
			return true
		}
		want, patternRest, patternMore := strings.Cut(pattern, "/")
		level, rest, more := strings.Cut(filter, "/")
		if level == "#" || want != "+" && !matchesLevel(want, level, c) {
			return false
		}
		if !more || !patternMore {
			// "a/#" matches "a" too (MQTT 3.1.1, 4.7.1.2)
			return more == patternMore || !more && patternRest == "#"
		}
		pattern, filter = patternRest, rest
	}
}

// matchesLevel reports whether a level of a topic matches a level of a pattern, with
// its placeholders replaced.
func matchesLevel(want, level string, c Client) bool {
	for {
		before, after, placeholder := strings.Cut(want, "%")
		if !placeholder {
			return want == level
		}
		value := c.User
		if after[0] == 'c' { // CheckFilter allows only u and c
			value = c.ID
		}
		rest, ok := strings.CutPrefix(level, before)
		if ok {
			rest, ok = strings.CutPrefix(rest, value)
		}
		if !ok || value == "" || strings.ContainsAny(value, "/+#") {
			return false
		}
		want, level = after[1:], rest
	}
}
