package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// planned asks dominionctl what would be.
func planned(t *testing.T, home *Home, args ...string) []topics.PlanLine {
	t.Helper()
	r := home.Ctl(append([]string{"plan", "--json"}, args...)...)
	var lines []topics.PlanLine
	if err := oneDocument(r.Stdout, &lines); r.Code != 0 && r.Code != 4 || err != nil {
		t.Fatalf("dominionctl plan %q: code %d, %v:\n%s%s", args, r.Code, err, r.Stdout, r.Stderr)
	}
	return lines
}

// starts counts the starts of each service on each domain, as "service@domain".
func starts(t *testing.T, home *Home) map[string]int {
	t.Helper()
	n := make(map[string]int)
	for _, e := range home.Journal.Entries(t) {
		if e.What == "start" {
			n[e.Service+"@"+e.Domain]++
		}
	}
	return n
}

// begun says what was started since before.
func begun(t *testing.T, home *Home, before map[string]int) []string {
	t.Helper()
	var all []string
	for where, n := range starts(t, home) {
		for range n - before[where] {
			all = append(all, where)
		}
	}
	slices.Sort(all)
	return all
}

// What the hub says it would do without a domain, and with another
// configuration, is what it does when the plug is pulled, and when it is
// reloaded.
func TestPlanShowsWhatHappens(t *testing.T) {
	home := onEmbedded(t)
	hub, kitchen, cellar, _, o := upWithServices(t, home)
	kitchen.Install("bell")
	o.Until("the hub knows of bell", func(v View) bool {
		return slices.ContainsFunc(v.Domain("kitchen").Catalog, func(c topics.CatalogRow) bool { return c.Service == "bell" })
	})
	from, to := kitchen, cellar
	if o.Latest().Endpoints("web")[0].Domain == "cellar" {
		from, to = cellar, kitchen
	}

	t.Log("without " + from.Name)
	home.Lives(o)
	before := starts(t, home)
	var says []string
	for _, l := range planned(t, home, "--without", from.Name) {
		if l.Action == topics.ActionStarts || l.Action == topics.ActionMoves {
			says = append(says, l.Service+"@"+l.Domain)
		}
	}
	if !slices.Equal(says, []string{"web@" + to.Name}) {
		t.Errorf("the hub would start %q, want web on %s", says, to.Name)
	}
	if got := begun(t, home, before); len(got) > 0 {
		t.Errorf("the question started %q", got)
	}
	from.PowerCut()
	o.Until("web is healthy on "+to.Name, func(v View) bool {
		e := v.Endpoints("web")
		return len(e) == 1 && e[0].Domain == to.Name && e[0].Healthy
	})
	if got := begun(t, home, before); !slices.Equal(got, says) {
		t.Errorf("said that it would start %q, and started %q", says, got)
	}
	from.LinkUp()
	from.Start()
	o.Until("all is as before", func(v View) bool {
		return v.Online(from.Name) && v.Healthy("web", 1) && v.Healthy("lamp", 1)
	})
	eventually(t, "nothing is to be done", func() bool {
		return !slices.ContainsFunc(planned(t, home), func(l topics.PlanLine) bool { return l.Action != topics.ActionKeep })
	})

	t.Log("with another configuration")
	text := home.hubConfig(service("web", `priority = "required"`, `replicas = 1`, `traits = ["compute"]`, healthHTTP, `environment = { COLOUR = "red" }`) +
		service("bell", `priority = "required"`))
	next := filepath.Join(t.TempDir(), "next.toml")
	home.must(os.WriteFile(next, []byte(text), 0o644))
	home.Lives(o)
	before, says = starts(t, home), nil
	var stops []string
	for _, l := range planned(t, home, "--config", next) {
		switch {
		case l.Action == topics.ActionStart, l.Action == topics.ActionKeep && strings.Contains(l.Reason, "is restarted there"):
			says = append(says, l.Service+"@"+l.Domain)
		case l.Action == topics.ActionStop:
			stops = append(stops, l.Service+"@"+l.Domain)
		}
	}
	slices.Sort(says)
	if want := []string{"bell@kitchen", "web@" + to.Name}; !slices.Equal(says, want) || !slices.Equal(stops, []string{"lamp@kitchen"}) {
		t.Errorf("the hub would start %q and stop %q, want %q and lamp on kitchen", says, stops, want)
	}
	if got := begun(t, home, before); len(got) > 0 {
		t.Errorf("the question started %q", got)
	}
	home.WriteHubConfig(text)
	hub.Signal(syscall.SIGHUP)
	o.Until("bell runs, and lamp does not", func(v View) bool {
		return v.Healthy("bell", 1) && v["dominion/service/lamp/status"].Payload == ""
	})
	eventually(t, "what was said to be started is", func() bool { return slices.Equal(begun(t, home, before), says) })
	o.Until("web is healthy", func(v View) bool { return v.Healthy("web", 1) })
	if got := begun(t, home, before); !slices.Equal(got, says) {
		t.Errorf("said that it would start %q, and started %q", says, got)
	}
	home.Journal.AwaitRunning(t, says...)

	t.Log("what is wrong is said with file and line, and the exit code is 2")
	home.must(os.WriteFile(next, []byte("[services.web]\nprot = 1\n"), 0o644))
	if r := home.Ctl("plan", "--config", next); r.Code != 2 || !strings.Contains(r.Stderr, "next.toml:2: services.web.prot") {
		t.Errorf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	if r := home.Ctl("plan", "--without", "kitchn"); r.Code != 1 || !strings.Contains(r.Stderr, "did you mean") {
		t.Errorf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
}
