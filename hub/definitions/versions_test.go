package definitions

import (
	"fmt"
	"testing"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

func change(name, version string) Change {
	b := &topics.Bundle{Version: version, Digest: "sha256:" + version}
	return Change{Version{TOML: "[services." + name + "]\nbundle = \"" + version + "\"\n", Bundle: b}, services.Definition{Name: name, Bundle: b}}
}

// A definition of a file counts, also where one of its name was defined at run time, which
// counts again when the file's is gone.
func TestFileCounts(t *testing.T) {
	d := New(defs("lamp"))
	d.Define([]Change{change("web", "1")})
	if !d.Has("web") || d.Get("web").Bundle.Version != "1" || d.InFile("web") || !d.InFile("lamp") {
		t.Fatalf("%+v", d)
	}
	d.Reload(defs("lamp", "web"))
	if d.Get("web").Bundle != nil || !d.InFile("web") {
		t.Errorf("the file does not count: %+v", d.Get("web"))
	}
	d.Reload(defs("lamp"))
	if got := d.Get("web"); got.Bundle == nil || len(d.Retired()) != 0 {
		t.Errorf("%+v, retired %v", got, d.Retired())
	}
	if !d.Undefine("web") || d.Undefine("web") || len(d.Retired()) != 1 || len(d.Versions("web")) != 0 {
		t.Errorf("retired %v, versions %v", d.Retired(), d.Versions("web"))
	}
}

// The last ten versions are kept, and the same definition again is none.
func TestVersions(t *testing.T) {
	d := New(nil)
	if d.Former("web") != nil {
		t.Error("a service that is not there has a former bundle")
	}
	for i := range MaxVersions + 3 {
		for range 2 {
			d.Define([]Change{change("web", fmt.Sprint(i))})
		}
	}
	all := d.Versions("web")
	if len(all) != MaxVersions || all[0].Bundle.Version != "12" || all[9].Bundle.Version != "3" {
		t.Errorf("%d versions: %+v", len(all), all)
	}
	if got := d.Former("web"); got == nil || got.Version != "11" {
		t.Errorf("former %+v", got)
	}
	again := New(nil)
	again.Restore(d.State(), d.AtRunTime())
	if got := again.Get("web"); got.Bundle.Version != "12" || again.Former("web").Version != "11" {
		t.Errorf("restored: %+v", got)
	}
	d.Define([]Change{change("web", "11")}) // rolled back
	if got := d.Former("web"); got == nil || got.Version != "12" || len(d.Versions("web")) != MaxVersions {
		t.Errorf("former after going back: %+v", got)
	}
}

// The base of a definition changes with its text and with its bundle.
func TestBase(t *testing.T) {
	one, two := change("web", "1").Version, change("web", "2").Version
	if one.Base() == two.Base() || one.Base() != change("web", "1").Base() {
		t.Error(one.Base(), two.Base())
	}
	two.TOML = one.TOML
	if one.Base() == two.Base() {
		t.Error("another bundle has the same base")
	}
}
