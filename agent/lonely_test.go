package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

func byZeroconf(o *Options) { o.Config.Hub = "" }

// A domain that knows nothing finds the hub that comes up, within 5 s.
func TestFindsTheHub(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		h.agent(t.TempDir(), byZeroconf)
		time.Sleep(time.Minute + 1500*time.Millisecond)
		all := h.announces()
		if len(all) != 1 || all[0].Type != "_dominion-domain._tcp" || all[0].Text["name"] != "pi" || all[0].Text["id"] == "" || all[0].Text["version"] != "1.0.0" {
			t.Errorf("a lonely domain announces %+v", all)
		}
		u := h.hub(hubAddr, "d1", 5)
		h.finds(found("d1", "home", "192.0.2.1"))
		time.Sleep(5 * time.Second)
		if len(u.of(topics.DomainHeartbeat)) == 0 {
			t.Error("not joined 5 s after the hub came up")
		}
		if all := h.announces(); len(all) != 0 {
			t.Errorf("joined, it still announces %+v", all)
		}
	})
}

func TestSeveralHubs(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u, v := h.hub(hubAddr, "d1", 5), h.hub("192.0.2.2:1883", "d2", 5)
		h.finds(found("d1", "home", "192.0.2.1"), found("d2", "villa", "192.0.2.2"))
		h.agent(t.TempDir(), byZeroconf)
		time.Sleep(time.Minute)
		if len(u.of(topics.DomainHeartbeat))+len(v.of(topics.DomainHeartbeat)) != 0 {
			t.Error("it joined one of two")
		}
		if n := h.log.count("several dominions"); n != 1 {
			t.Errorf("said so %d times", n)
		}
		h.finds(found("d1", "home", "192.0.2.1"))
		time.Sleep(5 * time.Second)
		if len(u.of(topics.DomainHeartbeat)) == 0 {
			t.Error("it did not join the only one")
		}
	})
}

// A hub that restarts is followed at once, and the domain does not become lonely.
func TestFollowsARestart(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		a := h.agent(t.TempDir())
		time.Sleep(time.Minute)
		u.domain(topics.DomainServicesSet, a.command("d1", 5, 1, "web"))
		u.gone()
		time.Sleep(5 * time.Second)
		if len(h.announces()) != 0 {
			t.Error("lonely after 5 s, isolation is 10 s")
		}
		u = h.hub(hubAddr, "d1", 6)
		time.Sleep(1500 * time.Millisecond)
		if len(u.of(topics.DomainHeartbeat)) == 0 {
			t.Error("not joined 1.5 s after the hub is back")
		}
		if a.runner.starts() != "web" || a.runner.living() != 1 {
			t.Errorf("started %q, %d live", a.runner.starts(), a.runner.living())
		}
	})
}

// A hub that comes back elsewhere is followed; the services run meanwhile,
// and events of the meantime are published.
func TestLonelyAndFollowing(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		h.finds(found("d1", "home", "192.0.2.1"))
		a := h.agent(t.TempDir(), byZeroconf)
		time.Sleep(time.Minute)
		u.domain(topics.DomainServicesSet, a.command("d1", 5, 1, "web"))
		time.Sleep(5 * time.Second)
		u.gone() // its announcement goes on, from the caches of the network
		time.Sleep(13 * time.Second)
		if h.log.count("lonely") != 1 || len(h.announces()) != 1 {
			t.Errorf("after isolation it must be lonely, and say so: %+v", h.announces())
		}
		if a.runner.living() != 1 {
			t.Error("its service does not run on")
		}
		a.facts.mu.Lock()
		a.facts.problems = []string{"service x is left out"}
		a.facts.mu.Unlock()
		h.finds(found("d1", "home", "192.0.2.1 192.0.2.9"))
		time.Sleep(time.Minute)
		if n := h.log.count("cannot connect to"); n != 2 {
			t.Errorf("of two addresses where nobody is it said so %d times", n)
		}

		moved := h.hub("192.0.2.3:1883", "d1", 6)
		h.finds(found("d1", "home", "192.0.2.1 192.0.2.3"))
		time.Sleep(5 * time.Second)
		if len(moved.of(topics.DomainHeartbeat)) == 0 {
			t.Fatal("not joined at the new address")
		}
		if !moved.receivedEvent(topics.DomainProblem, "service x is left out") {
			t.Errorf("events %q", moved.events())
		}
		if len(h.announces()) != 0 || a.runner.starts() != "web" {
			t.Errorf("joined: announces %v, started %q", h.announces(), a.runner.starts())
		}

		// a short loss is no loneliness: the same address again, nothing reported twice
		moved.forget()
		h.finds()
		h.cut()
		time.Sleep(time.Second)
		if got := moved.of(topics.DomainAvailability); !slices.Equal(got, []string{"offline", "online"}) {
			t.Errorf("after a short loss availability %q", got)
		}
		if len(moved.events()) != 0 {
			t.Errorf("reported again: %q", moved.events())
		}
		a.stop()

		// it remembers the new address
		h.finds()
		moved.forget()
		h.agent(a.dir, byZeroconf)
		time.Sleep(time.Second)
		if len(moved.of(topics.DomainHeartbeat)) == 0 {
			t.Error("the address is not remembered")
		}
	})
}

