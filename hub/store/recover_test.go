package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
)

// A hub that has lost hub.json, or finds it damaged as its backup is, is the dominion of its
// keys, and knows whom it has adopted. Without keys it is a new one.
func TestRecover(t *testing.T) {
	d := newDisk(t)
	id := d.ID()
	file := func(name string) string { return filepath.Join(d.dir, name) }
	if _, err := identity.OpenHub(d.dir, identity.HubOptions{Dominion: id, Name: "home", Names: identity.MakeNames("hub", nil), Now: start}); err != nil {
		t.Fatal(err)
	}
	d.ChangeMembers(func(s *State) {
		s.Keys = true
		s.Adoption.Members = map[string]adoption.Member{"id-pi": {ID: "id-pi", Name: "pi", KeyHash: "hash"}}
		s.Adoption.Forgotten = map[string]string{"id-tv": "other"}
	})
	if saved := d.Save(start); saved.Failed != nil {
		t.Fatal(saved.Failed)
	}
	d.open()
	if d.Recovered() != "" {
		t.Error("nothing was lost, and recovered is", d.Recovered())
	}
	for name, lose := range map[string]func() error{
		"lost": func() error { return os.Remove(file("hub.json")) },
		"damaged": func() error {
			return os.WriteFile(file("hub.json"), []byte{0, 0}, 0o600)
		},
	} {
		for _, f := range []string{"hub.json.previous", "hub.json.broken"} {
			_ = os.Remove(file(f))
		}
		if err := lose(); err != nil {
			t.Fatal(err)
		}
		d.open()
		a := d.Adoption()
		if d.ID() != id || !d.HasKeys() || a.Members["id-pi"].Name != "pi" || a.Forgotten["id-tv"] != "other" || !strings.Contains(d.Recovered(), "1 adopted domains") {
			t.Errorf("%s: dominion %s, keys %v, %+v, %q", name, d.ID(), d.HasKeys(), a, d.Recovered())
		}
		d.open()
		if d.ID() != id || d.Recovered() != "" || len(d.Adoption().Members) != 1 {
			t.Errorf("%s: the next start has %s %q %+v", name, d.ID(), d.Recovered(), d.Adoption())
		}
	}
	// The file beside the keys is written by a version that finds none.
	if err := os.Remove(file("identity/members.json")); err != nil {
		t.Fatal(err)
	}
	d.open()
	d.Save(start)
	if _, err := os.Stat(file("identity/members.json")); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(file("identity")); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"hub.json", "hub.json.previous"} {
		_ = os.Remove(file(f))
	}
	if d.open(); d.ID() == id || d.Recovered() != "" {
		t.Error("a hub without its keys is", d.ID(), d.Recovered())
	}
}
