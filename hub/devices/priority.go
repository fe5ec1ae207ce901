package devices

import (
	"cmp"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// sourcePriority lists the sources by priority, for where the announcements of a device
// differ. A device that announces itself does so at each of its starts, where a config
// of Home Assistant's discovery may be one that a former firmware left. What the first
// do not announce is taken from the next.
var sourcePriority = []string{topics.ByESPHome, topics.ByTasmota, topics.ByHomie, topics.ByShelly, topics.ByHomeAssistant, topics.ByZigbee2MQTT}

// preferred returns the value to use of those that the announcements of a device have.
// Of sources with the same priority the majority decides; of as many the value that
// was announced with the newest version. Only where that does not differ either the
// order of the topics decides.
func preferred(device []*announcement, of func(*announcement) string) string {
	for _, by := range sourcePriority {
		if value := majority(device, by, of); value != "" {
			return value
		}
	}
	return ""
}

// majority returns the value of most announcements of one source, "" where none has one.
func majority(device []*announcement, by string, of func(*announcement) string) string {
	type votes struct {
		count int
		// newest is the newest version.
		newest string
	}
	var first string
	var all map[string]votes // nil: all of them say the first
	count, newest := 0, ""
	for _, a := range device {
		if a.by != by {
			continue
		}
		value := of(a)
		switch {
		case value == "":
			continue
		case first == "":
			first = value
		case all == nil && value != first:
			all = map[string]votes{first: {count, newest}}
		}
		if all == nil {
			count, newest = count+1, newer(newest, a.version)
			continue
		}
		v := all[value]
		all[value] = votes{v.count + 1, newer(v.newest, a.version)}
	}
	best := first
	for _, a := range device { // in the order of the topics
		if all == nil {
			break
		}
		if value := of(a); a.by == by && value != "" &&
			cmp.Or(cmp.Compare(all[value].count, all[best].count), compareVersions(all[value].newest, all[best].newest)) > 0 {
			best = value
		}
	}
	return best
}

func newer(a, b string) string {
	if compareVersions(a, b) >= 0 {
		return a
	}
	return b
}

// compareVersions compares versions of any form: numbers within them by their
// value, the rest as text.
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		x, restX, numX := versionPart(a)
		y, restY, numY := versionPart(b)
		if numX && numY {
			x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if c := cmp.Compare(len(x), len(y)); c != 0 {
				return c
			}
		}
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
		a, b = restX, restY
	}
	return cmp.Compare(len(a), len(b))
}

// versionPart splits off the digits, or what is before the next digit.
func versionPart(s string) (part, rest string, number bool) {
	digit := func(i int) bool { return s[i] >= '0' && s[i] <= '9' }
	number = digit(0)
	n := 1
	for n < len(s) && digit(n) == number {
		n++
	}
	return s[:n], s[n:], number
}