// Where the broker answers but the hub behind it does not, the agent stays
// connected, and follows the hub to another broker.
func TestFollowsToAnotherBroker(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		h.finds(found("d1", "home", "192.0.2.1"))
		h.agent(t.TempDir(), byZeroconf)
		time.Sleep(time.Minute)
		u.send(u.tree.Hub(topics.HubAvailability), topics.Offline, true)
		time.Sleep(30 * time.Second)
		if len(h.announces()) != 1 || len(u.of(topics.DomainHeartbeat)) < 85 {
			t.Error("it must be lonely, and beat on")
		}
		u.send(u.tree.Hub(topics.HubAvailability), topics.Online, true)
		time.Sleep(time.Second)
		if len(h.announces()) != 0 {
			t.Error("the hub is back, it is not lonely")
		}
		u.send(u.tree.Hub(topics.HubAvailability), topics.Offline, true)
		time.Sleep(30 * time.Second)
		other := h.hub("192.0.2.4:1883", "d1", 6)
		h.finds(found("d1", "home", "192.0.2.4"))
		time.Sleep(6 * time.Second)
		if len(other.of(topics.DomainHeartbeat)) == 0 {
			t.Error("it did not follow")
		}
		if got := u.of(topics.DomainAvailability); got[len(got)-1] != topics.Offline {
			t.Errorf("at the former broker it left %q", got)
		}
	})
}

// Neither to an address that zeroconf named long ago.
func TestNoPasswordInTheClearToTheLastHub(t *testing.T) {
	password := aPassword(t)
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		dir := t.TempDir()
		h.finds(found("d1", "home", "192.0.2.1"))
		a := h.agent(dir, byZeroconf)
		time.Sleep(5 * time.Second)
		a.stop()
		u.forget()
		h.agent(dir, byZeroconf, func(o *Options) { o.Config.User, o.Config.PasswordFile = "pi", password })
		time.Sleep(time.Minute)
		if len(u.of(topics.DomainHeartbeat)) != 0 {
			t.Error("it connected")
		}
	})
}

// aPassword returns a file with one.
func aPassword(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestNoPasswordInTheClear(t *testing.T) {
	password := aPassword(t)
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		h.finds(found("d1", "home", "192.0.2.1"))
		h.agent(t.TempDir(), byZeroconf, func(o *Options) { o.Config.User, o.Config.PasswordFile = "pi", password })
		time.Sleep(time.Minute)
		if len(u.of(topics.DomainHeartbeat)) != 0 || len(h.lines) != 0 {
			t.Error("it connected")
		}
		if h.log.count("a password is not sent there") != 1 {
			t.Error("the log does not say why, once")
		}
	})
}

// The address that was remembered is another home's now.
func TestAnotherDominionAtTheLastAddress(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		dir := t.TempDir()
		h.finds(found("d1", "home", "192.0.2.1"))
		a := h.agent(dir, byZeroconf)
		time.Sleep(5 * time.Second)
		a.stop()
		u.gone()
		h.finds()
		stranger := h.hub(hubAddr, "d2", 9)
		stranger.answer = func(a topics.HubRequest) (topics.Reply, bool) {
			return topics.Accept(a.Transaction, topics.Grant{Dominion: "d2", Name: "villa", Epoch: 9}), true
		}
		h.agent(dir, byZeroconf)
		time.Sleep(30 * time.Second)
		if len(stranger.of(topics.DomainHeartbeat)) != 0 || h.log.count(`not \"home\": not joined`) != 1 {
			t.Error("it must not join a stranger, and say so once")
		}
	})
}

