package services

import (
	"strings"
	"testing"
)

func TestReviseForSecrets(t *testing.T) {
	a := ReviseForSecrets("r", map[string]string{"x": "1", "y": "2"})
	if a != ReviseForSecrets("r", map[string]string{"y": "2", "x": "1"}) || ReviseForSecrets("r", nil) != "r" {
		t.Error("the same has two revisions")
	}
	for _, other := range []string{"r", ReviseForSecrets("s", map[string]string{"x": "1", "y": "2"}), ReviseForSecrets("r", map[string]string{"x": "1", "y": "3"}), ReviseForSecrets("r", map[string]string{"x": "1"})} {
		if other == a {
			t.Error("two have one revision")
		}
	}
}

func TestCheckVariable(t *testing.T) {
	for value, want := range map[string]string{"secret:a": "", "plain": "", "secret:a b": "name of a secret", "secret:": "name of a secret", "a\x00": "NUL"} {
		err := CheckVariable("X", value)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", value, err)
		}
	}
}
