package devices

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// illegalTopic names a topic at which Home Assistant does not read a config. nil
// is one that is no config.
func illegalTopic(below string) error {
	levels := strings.Split(below, "/")
	if len(levels) < 3 || len(levels) > 4 || levels[len(levels)-1] != "config" {
		return nil
	}
	if !knownPlatform(levels[0]) && levels[0] != "device" {
		return errors.New(refuses + fmt.Sprintf("%q is not one of its components: write another one into the topic", cut(levels[0], maxText)))
	}
	for _, level := range levels[1 : len(levels)-1] {
		if level == "" || strings.ContainsFunc(level, illegal) {
			return errors.New(refuses + fmt.Sprintf("illegal topic: %q may have a-z, A-Z, 0-9, _ and - only", cut(level, maxText)))
		}
	}
	return nil
}

func illegal(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
}

// closed names the keys that an object of a closed list must not have.
func (l *linter) closed(at string, o object, keys []string) {
	var others []string
	for k := range o {
		if !slices.Contains(keys, k) {
			others = append(others, k)
		}
	}
	slices.Sort(others)
	for _, k := range others {
		l.fault("%s.%s is not allowed: leave it out", at, cut(k, maxText/2))
	}
}

// text checks what has to be a text where it is there. Numbers and truth values
// are taken for one.
func (l *linter) text(at string, raw json.RawMessage) {
	if len(raw) == 0 {
		return
	}
	if raw[0] == 'n' {
		l.fault("%s is null: leave it out or write a text", at)
	} else if raw[0] == '{' || raw[0] == '[' {
		l.fault("%s is not a text", at)
	}
}

// truth checks what has to be a truth value.
func (l *linter) truth(at string, raw json.RawMessage) {
	if len(raw) == 0 {
		return
	}
	text, ok := textOfRaw(raw)
	if !ok {
		l.fault("%s is not a boolean: write true or false", at)
	} else if raw[0] == '"' && !slices.Contains(truthWords, strings.ToLower(strings.TrimSpace(text))) {
		l.fault("%s is %q: write true or false", at, cut(text, maxText/4))
	}
}

func (l *linter) url(at, url string) {
	scheme, rest, _ := strings.Cut(url, "://")
	host, _, _ := strings.Cut(rest, "/")
	if host == "" || scheme != "http" && scheme != "https" && scheme != "homeassistant" {
		l.fault("%s is %q: write one such as http://192.168.1.40/, or leave it out", at, cut(url, maxText/2))
	}
}

// topic checks a topic. One to which Home Assistant publishes has no wildcards.
func (l *linter) topic(at string, raw json.RawMessage, publish bool) {
	l.text(at, raw)
	topic, ok := textOfRaw(raw)
	if !ok {
		return
	}
	switch {
	case topic == "":
		l.fault("%s is empty: leave it out or write a topic", at)
	case strings.ContainsFunc(topic, func(r rune) bool { return r < ' ' || r >= 0x7f && r <= 0x9f }):
		l.fault("%s has control characters", at)
	case publish && strings.ContainsAny(topic, "+#"):
		l.fault("%s has a wildcard: nobody can publish to %s", at, cut(topic, maxText/2))
	case !publish && !validFilter(topic):
		l.fault("%s has a wildcard that does not stand for a whole level: %s", at, cut(topic, maxText/2))
	}
}

func validFilter(topic string) bool {
	levels := strings.Split(topic, "/")
	for i, level := range levels {
		if strings.ContainsAny(level, "+#") && level != "+" && (level != "#" || i < len(levels)-1) {
			return false
		}
	}
	return true
}
