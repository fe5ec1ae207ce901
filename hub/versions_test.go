package hub_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A new version that is not in the range of who needs it is not rolled out to the
// only copy in that range, and what waits and why is a problem.
func TestRolloutBreaksNoRange(t *testing.T) {
	inHome(t, `
[services.lib]
[services.app]
priority = "required"
dependencies = ["lib >=1 <2"]
`, func(h *home) {
		a := h.agent("attic", nil, "lib", "app")
		if err := a.join(); err != nil {
			h.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		starts := a.started("lib")
		a.stock("lib", "2.0.0")
		time.Sleep(2 * time.Minute)
		if n := a.started("lib"); n != starts {
			h.Errorf("lib was restarted, which breaks the range of app")
		}
		s := h.service("lib")
		if s.Version != "1.0.0" || s.Update.InProgress || !strings.Contains(s.Update.Problem, "app needs lib >=1 <2, attic has 2.0.0 now") {
			h.Errorf("it does not say what waits: %+v", s)
		}
		o, err := topics.Decode[topics.Overview]("status", h.ask(topics.VerbStatus, `{"transaction":"t"}`).Data)
		if err != nil || !strings.Contains(strings.Join(o.Problems, "\n"), "the new version waits: app needs lib >=1 <2") {
			h.Errorf("no problem is shown: %q, %v", o.Problems, err)
		}
		a.leave()
	})
}

// A version that no domain can have which runs the service is not offered, and
// what prevents it is shown.
func TestUpdateOffersWhatCanBeHad(t *testing.T) {
	inHome(t, "[services.web]\nreplicas = 2\n", func(h *home) {
		a, b := h.agent("attic", nil, "web"), h.agent("barn", nil, "web")
		for _, one := range []*agent{a, b} {
			if err := one.join(); err != nil {
				h.Fatal(err)
			}
		}
		time.Sleep(20 * time.Second)
		a.stock("web", "2.0.0")
		time.Sleep(time.Minute)
		u := h.service("web").Update
		if a.running["web"].Version != "2.0.0" || u.InProgress || u.Latest != "1.0.0" || u.Installed != "1.0.0" || !strings.Contains(u.Waits, "2.0.0 cannot be reached: barn has only 1.0.0") {
			h.Errorf("%+v", u)
		}
		b.stock("web", "2.0.0")
		time.Sleep(time.Minute)
		if u := h.service("web").Update; u.Latest != "2.0.0" || u.Installed != "2.0.0" || u.Waits != "" {
			h.Errorf("with 2.0.0 on both: %+v", u)
		}
		a.leave()
		b.leave()
	})
}
