package nearest

import (
	"strings"
	"testing"
)

func TestEditDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"web", "web", 0}, {"web", "", 3}, {"", "web", 3}, {"wbe", "web", 1}, {"stauts", "status", 1}, {"stauts", "start", 2}, {"kitten", "sitting", 3}} {
		if got := editDistance(tt.a, tt.b, 9); got != tt.want || editDistance(tt.b, tt.a, 9) != tt.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

// Of names with as many edits, the one with the longer common prefix is found.
func TestFind(t *testing.T) {
	for _, tt := range []struct{ word, names, want string }{
		{"sevices", "devices services", "services"},
		{"evices", "devices services", "devices"},
		{"wex", "web wea", "wea"},
		{"wex", "lamp radio", ""},
		{"kitchn", "kitchen", "kitchen"},
		{"KITCHN", "kitchen", ""},
		{"", "web", ""},
		{strings.Repeat("w", maxLength+1), strings.Repeat("w", maxLength), ""},
		{strings.Repeat("w", maxLength), strings.Repeat("w", maxLength+1), ""},
		{strings.Repeat("w", maxLength-1), strings.Repeat("w", maxLength), strings.Repeat("w", maxLength)},
	} {
		if got := Find(tt.word, strings.Fields(tt.names), 3); got != tt.want {
			t.Errorf("%q among %s: %q, want %q", tt.word, tt.names, got, tt.want)
		}
	}
}

// A name is returned as it is written, also one whose lower case is longer than it.
func TestFindFold(t *testing.T) {
	for _, tt := range []struct{ word, names, want string }{
		{"kitchn", "Garage Kitchen", "Kitchen"},
		{"KITCHN", "garage kitchen", "kitchen"},
		{"Kitchen", "kitchen", "kitchen"},
		{"lamp", "Radio", ""},
		{"lamp", strings.Repeat("Ⱥ", maxLength/2) + " Lamps", "Lamps"},
		{strings.Repeat("Ⱥ", maxLength/2), strings.Repeat("Ⱥ", maxLength/2), ""},
	} {
		if got := FindFold(tt.word, strings.Fields(tt.names), 2); got != tt.want {
			t.Errorf("%q among %s: %q, want %q", tt.word, tt.names, got, tt.want)
		}
	}
}
