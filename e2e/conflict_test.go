package e2e

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A hub is looked for once a minute, and while there is a conflict every 15 s; it
// is over after two questions without an answer.
const conflictPatience = 4 * time.Minute

// Two hubs with one id, as when a card was copied for a second machine, both
// say so, and no longer once one of them has ended.
func TestTwoHubsWithOneID(t *testing.T) {
	home := onEmbedded(t)
	home.Configure("")
	home.Up()
	home.must(home.copyHubTo("twin"))
	first, twin := home.Hub, home.hosts[len(home.hosts)-1]
	second := twin.Start(programs.dominion, "-config", filepath.Join(twin.Dir, "dominion.toml"))
	problem := func(at *Host) string {
		r := home.observer.Exec([]string{"DOMINION_URL=mqtt://" + at.Address() + ":1883"}, programs.dominionctl, "status", "--json", "--timeout", "1m")
		var o topics.Overview
		if r.Code > 1 || json.Unmarshal([]byte(r.Stdout), &o) != nil {
			return ""
		}
		return o.Hub.Problem + "\n" + strings.Join(o.Problems, "\n")
	}
	for at, other := range map[*Host]*Host{first: twin, twin: first} {
		want := []string{"another hub announces the id of this dominion", "at " + other.Address(), "stop one of the two"}
		eventuallyWithin(t, conflictPatience, at.Name+" names the other one", func() bool {
			p := problem(at)
			hub, all, _ := strings.Cut(p, "\n")
			return containsAll(hub, want) && containsAll(all, want)
		})
	}
	second.AwaitLog("another hub announces the id of this dominion", "hub_problem")
	o := home.Observe()
	mark := o.Now()
	second.Stop()
	eventuallyWithin(t, conflictPatience, "the first one has no problem any more", func() bool { return problem(first) == "\n" })
	if e := o.AwaitEvent(mark, "dominion/hub/event", topics.HubProblem, "", ""); !strings.Contains(e.Message, "does not answer any more") {
		t.Errorf("the event is %q", e.Message)
	}
}

// copyHubTo adds a machine with a copy of the hub's configuration and data.
func (h *Home) copyHubTo(name string) error {
	host := h.Host(name)
	if err := command("cp", "-a", filepath.Join(h.Hub.Dir, "data"), filepath.Join(host.Dir, "data")); err != nil {
		return err
	}
	return writeFile(filepath.Join(host.Dir, "dominion.toml"), strings.ReplaceAll(h.hubConfig(""), h.Hub.Dir, host.Dir))
}
