package planner_test

import (
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// A service is placed where it can be given its secrets; what runs without one stays while
// nothing can replace it.
func TestSecretsDecideWhere(t *testing.T) {
	web := services.Default("web")
	web.Priority, web.Replicas = services.Required, 1
	web.Environment = map[string]string{"PASSWORD": "secret:pw"}
	at := func(name string, runs bool, set map[string]bool, none string) planner.Domain {
		d := planner.Domain{Name: name, State: topics.DomainIsOnline, Catalog: map[string]string{"web": "1.0.0"}, Secrets: set, NoSecrets: none}
		if runs {
			d.Ordered = map[string]bool{"web": true}
			d.Observed = map[string]planner.Instance{"web": {State: topics.Running, Health: topics.Healthy, Version: "1.0.0"}}
		}
		return d
	}
	set := map[string]bool{"pw": true}
	for name, c := range map[string]struct {
		domains []planner.Domain
		want    string
	}{
		"missing":       {[]planner.Domain{at("a", false, nil, "")}, "wait  no domain can run it now: the secret pw is missing: `dominionctl secret set pw` sets it"},
		"set":           {[]planner.Domain{at("a", false, set, "")}, "start a"},
		"without a key": {[]planner.Domain{at("a", false, nil, "adopt it"), at("b", false, set, "")}, "start b"},
		"removed":       {[]planner.Domain{at("a", true, nil, ""), at("b", false, nil, "")}, "keep a the secret pw is missing"},
		"it can go on":  {[]planner.Domain{at("a", true, nil, "adopt it"), at("b", false, set, "")}, "start b"},
	} {
		plan := planner.New(planner.Input{Services: []services.Definition{web}, Domains: c.domains})
		var all []string
		for _, l := range plan.Lines() {
			all = append(all, l.Action+" "+l.Domain+" "+l.Reason)
		}
		if r := plan.Services["web"].Reason; name == "removed" && (!strings.Contains(r, "it stays on a while nothing can replace it, though the secret pw is missing") || strings.Contains(r, "of 1 wanted")) {
			t.Errorf("removed: %s", r)
		}
		if got := strings.Join(all, "\n"); !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %q", name, got, c.want)
		}
	}
}
