package facts

import (
	"log/slog"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// source is a machine that the test describes.
type source struct {
	address string
	rows    []topics.CatalogRow
	polls   int
}

func (s *source) Catalog() ([]topics.CatalogRow, []string) {
	s.polls++
	return s.rows, []string{"a problem"}
}

func (s *source) Addresses() (string, []string) {
	return s.address, []string{"192.0.2.7", "2001:db8::7"}
}

func TestInventoryAddress(t *testing.T) {
	s := &source{}
	i := NewInventory(s, 0, slog.New(slog.DiscardHandler))
	if i.Address() != "" {
		t.Errorf("before the first poll it is %q", i.Address())
	}
	for _, c := range []struct{ name, configured, found, want string }{
		{"a machine without a network", "", "", "127.0.0.1"},
		{"its network is up", "", "192.0.2.7", "192.0.2.7"},
		{"a cable is out", "", "", "192.0.2.7"},
		{"another network", "", "192.0.2.8", "192.0.2.8"},
		{"one that is configured", "198.51.100.1", "192.0.2.8", "198.51.100.1"},
		{"no longer", "", "192.0.2.8", "192.0.2.8"},
	} {
		s.address = c.found
		if i.Poll(c.configured, time.Now()); i.Address() != c.want || len(i.Addresses()) != 2 {
			t.Errorf("%s: %q of %q, want %q", c.name, i.Address(), i.Addresses(), c.want)
		}
	}
}

// A poll is due each 3 s, or after the least time that is set. One between, as after a
// reload, does not delay the next.
func TestInventoryPolls(t *testing.T) {
	for _, c := range []struct{ least, want time.Duration }{{0, 3 * time.Second}, {time.Minute, time.Minute}} {
		now, s := time.Now(), &source{rows: []topics.CatalogRow{{Service: "web", Version: "1.2.0"}, {Service: "lamp"}}}
		i := NewInventory(s, c.least, slog.New(slog.DiscardHandler))
		if !i.Due(now) {
			t.Error("the first poll is not due")
		}
		if problems := i.Poll("", now); len(problems) != 1 || len(i.Catalog()) != 2 {
			t.Errorf("problems %q, catalog %v", problems, i.Catalog())
		}
		i.Poll("", now.Add(c.want/2))
		if i.Due(now.Add(c.want-1)) || !i.Due(now.Add(c.want)) || !i.Next().Equal(now.Add(c.want)) {
			t.Errorf("least %v: next after %v", c.least, i.Next().Sub(now))
		}
		if !i.Has("web") || !i.Has("lamp") || i.Has("x") || i.Version("web") != "1.2.0" || i.Version("lamp")+i.Version("x") != "" {
			t.Errorf("catalog %v", i.Catalog())
		}
	}
}
