package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// joins is the promise: so soon after the hub's start a waiting domain is in.
const joins = 5 * time.Second

// A domain that knows nothing but its name and traits finds the hub, whoever
// of the two comes, goes or moves first.
func TestDomainJoinsByZeroconf(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		kitchen := home.Domain("kitchen", "npbar")
		home.Configure("")

		agent := kitchen.Start()
		started := time.Now()
		hub := home.StartHub()
		o := home.Observe()
		o.Until("kitchen is online, offers npbar and beats", func(v View) bool {
			return v.Online("kitchen") && slices.Equal(v.Domain("kitchen").Traits, []string{"npbar"}) && v.Heartbeat("kitchen").Session != ""
		})
		var events []topics.Event
		home.must(oneDocument(home.Ctl("events", "--json").Stdout, &events))
		i := slices.IndexFunc(events, func(e topics.Event) bool { return e.Type == topics.DomainJoined && e.Domain == "kitchen" })
		if i < 0 {
			t.Fatalf("no event reports that kitchen joined: %+v", events)
		}
		// Before a domain chooses an open dominion, it looks for others for 5 s.
		if took := events[i].At.Sub(started); took > joins+5*time.Second {
			t.Errorf("kitchen joined %v after the hub's start, want at most %v", took, joins+5*time.Second)
		}
		back := func(o *Observer, since Mark) {
			t.Helper()
			awaitLiveHeartbeat(o, since, "kitchen")
			o.Until("hub and kitchen are online", func(v View) bool { return v.Ready() && v.Online("kitchen") })
		}

		t.Log("the agent restarts")
		mark := o.Now()
		agent.Stop()
		o.AwaitTopic(mark, "dominion/domain/kitchen/availability", "offline")
		mark = o.Now()
		agent = kitchen.Start()
		awaitRejoin(o, mark, "kitchen")
		o.AwaitTopic(mark, "dominion/domain/kitchen/availability", "online")

		t.Log("the hub restarts")
		hub.Stop()
		mark = o.Now()
		hub = home.StartHub()
		back(o, mark)

		t.Log("both restart, the agent first")
		hub.Stop()
		agent.Stop()
		mark = o.Now()
		agent = kitchen.Start()
		hub = home.StartHub()
		back(o, mark)

		t.Log("both restart, the hub first")
		agent.Stop()
		hub.Stop()
		mark = o.Now()
		hub = home.StartHub()
		kitchen.Start()
		back(o, mark)

		t.Log("the hub comes back on another address")
		hub.Stop()
		home.Hub.SetAddress(99)
		home.StartHub()
		back(home.Observe(), Mark{})
	})
}

// awaitLiveHeartbeat waits for a heartbeat that the agent of a domain made after
// a mark.
func awaitLiveHeartbeat(o *Observer, since Mark, domain string) Message {
	o.t.Helper()
	return o.Await(domain+" beats", since, func(m Message) bool {
		return m.Topic == "dominion/domain/"+domain+"/heartbeat" && !m.Retain && since.isBefore(decode[topics.Heartbeat](o.t, m).At)
	})
}

// awaitRejoin waits for the first heartbeat of an agent that was started right
// after a mark, and checks that it was soon.
func awaitRejoin(o *Observer, started Mark, domain string) {
	o.t.Helper()
	b := decode[topics.Heartbeat](o.t, awaitLiveHeartbeat(o, started, domain))
	if took := b.At.Sub(started.at); took > joins {
		o.t.Errorf("%s beats %v after its agent was started, want at most %v", domain, took, joins)
	}
}

// A DHCP server gives the running hub another address; nobody restarts.
func TestRunningHubChangesItsAddress(t *testing.T) {
	home := onEmbedded(t)
	kitchen := home.Domain("kitchen", "compute")
	kitchen.Install("web")
	home.Configure(service("web", `priority = "required"`))
	home.Up(kitchen)
	before := home.Journal.AwaitRunning(t, "web@kitchen")
	starts := home.Journal.Starts(t)

	home.Hub.SetAddress(98)
	o := home.Observe()
	awaitLiveHeartbeat(o, Mark{}, "kitchen")
	o.Until("kitchen is online", func(v View) bool { return v.Online("kitchen") })
	home.Journal.Undisturbed(t, "after the hub's address changed", before, starts)
}

