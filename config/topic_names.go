package config

import (
	"strings"
	"unicode"
)

// checkTopic checks the base of a tree of topics.
func checkTopic(s string) problem {
	// It goes into a TXT record of zeroconf and stands before each topic.
	const longest = 128
	const hint = `write a word, or several with / between, as "dominion"`
	switch {
	case s == "":
		return problem{"is empty", hint}
	case len(s) > longest:
		return problem{"is longer than 128 bytes", "use a shorter one"}
	case strings.ContainsAny(s, "+#"):
		return problem{quote(s) + " holds a wildcard of MQTT", hint}
	case strings.HasPrefix(s, "$"):
		return problem{quote(s) + " begins with $: these topics are the broker's own", hint}
	case strings.HasPrefix(s, "/") || strings.HasSuffix(s, "/") || strings.Contains(s, "//"):
		return problem{quote(s) + " has an empty level", hint}
	case strings.ContainsFunc(s, unicode.IsControl) || !isText(s):
		return problem{quote(s) + " holds a control character", hint}
	}
	return problem{}
}

// checkFilter checks a filter of topics, as MQTT has them (3.1.1, 4.7).
func checkFilter(s string) problem {
	const hint = `write filters as "sensors/+/raw" or "camera/#"`
	switch {
	case s == "":
		return problem{"is empty", hint}
	case len(s) > 65535:
		return problem{"is longer than MQTT allows", hint}
	case strings.HasPrefix(s, "$share/"):
		return problem{quote(s) + " is a shared subscription", hint}
	case strings.ContainsFunc(s, unicode.IsControl) || !isText(s):
		return problem{quote(s) + " holds a control character", hint}
	}
	for rest, more := s, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if level == "#" && more {
			return problem{quote(s) + " goes on after #", hint}
		}
		if len(level) > 1 && strings.ContainsAny(level, "+#") {
			return problem{quote(s) + " has a wildcard that is not a whole level", hint}
		}
	}
	return problem{}
}
