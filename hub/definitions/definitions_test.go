package definitions

import (
	"maps"
	"slices"
	"testing"

	"github.com/jmbarzee/dominion/services"
)

func defs(names ...string) (all []services.Definition) {
	for _, name := range names {
		all = append(all, services.Definition{Name: name})
	}
	return all
}

func names(defs map[string]services.Definition) []string { return slices.Sorted(maps.Keys(defs)) }

// What is gone from the configuration is retired until it is removed, and configured again
// where it comes back.
func TestReload(t *testing.T) {
	d := New(defs("web", "lamp"))
	for _, step := range []struct {
		what                string
		do                  func()
		configured, retired []string
	}{
		{"at the start", func() {}, []string{"lamp", "web"}, nil},
		{"one is gone", func() { d.Reload(defs("web", "lock")) }, []string{"lock", "web"}, []string{"lamp"}},
		{"another one too", func() { d.Reload(defs("lock")) }, []string{"lock"}, []string{"lamp", "web"}},
		{"one is back", func() { d.Reload(defs("lock", "lamp")) }, []string{"lamp", "lock"}, []string{"web"}},
		{"nothing of one is left", func() { d.Remove("web") }, []string{"lamp", "lock"}, nil},
		{"a configured one is not removed", func() { d.Remove("lock") }, []string{"lamp", "lock"}, nil},
	} {
		step.do()
		if got := names(d.Configured()); !slices.Equal(got, step.configured) {
			t.Errorf("%s: configured %v, want %v", step.what, got, step.configured)
		}
		if got := d.Retired(); !slices.Equal(got, step.retired) || !slices.Equal(names(d.RetiredDefinitions()), got) {
			t.Errorf("%s: retired %v, want %v", step.what, got, step.retired)
		}
		all := slices.Sorted(slices.Values(slices.Concat(step.configured, step.retired)))
		if got := names(d.All()); !slices.Equal(got, all) {
			t.Errorf("%s: all %v, want %v", step.what, got, all)
		}
		for _, name := range []string{"web", "lamp", "lock", "other"} {
			has := slices.Contains(all, name)
			if d.Has(name) != has || (d.Get(name).Name == name) != has {
				t.Errorf("%s: has %s: %v, want %v", step.what, name, d.Has(name), has)
			}
		}
	}
}

// The definition of the configuration counts, also of a service that was retired.
func TestGet(t *testing.T) {
	d := New([]services.Definition{{Name: "web", StopTimeout: 1}})
	d.Reload(nil)
	if got := d.Get("web"); got.StopTimeout != 1 {
		t.Errorf("retired: %+v", got)
	}
	d.Reload([]services.Definition{{Name: "web", StopTimeout: 2}})
	if got := d.Get("web"); got.StopTimeout != 2 || len(d.Retired()) != 0 {
		t.Errorf("configured again: %+v, retired %v", got, d.Retired())
	}
}

// What a reload would retire is returned without doing it.
func TestRetiredBy(t *testing.T) {
	d := New(defs("web", "lamp"))
	d.Reload(defs("web"))
	if got := names(d.RetiredBy(ByName(defs("lock")))); !slices.Equal(got, []string{"lamp", "web"}) {
		t.Errorf("%v, want lamp and web", got)
	}
	if !slices.Equal(d.Retired(), []string{"lamp"}) || !slices.Equal(names(d.Configured()), []string{"web"}) {
		t.Errorf("afterwards configured %v, retired %v", names(d.Configured()), d.Retired())
	}
	if got := names(d.RetiredBy(nil)); !slices.Equal(got, []string{"lamp", "web"}) {
		t.Errorf("by an empty configuration: %v", got)
	}
}
