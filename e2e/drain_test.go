package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// A drain lists what it costs before it does anything, does that, and ends: also
// where the only copy of a service cannot run elsewhere, and where as many copies
// are wanted as there are machines.
func TestDrainEnds(t *testing.T) {
	home := onEmbedded(t)
	kitchen, cellar := home.Domain("kitchen", "lamp"), home.Domain("cellar")
	for _, d := range []*Domain{kitchen, cellar} {
		d.Install("web")
		d.Install("copies")
		d.InstallShell("lamp")
	}
	home.Configure(service("web", `priority = "required"`, `replicas = 1`, `domains = ["kitchen", "cellar"]`) +
		service("copies", `priority = "required"`, `replicas = 2`) + service("lamp", `priority = "required"`, `traits = ["lamp"]`))
	_, _, o := home.Up(kitchen, cellar)
	o.Until("all run", func(v View) bool { return v.Healthy("web", 1) && v.Healthy("copies", 2) && v.Healthy("lamp", 1) })

	says := func(lines []topics.PlanLine) (all []string) {
		for _, l := range lines {
			if l.Action != topics.ActionStays {
				all = append(all, strings.Join(strings.Fields(l.Action+" "+l.Service+" "+l.From+" "+l.Domain), " "))
			}
		}
		slices.Sort(all)
		return all
	}
	want := []string{"goes down lamp kitchen", "stop copies kitchen"}
	if o.Latest().Endpoints("web")[0].Domain == "kitchen" {
		want = append(want, "moves web kitchen cellar")
	}
	slices.Sort(want)
	if r := home.Ctl("plan", "--drain", "kitchen"); r.Code != 4 || !strings.Contains(r.Stderr, "lamp would go down") || !strings.Contains(r.Stdout, "1 goes down") {
		t.Errorf("plan --drain: code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	home.Lives(o)
	r := home.Ctl("drain", "kitchen", "--wait", "--json")
	var doc struct {
		Reached bool              `json:"reached"`
		Plan    []topics.PlanLine `json:"plan"`
	}
	if err := oneDocument(r.Stdout, &doc); err != nil || r.Code != 0 || !doc.Reached {
		t.Fatalf("drain --wait: code %d, %v\n%s%s", r.Code, err, r.Stdout, r.Stderr)
	}
	if got := says(doc.Plan); !slices.Equal(got, want) {
		t.Errorf("drain says %q, want %q", got, want)
	}
	home.Journal.AwaitRunning(t, "copies@cellar", "web@cellar")
	if r := home.Ctl("undrain", "kitchen", "--wait"); r.Code != 0 {
		t.Fatalf("undrain: %s", r.Stderr)
	}
	o.Until("all run again", func(v View) bool { return v.Healthy("web", 1) && v.Healthy("copies", 2) && v.Healthy("lamp", 1) })
}
