package wire

import "strings"

// ValidTopic reports whether a UTF-8 string is a topic name: not empty and without
// wildcards [MQTT-3.3.2-2, -4.7.3-1].
func ValidTopic(topic string) bool {
	return topic != "" && len(topic) <= 65535 && !strings.ContainsAny(topic, "+#\x00")
}

// ValidFilter reports whether a UTF-8 string is a topic filter, which may be shared
// [MQTT-4.7.1-1, -2, -4.7.3-1, -4.8.2-1, -2].
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

// sharePrefix begins the filter of a shared subscription.
const sharePrefix = "$share/"

// SplitShared splits the filter of a shared subscription, $share/group/filter. If it
// is not shared, group is empty (MQTT 5.0, 4.8.2).
func SplitShared(filter string) (group, rest string) {
	if !strings.HasPrefix(filter, sharePrefix) {
		return "", filter
	}
	group, rest, _ = strings.Cut(filter[len(sharePrefix):], "/")
	return group, rest
}

// Matches reports whether a filter that is not shared matches a topic. A wildcard at
// the first level does not match topics that begin with $ [MQTT-4.7.2-1], and a/#
// matches a (4.7.1.2).
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
