package ctl

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

// escapePattern is what withoutEscapes removes, as a regular expression.
var escapePattern = regexp.MustCompile("(?s)" +
	"(?:\x1b\\[|\u009b)[0-?]*[ -/]*[@-~]?" +
	"|(?:\x1b[\\]PX^_]|[\u009d\u0090\u0098\u009e\u009f]).*?(?:\x07|\x1b\\\\|\u009c|$)" +
	"|\x1b[ -/]*[0-~]?")

func TestWithoutEscapes(t *testing.T) {
	for text, want := range map[string]string{
		"a\x1b[31;1mb\x1b[mc":            "abc",
		"a\x1b]0;title\x07b":             "ab",
		"a\x1b]0;title\x1b\\b":           "ab",
		"a\u009d0;title\u009cb\u009b2Jc": "abc",
		"a\x1b]unfinished":               "a",
		"a\x1b(Bb\x1b":                   "ab",
		"größe °C 漢\u0085":               "größe °C 漢\u0085",
		"":                               "",
	} {
		if got := withoutEscapes(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
	pieces := []string{"\x1b", "[", "]", "P", "\\", "\x07", "\u009b", "\u009c", "\u009d", "\u0090", "\u0085", "\u00a0", "0", ";", "?", " ", "/", "@", "m", "~", "\x7f", "é", "漢", "\n"}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		var b strings.Builder
		for range random.IntN(12) {
			b.WriteString(pieces[random.IntN(len(pieces))])
		}
		if got, want := withoutEscapes(b.String()), escapePattern.ReplaceAllString(b.String(), ""); got != want {
			t.Fatalf("%q is %q, want %q", b.String(), got, want)
		}
	}
}
