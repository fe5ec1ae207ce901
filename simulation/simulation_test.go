package simulation

import (
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// house3 is a small house with these machines.
func house3(machines ...string) options {
	return options{machines: machines, services: small, network: newWires}
}

func TestHomeComesUpInOrder(t *testing.T) {
	inHome(t, house3("lamp-1", "attic", "cellar"), func(h *home) {
		h.within(10*time.Second, "all is well", h.healthy)
		if n := h.starts("web") + h.starts("orchestrator") + h.starts("lamp"); n != 3 {
			h.Errorf("%d starts for three instances", n)
		}
	})
}

func TestLostMachinesServicesMoveWithinFiveSeconds(t *testing.T) {
	inHome(t, house3("lamp-1", "lamp-2", "attic"), func(h *home) {
		h.within(10*time.Second, "all is well", h.healthy)
		holder := h.machines[strings.Trim(h.where("web"), "[]")]
		was := h.starts("lamp")
		h.net.cut(holder, true, true)
		h.within(5*time.Second, "web runs elsewhere", func() bool {
			n := 0
			for _, m := range h.machines {
				if m != holder {
					n += m.running("web")
				}
			}
			return n == 1
		})
		h.net.restore(holder)
		h.within(30*time.Second, "one copy, all well", h.healthy)
		if holder.running("web") != 0 {
			h.Error("the copy that was in the endpoints was stopped for the one that came back")
		}
		if h.starts("lamp") != was {
			h.Error("the move of a dependency restarted what needs it")
		}
	})
}

// What an agent reports and what the hub observes of it is one event.
func TestDrainIsPublishedOnce(t *testing.T) {
	inHome(t, house3("lamp-1", "attic"), func(h *home) {
		h.within(10*time.Second, "all is well", h.healthy)
		for _, word := range []string{topics.On, topics.Off} {
			h.publish(h.tree.Domain(topics.DomainDrainSet, "attic"), word, false)
			time.Sleep(2 * time.Second)
		}
		for _, want := range []topics.EventType{topics.DomainDraining, topics.DomainUndrained} {
			if n := h.eventCount(want); n != 1 {
				h.Errorf("%s was told %d times", want, n)
			}
		}
	})
}

// Nothing moves and nothing restarts when a hub or an agent does.
func TestRestartsDisturbNothing(t *testing.T) {
	inHome(t, house3("lamp-1", "attic", "cellar"), func(h *home) {
		h.within(10*time.Second, "all is well", h.healthy)
		total := func() int {
			return h.starts("web") + h.starts("orchestrator") + h.starts("lamp") + h.starts("monitor")
		}
		was := total()
		for name, m := range h.machines {
			m.stop()
			if got := h.last(h.tree.Domain(topics.DomainAvailability, name)); got != topics.Offline {
				h.Errorf("%s stopped and is %q", name, got)
			}
			time.Sleep(1500 * time.Millisecond)
			m.power()
			h.within(5*time.Second, name+" is back", h.healthy)
			m.kill()
			time.Sleep(1500 * time.Millisecond)
			m.power()
			h.within(5*time.Second, name+" is back", h.healthy)
		}
		for range 3 {
			h.stop(stopped)
			time.Sleep(8 * time.Second)
			h.start()
			h.within(15*time.Second, "all is well after a restart of the hub", h.healthy)
		}
		if got := total(); got != was {
			h.Errorf("%d services were started again", got-was)
		}
	})
}

// After a power cut of everything the last services run although no hub comes.
func TestMachinesStartWithoutAHub(t *testing.T) {
	inHome(t, house3("lamp-1", "attic"), func(h *home) {
		h.within(10*time.Second, "all is well", h.healthy)
		h.stop(stopped)
		for _, m := range h.machines {
			m.cut()
		}
		time.Sleep(time.Minute)
		for _, m := range h.machines {
			m.power()
		}
		h.within(5*time.Second, "the last services run", func() bool {
			return h.where("web") != "[]" && h.where("orchestrator") != "[]" && h.where("lamp") != "[]"
		})
		time.Sleep(time.Hour)
		h.start()
		h.within(20*time.Second, "all is well with the hub", h.healthy)
		if h.starts("web") != 2 {
			h.Errorf("web was started %d times", h.starts("web"))
		}
	})
}

// What arrives late or twice does no harm: a will, an old start command.
func TestLateMessagesDoNoHarm(t *testing.T) {
	inHome(t, house3("lamp-1", "attic"), func(h *home) {
		h.within(10*time.Second, "all is well", h.healthy)
		was := h.starts("web") + h.starts("lamp")
		for name := range h.machines {
			set := h.tree.Domain(topics.DomainServicesSet, name)
			old, err := topics.Decode[topics.StartCommand](set, []byte(h.last(set)))
			if err != nil {
				h.Fatal(err)
			}
			h.publish(set, h.last(set), true) // the same once more
			old.Generation, old.Services = old.Generation-1, nil
			h.publish(set, string(topics.Encode(old)), false)
			old.Epoch, old.Generation = 0, 1000
			h.publish(set, string(topics.Encode(old)), false)
			h.publish(h.tree.Domain(topics.DomainAvailability, name), topics.Offline, true)
			h.within(time.Second, name+" says online again", func() bool {
				return h.last(h.tree.Domain(topics.DomainAvailability, name)) == topics.Online
			})
		}
		h.within(5*time.Second, "all is well", h.healthy)
		if h.starts("web")+h.starts("lamp") != was {
			h.Error("something was started again")
		}
	})
}
