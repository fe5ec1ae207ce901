package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/agent/link"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics"
)

// What a domain accepts is what its configuration says; without that, people have decided it
// where a token adopted the domain, and nobody has where it joined before it had a key.
func TestAccept(t *testing.T) {
	for _, c := range []struct {
		what           string
		upgrade        bool
		configured     string // "": it is not
		before, after  string
		opensNoSecrets bool
	}{
		{what: "by token", before: "environment", after: "deploy"},
		{what: "by upgrade", upgrade: true, before: "environment", after: "environment", opensNoSecrets: true},
		{what: "by upgrade, configured", upgrade: true, configured: "deploy", before: "deploy", after: "deploy"},
		{what: "local by token", configured: "local", before: "local", after: "local", opensNoSecrets: true},
		{what: "upgrade by token", configured: "upgrade", before: "upgrade", after: "upgrade"},
	} {
		t.Run(c.what, func(t *testing.T) {
			o := membershipOptions{
				Config: config.Domain{Name: "pi", DataDir: t.TempDir(), Accept: c.configured},
				ID:     "3f2b8c1e-0000-4000-8000-000000000001", Session: "s", Log: discard(), Address: func() string { return "" },
				Remembered: link.Dominion{ID: "d1", Name: "home"},
			}
			if c.configured == "" {
				o.Config.Accept, o.Config.AcceptIsDefault = config.AcceptDeploy, true
			}
			m := mustOpen(t, o)
			if got := m.Accept(); got != c.before {
				t.Errorf("before it accepts %q", got)
			}
			hub := newAdopter(t, "d1", 24*time.Hour)
			if c.upgrade {
				upgradeBy(t, m, hub, "mqtt://hub")
			} else {
				adoptBy(t, m, hub, "mqtt://hub")
			}
			again := mustOpen(t, o) // after another start
			if m.Accept() != c.after || again.Accept() != c.after {
				t.Errorf("it accepts %q, after a start %q", m.Accept(), again.Accept())
			}
			_, err := again.OpenSecret("web", "key", "YWdl")
			if refused := err != nil && strings.Contains(err.Error(), `accept = "deploy"`); refused != c.opensNoSecrets {
				t.Errorf("a secret: %v", err)
			}
		})
	}
}

// upgradeBy has the hub of the dominion that a domain joined before it had a key take it over.
func upgradeBy(t testing.TB, m *membership, u *adopter, url string) {
	t.Helper()
	if err := m.Apply(u.dominion()); err != nil {
		t.Fatal(err)
	}
	carry(t, m, u, url)
	if !m.showAt.IsZero() {
		t.Error("it is to show a code")
	}
	m.End()
}

// A domain that is taken over asks as a domain of that dominion, not as a stranger, and belongs to
// it where it has joined it.
func TestUpgradeOfARememberedDominion(t *testing.T) {
	u := newAdopter(t, "d1", 24*time.Hour)
	m := mustOpen(t, membershipOptions{
		Config: config.Domain{Name: "pi", DataDir: t.TempDir()}, ID: "3f2b8c1e-0000-4000-8000-000000000001", Session: "s",
		Log: discard(), Address: func() string { return "" }, Remembered: link.Dominion{ID: "d1", Name: "home"},
	})
	upgradeBy(t, m, u, "mqtt://hub")
	if len(u.questions) != 1 || u.questions[0].Upgrade != "d1" || u.questions[0].Stranger != "" {
		t.Errorf("it asked %+v", u.questions)
	}
	home, adopted := m.Home()
	if !adopted || home.ID != "d1" || home.URL != "mqtt://hub" || home.Encrypted {
		t.Errorf("it belongs to %+v", home)
	}
}

// An agent that joined its dominion before it had a key goes on, and asks the hub that grants its
// join to be taken over, without a code. One that the hub refuses shows its code at once.
func TestUpgradedAgent(t *testing.T) {
	for _, refuses := range []bool{false, true} {
		inTestNetwork(t, func(h *testNetwork) {
			old := h.hub(hubAddr, "d1", 4)
			a := h.agent(t.TempDir()) // of before there were keys
			time.Sleep(2 * time.Second)
			if len(old.of(topics.DomainHeartbeat)) == 0 {
				t.Fatal("not joined")
			}
			a.stop()
			old.gone()

			u := h.adopting(hubAddr, "d1", 0)
			u.state(func(u *adopter) {
				if u.upgrades = true; refuses {
					u.upgrades, u.requires = false, true
				}
			})
			a = h.agent(a.dir, withKey)
			time.Sleep(20 * time.Second)
			questions := 0
			u.state(func(u *adopter) {
				for _, q := range u.questions {
					if questions++; (q.Upgrade == "d1") == refuses || (q.Stranger == "home") != refuses {
						t.Errorf("it asks %+v", q)
					}
				}
			})
			shown := h.log.count("dominionctl adopt") > 0
			if questions == 0 || a.trust().Adopted() == refuses || shown != refuses {
				t.Errorf("refused %v: %d questions, adopted %v, a code was shown: %v", refuses, questions, a.trust().Adopted(), shown)
			}
			if !refuses && (a.trust().Trust.Word == "" || u.adopts.joins == 0) {
				t.Error("it has not joined again, with its word")
			}
		})
	}
}