// A hub of the name of the one joined before, and of its address, is not obeyed
// while it is another dominion, be it found or named by the configuration: it is
// reported, and joined where the configuration names its id. Its epochs begin
// again.
func TestAStrangerOfTheSameName(t *testing.T) {
	for name, how := range map[string]func(*Options){
		"named":               func(*Options) {},
		"named with its name": func(o *Options) { o.Config.Dominion = "home" },
		"found":               byZeroconf,
	} {
		t.Run(name, func(t *testing.T) {
			inTestNetwork(t, func(h *testNetwork) {
				u := h.hub(hubAddr, "d1", 500)
				h.finds(found("d1", "home", "192.0.2.1"))
				a := h.agent(t.TempDir(), how)
				time.Sleep(5 * time.Second)
				u.domain(topics.DomainServicesSet, a.command("d1", 500, 1, "web"))
				u.gone()
				stranger := h.hub(hubAddr, "d2", 3)
				h.finds(found("d2", "home", "192.0.2.1"))
				time.Sleep(time.Minute)
				stranger.domain(topics.DomainServicesSet, a.command("d2", 3, 1, "lamp"))
				if len(stranger.of(topics.DomainHeartbeat)) != 0 || a.runner.living() != 1 || a.runner.starts() != "web" {
					t.Fatalf("it joined a stranger, started %q", a.runner.starts())
				}
				if n := h.log.count(`another dominion has the name \"home\", id \"d2\"`); n == 0 || n > 2 {
					t.Errorf("logged %d times", n)
				}
				stranger.gone()
				u = h.hub(hubAddr, "d1", 501)
				h.finds(found("d1", "home", "192.0.2.1"))
				time.Sleep(10 * time.Second)
				if !u.receivedEvent(topics.DomainProblem, `id "d2"`) {
					t.Errorf("the hub that it belongs to has no event: %q", u.events())
				}
				a.stop()
				u.gone()

				again := h.hub(hubAddr, "d2", 3)
				h.finds(found("d2", "home", "192.0.2.1"))
				a = h.agent(a.dir, how, func(o *Options) { o.Config.Dominion = "d2" })
				time.Sleep(5 * time.Second)
				if b := last[topics.Heartbeat](again, topics.DomainHeartbeat); b.Epoch != 0 || b.Generation != 0 {
					t.Errorf("to another dominion it tells epoch %d", b.Epoch)
				}
				again.domain(topics.DomainServicesSet, a.command("d1", 502, 1))
				if a.runner.living() != 1 {
					t.Error("the old dominion is still obeyed")
				}
				again.domain(topics.DomainServicesSet, a.command("d2", 3, 1, "web", "lamp"))
				if got := a.runner.living(); got != 2 {
					t.Errorf("%d live", got)
				}
			})
		})
	}
}

// A hub on loopback is found by the agent of its machine, with and without
// zeroconf, but never shown a password.
func TestLoopback(t *testing.T) {
	password := aPassword(t)
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub("127.0.0.1:1883", "d1", 5)
		guarded := h.agent(t.TempDir(), byZeroconf, func(o *Options) { o.Config.User, o.Config.PasswordFile = "pi", password })
		time.Sleep(10 * time.Second)
		if len(u.of(topics.DomainHeartbeat)) != 0 {
			t.Error("with a password it went to a hub that no file names")
		}
		guarded.stop()
		off := h.agent(t.TempDir(), byZeroconf, func(o *Options) { o.Config.Zeroconf.Enabled = false })
		time.Sleep(5 * time.Second)
		if len(u.of(topics.DomainHeartbeat)) == 0 {
			t.Error("not joined with zeroconf off")
		}
		u.gone()
		time.Sleep(time.Minute)
		if all := h.announces(); len(all) != 0 {
			t.Errorf("with zeroconf off it announces %+v", all)
		}
		off.stop()
		u = h.hub("127.0.0.1:1883", "d1", 6)
		h.agent(t.TempDir(), byZeroconf)
		time.Sleep(5 * time.Second)
		if len(u.of(topics.DomainHeartbeat)) == 0 {
			t.Error("not joined")
		}
		u.gone()
		time.Sleep(3 * time.Second)
		u = h.hub("127.0.0.1:1883", "d1", 7)
		time.Sleep(3 * time.Second)
		if len(u.of(topics.DomainHeartbeat)) == 0 {
			t.Error("a restart of the hub was not followed")
		}
	})
}

func TestAnotherProtocolIsNotObeyed(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		u.send(u.tree.Hub(topics.HubStatus), topics.Hub{ID: "d1", Name: "home", Protocol: "2.0", Epoch: 5}, true)
		a := h.agent(t.TempDir())
		time.Sleep(time.Second)
		u.domain(topics.DomainServicesSet, a.command("d1", 5, 1, "web"))
		if a.runner.starts() != "" || !u.receivedEvent(topics.CommandRefused, "protocol") || !u.receivedEvent(topics.DomainProblem, "protocol") {
			t.Errorf("started %q, events %q", a.runner.starts(), u.events())
		}
	})
}

func TestTimingOfTheDominion(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		a := h.agent(t.TempDir())
		time.Sleep(time.Second)
		c := a.command("d1", 5, 1)
		c.Timing.Heartbeat, c.Timing.Isolation = topics.Seconds(200*time.Millisecond), topics.Seconds(3*time.Second)
		u.domain(topics.DomainServicesSet, c)
		u.forget()
		time.Sleep(10 * time.Second)
		if n := len(u.of(topics.DomainHeartbeat)); n < 49 || n > 51 {
			t.Errorf("%d heartbeats in 10 s of 200 ms", n)
		}
		u.gone()
		time.Sleep(6 * time.Second)
		if h.log.count("lonely") != 1 {
			t.Error("not lonely after an isolation of 3 s")
		}
	})
}

func TestLateWill(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		h.agent(t.TempDir())
		time.Sleep(time.Minute)
		u.send(u.tree.Domain(topics.DomainAvailability, "pi"), topics.Offline, true)
		if got := u.of(topics.DomainAvailability); !slices.Equal(got, []string{"online", "offline", "online"}) {
			t.Errorf("availability %q", got)
		}
		if strings.Contains(h.log.String(), "level=WARN") {
			t.Error("it is nothing to warn of")
		}
	})
}