// Where multicast does not get through, an address in the config must do.
func TestDomainJoinsByAddress(t *testing.T) {
	home := onEmbedded(t)
	kitchen := home.Domain("kitchen")
	kitchen.Configure(nil, fmt.Sprintf("hub = \"%s:1883\"\n", home.Hub.Address()))
	home.Configure("[zeroconf]\nenabled = false\n")
	_, _, o := home.Up(kitchen)
	awaitLiveHeartbeat(o, Mark{}, "kitchen")

	t.Log("without it, nobody is found")
	attic := home.Domain("attic")
	agent := attic.Start()
	agent.AwaitLog("no hub")
	if o.Latest().Online("attic") {
		t.Error("attic joined a hub that does not announce itself")
	}
}

// With two dominions on one network a domain joins the one that it names,
// and with none named waits and says so. The hub shows it as lonely.
func TestTwoDominions(t *testing.T) {
	home := onEmbedded(t)
	home.Configure("")
	home.StartHub()
	barn := home.Host("barn")
	barn.must(writeFile(filepath.Join(barn.Dir, "dominion.toml"), fmt.Sprintf(
		"name = \"barn\"\ndata_dir = %q\n[broker]\nlisten = \":1883\"\nallow_anonymous = true\n", filepath.Join(barn.Dir, "data"))))
	barn.Start(programs.dominion, "-config", filepath.Join(barn.Dir, "dominion.toml"))
	o := home.Observe()

	stable := home.Domain("stable")
	stable.Configure(nil, "dominion = \"home\"\n")
	stable.Start()
	o.Until("stable joins the dominion that it names", func(v View) bool { return v.Online("stable") })

	undecided := home.Domain("undecided")
	agent := undecided.Start()
	agent.AwaitLog("barn", "home")
	o.Until("the hub counts one lonely domain", func(v View) bool {
		hub, _ := look[topics.Hub](v, "dominion/hub/status")
		return hub.Domains.Lonely == 1
	})
	if o.Latest().Online("undecided") {
		t.Error("a domain joined one of two dominions at random")
	}
}

// Every Pi is called raspberrypi once.
func TestTwoMachinesOfOneName(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		first := home.Domain("raspberrypi", "compute")
		first.Install("web")
		home.Configure(service("web", `priority = "required"`))
		_, agents, o := home.Up(first)
		before := home.Journal.AwaitRunning(t, "web@raspberrypi")
		starts := home.Journal.Starts(t)
		awaitLiveHeartbeat(o, Mark{}, "raspberrypi")
		id := o.Latest().Heartbeat("raspberrypi").ID
		session := o.Latest().Heartbeat("raspberrypi").Session

		mark := o.Now()
		second := home.Domain("raspberrypi", "compute")
		other := second.Start()
		// The name belongs to the key of the first.
		refused := o.AwaitEvent(mark, "dominion/hub/event", topics.AdoptionRefused, "raspberrypi", "")
		if !strings.Contains(refused.Message, "dominionctl adopt raspberrypi CODE --replace") || !strings.Contains(refused.Message, "another name") {
			t.Errorf("the event does not say what to do: %q", refused.Message)
		}
		other.AwaitLog("refuses this domain", "belongs to another key")
		if r := home.Ctl("domains"); r.Code != 0 || !strings.Contains(r.Stdout, "raspberrypi") {
			t.Errorf("dominionctl domains: code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
		}

		t.Log("it tries again and again; the first never notices")
		for range 5 {
			awaitLiveHeartbeat(o, o.Now(), "raspberrypi")
		}
		for _, m := range o.Since(mark) {
			switch m.Topic {
			case "dominion/domain/raspberrypi/availability":
				t.Errorf("the availability of the first was touched: %v", m)
			case "dominion/domain/raspberrypi/heartbeat":
				if b := decode[topics.Heartbeat](t, m); b.Session != session {
					t.Errorf("a heartbeat of another session: %v", m)
				}
			}
		}
		home.Journal.Undisturbed(t, "with a second machine of the name", before, starts)

		t.Log("the first goes and is forgotten, the second comes")
		agents[0].Stop()
		o.Until("raspberrypi is offline", func(v View) bool { return !v.Online("raspberrypi") })
		if r := home.Ctl("forget", "raspberrypi"); r.Code != 0 {
			t.Fatalf("forget: %s%s", r.Stdout, r.Stderr)
		}
		o.Await("the second machine beats", mark, func(m Message) bool {
			return m.Topic == "dominion/domain/raspberrypi/heartbeat" && len(m.Payload) > 0 && decode[topics.Heartbeat](t, m).ID != id
		})
	})
}
