package access

import "strings"

// covers tells whether a pattern matches a topic, or each topic that a filter
// matches. Beside the wildcards of MQTT, %u in a level of the pattern stands
// for the user's name and %c for the client identifier. An empty one, and one
// that would be more than a part of a level, matches nothing: an identifier is
// the client's own choice.
func covers(pattern, filter string, c Client) bool {
	for {
		if pattern == "#" {
			return true
		}
		want, patternRest, patternMore := strings.Cut(pattern, "/")
		level, rest, more := strings.Cut(filter, "/")
		switch {
		case level == "#":
			return false
		case want == "+":
		case !fills(want, level, c):
			return false
		}
		if !more || !patternMore {
			// "a/#" matches "a" too (MQTT 3.1.1, 4.7.1.2)
			return more == patternMore || !more && patternRest == "#"
		}
		pattern, filter = patternRest, rest
	}
}

// fills tells whether a level of a topic is what a level of a pattern stands
// for.
func fills(want, level string, c Client) bool {
	for {
		before, after, placeholder := strings.Cut(want, "%")
		if !placeholder {
			return want == level
		}
		stands := c.User
		if after[0] == 'c' { // CheckFilter lets nothing but u and c follow
			stands = c.ID
		}
		rest, ok := strings.CutPrefix(level, before)
		if ok {
			rest, ok = strings.CutPrefix(rest, stands)
		}
		if !ok || stands == "" || strings.ContainsAny(stands, "/+#") {
			return false
		}
		want, level = after[1:], rest
	}
}
