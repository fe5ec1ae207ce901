package changeset_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/hub/changeset"
)

func text(set map[string]bool) string { return strings.Join(slices.Sorted(maps.Keys(set)), " ") }

// Each change is taken once, and a look at everything replaces single ones.
func TestTake(t *testing.T) {
	for _, c := range []struct {
		name              string
		change            func(s *changeset.Set)
		whole             bool
		domains, services string
	}{
		{"nothing", func(*changeset.Set) {}, false, "", ""},
		{"domains", func(s *changeset.Set) { s.Touch("b"); s.Touch("a"); s.Touch("b") }, false, "a b", ""},
		{"a service", func(s *changeset.Set) { s.TouchService("lamp") }, false, "", "lamp"},
		{"both", func(s *changeset.Set) { s.Touch("a"); s.TouchService("lamp") }, false, "a", "lamp"},
		{"all", func(s *changeset.Set) { s.TouchAll() }, true, "", ""},
		{"all and some", func(s *changeset.Set) { s.Touch("a"); s.TouchAll(); s.TouchService("lamp") }, true, "", ""},
	} {
		var s changeset.Set
		c.change(&s)
		if pending := c.whole || c.domains+c.services != ""; s.Pending() != pending {
			t.Errorf("%s: pending %v", c.name, s.Pending())
		}
		got := s.Take()
		if got.Whole != c.whole || text(got.Domains) != c.domains || text(got.Services) != c.services {
			t.Errorf("%s: %+v", c.name, got)
		}
		if s.Pending() {
			t.Errorf("%s: pending after it was taken", c.name)
		}
		got.Domains["z"], got.Services["z"] = true, true // the pass adds what follows
		s.Touch("later")
		if later := s.Take(); later.Whole || text(later.Domains) != "later" || text(later.Services) != "" || got.Domains["later"] {
			t.Errorf("%s: the next one is %+v", c.name, later)
		}
	}
}
