package topics

import (
	"slices"
	"testing"
)

func TestSecretName(t *testing.T) {
	for text, want := range map[string]struct {
		name string
		is   bool
		ok   bool
	}{
		"secret:db.password": {"db.password", true, true}, "plain": {"", false, true}, "": {"", false, true},
		"secret:": {"", true, false}, "secret:a b": {"", true, false}, "Secret:x": {"", false, true}, " secret:x": {"", false, true},
	} {
		name, is, err := SecretName(text)
		if is && (name != want.name || (err == nil) != want.ok) || is != want.is {
			t.Errorf("%q: %q, %v, %v", text, name, is, err)
		}
	}
}

func TestSecretNames(t *testing.T) {
	got := SecretNames(map[string]string{"A": "secret:b", "B": "secret:a", "C": "secret:b", "D": "plain", "E": "secret:a b"})
	if !slices.Equal(got, []string{"a", "b"}) || SecretNames(nil) != nil {
		t.Errorf("%q", got)
	}
}
