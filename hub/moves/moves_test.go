package moves_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/hub/moves"
)

func TestMovesEnd(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	m := moves.New()
	present := map[string]bool{"web@attic": true, "tv@attic": true, "web@cellar": true}
	isPresent := func(service, domain string) bool { return present[service+"@"+domain] }
	from := func(domain string) string { return strings.Join(slices.Sorted(maps.Keys(m.From(domain))), " ") }
	want := func(what string, changed []string, domains, attic, cellar string, next time.Time) {
		t.Helper()
		slices.Sort(changed)
		if got := strings.Join(changed, " "); got != domains || from("attic") != attic || from("cellar") != cellar {
			t.Errorf("%s: changed is %q, want %q; %q leave attic, want %q; %q leave cellar, want %q", what, got, domains, from("attic"), attic, from("cellar"), cellar)
		}
		if got := m.Next(); !got.Equal(next) {
			t.Errorf("%s: due at %v, want %v", what, got, next)
		}
	}

	want("nothing moves", m.Expire(isPresent, now), "", "", "", time.Time{})
	first, second := now.Add(moves.Limit), now.Add(moves.Limit+time.Second)
	want("two move", m.Add(map[string][]string{"web": {"attic", "cellar"}}, now), "attic cellar", "web", "web", first)
	now = now.Add(time.Second)
	want("one more moves", m.Add(map[string][]string{"tv": {"attic"}}, now), "attic", "tv web", "web", first)
	want("nothing has happened", m.Expire(isPresent, now), "", "tv web", "web", first)
	delete(present, "web@cellar")
	want("one has left", m.Expire(isPresent, now), "cellar", "tv web", "", first)
	want("a move is given up", m.Expire(isPresent, first), "attic", "tv", "", second)
	want("all are", m.Expire(isPresent, second), "attic", "", "", time.Time{})
}
