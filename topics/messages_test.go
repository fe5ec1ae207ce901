package topics

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestShortenMessage(t *testing.T) {
	for _, short := range []string{"", "exited with code 3", strings.Repeat("x", maxMessage)} {
		if got := ShortenMessage(short); got != short {
			t.Errorf("%d bytes became %d", len(short), len(got))
		}
	}
	for _, long := range []string{strings.Repeat("x", maxMessage+1), strings.Repeat("é", maxMessage), "x" + strings.Repeat("é", maxMessage)} {
		got := ShortenMessage(long)
		if len(got) > maxMessage+len("…") || !strings.HasSuffix(got, "…") || !utf8.ValidString(got) || !strings.HasPrefix(long, strings.TrimSuffix(got, "…")) {
			t.Errorf("%d bytes became %d: %q", len(long), len(got), got[len(got)-10:])
		}
	}
}

func TestCutNextTry(t *testing.T) {
	for message, want := range map[string]string{
		"":                                    "",
		"exited with code 3":                  "exited with code 3",
		"exited with code 3; next try in 4 s": "exited with code 3",
		"exited with code 3, next try in 4 s": "exited with code 3",
		"exited with code 3; next try in 4 s\nits last line": "exited with code 3\nits last line",
		"exited with code 3\nit says; next try in 4 s":       "exited with code 3\nit says; next try in 4 s",
	} {
		if got := CutNextTry(message); got != want {
			t.Errorf("%q: %q, want %q", message, got, want)
		}
	}
}
