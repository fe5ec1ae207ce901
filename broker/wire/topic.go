package wire

import "strings"

// ValidTopic tells whether a well-formed string is a topic name: not empty and
// without wildcards [MQTT-3.3.2-2, -4.7.3-1].
func ValidTopic(topic string) bool {
	return topic != "" && len(topic) <= 65535 && !strings.ContainsAny(topic, "+#\x00")
}

// ValidFilter tells whether a well-formed string is a topic filter, shared ones
// included [MQTT-4.7.1-1, -2, -4.7.3-1, -4.8.2-1, -2].
func ValidFilter(filter string) bool {
	if len(filter) > 65535 || strings.IndexByte(filter, 0) >= 0 {
		return false
	}
	if strings.HasPrefix(filter, sharePrefix) {
		group, rest, ok := strings.Cut(filter[len(sharePrefix):], "/")
		if !ok || group == "" || strings.ContainsAny(group, "+#") {
			return false
		}
		filter = rest
	}
	if filter == "" {
		return false
	}
	for {
		level, rest, more := strings.Cut(filter, "/")
		if len(level) > 1 && strings.ContainsAny(level, "+#") || level == "#" && more {
			return false
		}
		if !more {
			return true
		}
		filter = rest
	}
}

const sharePrefix = "$share/"

// Shared splits the filter of a shared subscription, $share/group/filter; group
// is empty where it is none (MQTT 5.0, 4.8.2).
func Shared(filter string) (group, rest string) {
	if !strings.HasPrefix(filter, sharePrefix) {
		return "", filter
	}
	group, rest, _ = strings.Cut(filter[len(sharePrefix):], "/")
	return group, rest
}

// Matches tells whether a filter that is not shared matches a topic. Wildcards
// at the beginning do not match topics that begin with $ [MQTT-4.7.2-1], and
// a/# matches a (4.7.1.2).
func Matches(filter, topic string) bool {
	if topic != "" && topic[0] == '$' && filter != "" && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	for {
		want, filterRest, filterMore := strings.Cut(filter, "/")
		if want == "#" {
			return true
		}
		level, rest, more := strings.Cut(topic, "/")
		if want != "+" && want != level {
			return false
		}
		if !more || !filterMore {
			return more == filterMore || !more && filterRest == "#"
		}
		filter, topic = filterRest, rest
	}
}
