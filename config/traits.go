package config

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// TraitSource is one [traits_from.NAME]: what makes a trait come and go.
// Exactly one of Path, Command and MQTT is set.
type TraitSource struct {
	Trait string
	// Path is that of a file whose presence gives the trait; may be a pattern, as of
	// path.Match.
	Path string
	// Command gives the trait while it ends with code 0.
	Command []string
	// Interval is the time between two runs of the command.
	Interval time.Duration
	// Timeout is that of the command.
	Timeout time.Duration
	// MQTT is a topic at which something retained gives the trait.
	MQTT string
	// Payload is what has to be retained there; "": anything.
	Payload string
}

// The defaults of a TraitSource.
const (
	DefaultTraitInterval = 5 * time.Second
	DefaultTraitTimeout  = 5 * time.Second
)

// traitsFrom reads [traits_from]; a text is short for a path.
func (t *table) traitsFrom(to *[]TraitSource) {
	in := t.sub("traits_from")
	for _, name := range slices.Sorted(maps.Keys(in.values)) {
		s := defaultTraitSource(name)
		if !topics.ValidName(name) {
			in.fault(name, labelHint, "%s is not a valid trait", quote(name))
		}
		if _, short := in.values[name].(string); short {
			in.text(name, &s.Path)
			in.pattern(name, s.Path)
		} else {
			in.sub(name).traitSource(&s)
		}
		*to = append(*to, s)
	}
	in.close()
}

func defaultTraitSource(name string) TraitSource {
	return TraitSource{Trait: name, Interval: DefaultTraitInterval, Timeout: DefaultTraitTimeout}
}

// traitSettings returns the keys of a source of [traits_from].
func traitSettings() []setting[*TraitSource] {
	return []setting[*TraitSource]{
		{
			key: "path", of: func(s *TraitSource) any { return &s.Path },
			check: func(t *table, key string, v any) {
				if path := *v.(*string); path != "" {
					t.pattern(key, path)
				}
			},
			doc: "the domain has the trait while this file exists; may be a pattern. A path alone is short for it",
		},
		{
			key: "command", of: func(s *TraitSource) any { return &s.Command },
			doc: "while this program ends with 0: a list, no shell reads it",
		},
		{
			key: "interval", of: func(s *TraitSource) any { return &s.Interval },
			doc: "between two runs of the command, a second at least",
		},
		{
			key: "timeout", of: func(s *TraitSource) any { return &s.Timeout },
			doc: "of the command",
		},
		{
			key: "mqtt", of: func(s *TraitSource) any { return &s.MQTT },
			check: optionalText(checkTopic),
			doc:   "while something is retained at this topic",
		},
		{
			key: "payload", of: func(s *TraitSource) any { return &s.Payload },
			doc: "which it has to be; without it anything",
		},
	}
}

// traitSource reads one source, and checks that it is of exactly one kind.
func (t *table) traitSource(s *TraitSource) {
	defer t.close()
	readElement(t, traitSettings(), s)
	kinds := 0
	for _, set := range []bool{s.Path != "", len(s.Command) > 0, s.MQTT != ""} {
		if set {
			kinds++
		}
	}
	if kinds != 1 && t.valid("path") && t.valid("command") && t.valid("mqtt") {
		t.fault("", `write one of path = "/dev/serial/by-id/*Sonoff*", command = ["…"] and mqtt = "topic"`, "%d ways to tell whether the trait is there", kinds)
	}
	if s.Interval < time.Second || s.Timeout < 100*time.Millisecond {
		t.fault("interval", "an interval of a second at least, a timeout of 100ms", "interval %v, timeout %v are too short", s.Interval, s.Timeout)
	}
	if s.Payload != "" && s.MQTT == "" {
		t.fault("payload", `write mqtt = "topic" too, or take it out`, "belongs to a topic")
	}
}

func (t *table) pattern(key, pattern string) {
	switch _, err := filepath.Match(pattern, ""); {
	case !strings.HasPrefix(pattern, "/"):
		t.fault(key, `write the whole path, as "/dev/serial/by-id/*Sonoff*"`, "%s is not an absolute path", quote(pattern))
	case err != nil:
		t.fault(key, `write *, ? and [a-z] alone`, "%s is no pattern of paths", quote(pattern))
	}
}
