package homeassistant

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// deletes has a person delete a device in Home Assistant, which the hub does
// not hear: it is away, or cut off.
func (h *fixture) deletes(name string) {
	topic := options.ServiceTopic(name)
	delete(h.broker, topic)
	maps.DeleteFunc(h.registry, func(id string, _ bool) bool { return strings.HasPrefix(id, topic+" ") })
	maps.DeleteFunc(h.discovered, func(id, _ string) bool { return strings.HasPrefix(id, topic+" ") })
}

// What the broker lacks when the hub is back was deleted by a person, or lost
// by the broker. Only the first stays away.
func TestWhatIsMissingAtTheBroker(t *testing.T) {
	lamp := options.ServiceTopic("lamp")
	everything := "service_lamp_state_sensor service_web_state_sensor"
	deleted := "service_web_state_sensor"
	for _, c := range []struct {
		name   string
		away   func(h *fixture)
		expect string
	}{
		{"nothing happened", func(*fixture) {}, everything},
		{"a person deleted one", func(h *fixture) { h.deletes("lamp") }, deleted},
		{"a person deleted all", func(h *fixture) { h.deletes("lamp"); h.deletes("web") }, ""},
		{"the broker forgot all", func(h *fixture) { clear(h.broker) }, everything},
		{"the broker forgot the last", func(h *fixture) {
			delete(h.broker, lamp)
			h.broker[marks] = []byte(`{"changes":1}`)
		}, everything},
		{"the broker forgot all but one", func(h *fixture) {
			delete(h.broker, lamp)
			delete(h.broker, marks)
		}, everything},
		{"it was restored with a count that no hub gave", func(h *fixture) {
			delete(h.broker, lamp)
			h.broker[marks] = []byte(`{"changes":1000}`)
		}, everything},
		{"somebody wrote a count that is the last there can be", func(h *fixture) {
			delete(h.broker, lamp)
			h.broker[marks] = []byte(`{"changes":18446744073709551615}`)
		}, everything},
		{"the broker was never seen to take it", func(h *fixture) {
			delete(h.broker, lamp)
			record := h.snapshot.Devices[lamp]
			record.Retained = false
			h.snapshot.Devices[lamp] = record
		}, everything},
		{"the broker has it not written to its disk", func(h *fixture) {
			delete(h.broker, lamp)
			h.retains = func(topic string) bool { return topic != lamp }
		}, everything},
		{"the hub's memory is from before that was known", func(h *fixture) {
			delete(h.broker, lamp)
			h.snapshot.Devices[lamp] = Record{Components: map[string]string{"state": "sensor"}}
		}, everything},
	} {
		for _, when := range []string{"at once", "later", "at once, the broker is not ours", "later, the broker is not ours", "at once, nothing is replayed to wildcards"} {
			t.Run(c.name+", wanted "+when, func(t *testing.T) {
				h := newFixture(t)
				h.blind = strings.Contains(when, "wildcards")
				if h.foreign = h.blind || strings.Contains(when, "not ours"); h.foreign {
					h.startHub()
				}
				h.startHomeAssistant()
				h.want("web", "1", "state")
				h.pass(10 * time.Second) // so that there are two counts
				h.want("lamp", "1", "state")
				h.pass(time.Minute)
				if h.mark() != 2 || len(h.snapshot.Devices) != 2 {
					t.Fatalf("%d changes of %v", h.mark(), h.snapshot)
				}
				c.away(h)
				h.startHub()
				if strings.HasPrefix(when, "later") {
					h.pass(5 * time.Second)
				}
				wantAll := func() {
					h.want("web", "1", "state")
					h.want("lamp", "1", "state")
					h.announcements.Complete(nil, h.now)
				}
				wantAll()
				h.pass(time.Minute)
				h.expect(c.expect)
				if n := len(h.announcements.DeletedAway()); n != len(strings.Fields(everything))-len(strings.Fields(c.expect)) {
					t.Errorf("%d were found to be deleted", n)
				}
				for range 2 { // and over restarts
					h.startHub()
					wantAll()
					h.pass(time.Minute)
					h.startHomeAssistant()
					h.pass(time.Minute)
					h.expect(c.expect)
				}
				h.want("web", "2", "state")
				h.want("lamp", "2", "state")
				h.pass(time.Minute)
				h.expect(everything)
			})
		}
	}
}

// A broker that answers nothing about what it keeps says nothing of what is missing:
// nothing is taken for deleted, and all is published again.
func TestABrokerThatDoesNotReplay(t *testing.T) {
	h := newFixture(t)
	h.foreign, h.blind, h.mute = true, true, true
	h.startHub()
	h.startHomeAssistant()
	h.want("web", "1", "state")
	h.want("lamp", "1", "state")
	h.pass(time.Minute)
	for range 3 {
		before := len(h.log)
		h.startHub()
		h.want("web", "1", "state")
		h.want("lamp", "1", "state")
		h.announcements.Complete(nil, h.now)
		h.pass(time.Minute)
		h.expect("service_lamp_state_sensor service_web_state_sensor")
		if found := h.announcements.DeletedAway(); len(found) > 0 {
			t.Errorf("taken for deleted: %q", found)
		}
		if len(h.log) != before+2 {
			t.Errorf("it was sent %d configs, want 2", len(h.log)-before)
		}
	}
}

// A line that broke is as good as a hub that was away.
func TestDeletedWhileTheHubWasCutOff(t *testing.T) {
	h := newFixture(t)
	h.startHomeAssistant()
	h.want("web", "1", "state")
	h.want("lamp", "1", "state")
	h.pass(time.Minute)
	h.announcements.Disconnected()
	h.deletes("lamp")
	h.connect()
	h.pass(time.Minute)
	h.expect("service_web_state_sensor")
	h.announcements.Disconnected()
	clear(h.broker)
	h.connect()
	h.pass(time.Minute)
	h.expect("service_web_state_sensor")
}

// It has another definition when the hub is back, and is so another thing.
func TestDeletedAndDefinedAgainWhileTheHubWasAway(t *testing.T) {
	h := newFixture(t)
	h.startHomeAssistant()
	h.want("web", "1", "state")
	h.want("lamp", "1", "state")
	h.pass(time.Minute)
	for _, wanted := range []time.Duration{0, 5 * time.Second} {
		definition := fmt.Sprint("after ", wanted)
		h.deletes("lamp")
		h.startHub()
		h.pass(wanted)
		h.want("web", "1", "state")
		h.want("lamp", definition, "state")
		h.announcements.Complete(nil, h.now)
		h.pass(time.Minute)
		h.expect("service_lamp_state_sensor service_web_state_sensor")
	}
}

// A broker that lost a deletion gives Home Assistant the device back, which is
// taken away again. Where somebody put it there since, it stays.
func TestABrokerThatLostADeletion(t *testing.T) {
	for name, lost := range map[string]bool{"lost": true, "put there again": false} {
		t.Run(name, func(t *testing.T) {
			h := newFixture(t)
			h.startHomeAssistant()
			h.want("web", "1", "state")
			h.want("lamp", "1", "state")
			h.pass(time.Minute)
			before := maps.Clone(h.broker)
			h.deletes("lamp")
			h.announcements.Emptied(options.ServiceTopic("lamp"))
			h.pass(time.Minute)
			after := h.broker[marks]
			h.broker = before
			expect := "service_web_state_sensor"
			if !lost {
				h.broker[marks] = after
				expect = "service_lamp_state_sensor service_web_state_sensor"
			}
			h.startHomeAssistant()
			h.startHub()
			h.want("web", "1", "state")
			h.want("lamp", "1", "state")
			h.announcements.Complete(nil, h.now)
			h.pass(time.Minute)
			h.expect(expect)
		})
	}
}

// A broker that is slow to tell what it keeps: what came after it was missed is
// not deleted.
func TestABrokerThatIsLate(t *testing.T) {
	h := newFixture(t)
	h.want("web", "1", "state")
	h.want("lamp", "1", "state")
	h.pass(time.Minute)
	topic := options.ServiceTopic("lamp")
	late := h.broker[topic]
	delete(h.broker, topic)
	h.startHub()
	h.want("web", "1", "state")
	h.want("lamp", "1", "state")
	h.pass(3 * time.Second)
	h.announcements.Retained(topic, late, h.now)
	h.pass(time.Minute)
	if h.broker[topic] = late; h.snapshot.Devices[topic].Deleted != "" {
		t.Error("taken for deleted")
	}
	h.startHub()
	h.want("lamp", "1", "state")
	h.startHomeAssistant()
	h.pass(time.Minute)
	if !strings.Contains(h.entities(), "lamp state") {
		t.Error(h.entities())
	}
}

// A config that we published just before the deletion was received arrives after
// it, and Home Assistant has the device again.
func TestADeletionThatCrossesAConfig(t *testing.T) {
	h := newFixture(t)
	topic := options.ServiceTopic("web")
	h.want("web", "1", "state")
	h.startHomeAssistant()
	h.pass(time.Minute)
	h.deletes("web")
	crossed := some("web", "state", "new").Payload
	h.broker[topic] = crossed
	h.receive(topic, crossed)
	h.announcements.Emptied(topic)
	h.announcements.Filled(topic, h.now)
	h.pass(time.Minute)
	h.expect("")
	if h.broker[topic] != nil {
		t.Error("it is still retained")
	}
}

// Deleted by a person while the hub does not know yet whether the thing is still
// there: just after its start, or of a domain that has been away since.
func TestDeletedBeforeItIsWanted(t *testing.T) {
	for _, settled := range []bool{false, true} {
		h := newFixture(t)
		h.want("web", "1", "state")
		h.pass(time.Minute)
		h.startHomeAssistant()
		h.startHub()
		h.pass(2 * time.Second)
		topic := options.ServiceTopic("web")
		if settled {
			h.announcements.Complete(map[string]bool{topic: true}, h.now)
			h.pass(time.Minute)
		}
		h.deletes("web")
		if !h.announcements.Emptied(topic) {
			t.Error("not taken for a deletion")
		}
		h.want("web", "1", "state")
		h.pass(time.Minute)
		h.expect("")
	}
}

// What a person deletes in the moment in which it goes by itself is there again
// with its service.
func TestDeletedWhileItGoes(t *testing.T) {
	h := newFixture(t)
	h.startHomeAssistant()
	h.want("web", "1", "state")
	h.pass(time.Second) // its removal has to wait
	topic := options.ServiceTopic("web")
	h.announcements.Remove(topic, h.now)
	h.deletes("web")
	if h.announcements.Emptied(topic) {
		t.Error("taken for a deletion")
	}
	h.pass(time.Minute)
	h.complaints = nil // it receives the removal of what it has not
	h.want("web", "1", "state")
	h.pass(time.Minute)
	h.expect("service_web_state_sensor")
}

// Another prefix in the configuration: what was announced below the former one goes,
// whether or not the broker tells the hub of it, and whether Home Assistant goes on to
// listen there or is away. It says nothing about deletions, and what is announced
// below the new prefix has nothing to do with it.
func TestAnotherPrefix(t *testing.T) {
	for _, replays := range []bool{true, false} {
		for _, awake := range []bool{true, false} {
			t.Run(fmt.Sprintf("replays %v, Home Assistant listens %v", replays, awake), func(t *testing.T) {
				h := newFixture(t)
				h.want("web", "1", "state", "restart:button")
				h.startHomeAssistant()
				h.pass(time.Minute)
				if !awake {
					h.stopHomeAssistant()
				}
				was := options.ServiceTopic("web")
				moved := options
				moved.DiscoveryPrefix = "elsewhere"
				moved.FormerPrefixes = moved.Former(h.snapshot)
				if got := moved.FormerPrefixes; !slices.Equal(got, []string{"homeassistant"}) {
					t.Fatalf("former prefixes: %q", got)
				}
				if got := moved.Filters(); !slices.Equal(got, []string{"elsewhere/device/+/config", "homeassistant/device/+/config"}) {
					t.Error(got)
				}
				if got := moved.BirthTopics(); !slices.Equal(got, []string{"homeassistant/status", "elsewhere/status"}) {
					t.Error(got)
				}
				h.now = h.now.Add(time.Minute)
				h.announcements = NewRegistry(moved, nil, h.snapshot)
				if replays {
					h.announcements.Retained(was, h.broker[was], h.now)
				}
				h.announcements.RetainedCount(h.mark(), h.now)
				h.announcements.Connected(h.now)
				there := false
				h.announcements.Announce(moved.ServiceTopic("web"), "1", func() Config {
					there = true
					c := some("web", "state")
					c.Topic = moved.ServiceTopic("web")
					return c
				}, h.now)
				h.pass(2 * time.Second)
				h.announcements.Complete(nil, h.now)
				h.pass(10 * time.Second)
				if found := h.announcements.DeletedAway(); len(found) > 0 {
					t.Errorf("taken for deleted: %q", found)
				}
				if h.broker[was] != nil {
					t.Error("it is still retained below the former prefix")
				}
				if !there || h.broker[moved.ServiceTopic("web")] == nil {
					t.Error("it is not announced below the new one")
				}
				delete(h.broker, moved.ServiceTopic("web")) // Home Assistant listens below the former one
				if awake {
					h.discovered = map[string]string{}
				}
				for id := range h.registry {
					if of(id) != was {
						delete(h.registry, id)
					}
				}
				h.startHomeAssistant()
				h.pass(time.Minute)
				for id := range h.registry {
					if of(id) == was {
						t.Errorf("left in Home Assistant's registry: %s", id)
					}
				}
				if got := moved.Former(h.snapshot); len(got) > 0 {
					t.Errorf("still former: %q", got)
				}
			})
		}
	}
}

// Whatever a person, the hub and a broker that goes back to what it had some
// time ago do: what was deleted is away, and all else is there.
func TestWhatIsDeletedIsAwayWhateverHappens(t *testing.T) {
	names := []string{"a", "b", "c"}
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 2))
		h := newFixture(t)
		if h.foreign = seed%2 == 1; h.foreign {
			h.startHub()
		}
		h.startHomeAssistant()
		deleted := map[string]int{} // the definition that it had
		definition := map[string]int{}
		wantAll := func() {
			for _, name := range names {
				h.want(name, fmt.Sprint(definition[name]), "state")
			}
			h.announcements.Complete(nil, h.now)
		}
		wantAll()
		saved := maps.Clone(h.broker)
		var story []string
		say := func(format string, args ...any) { story = append(story, fmt.Sprintf(format, args...)) }
		for range 12 {
			h.pass([]time.Duration{0, 3 * time.Second, 20 * time.Second}[r.IntN(3)])
			name := names[r.IntN(3)]
			shown := strings.Contains(h.entities(), "service_"+name+" ")
			switch r.IntN(7) {
			case 0:
				definition[name]++
				delete(deleted, name)
				wantAll()
				say("%s is defined anew", name)
			case 1: // received by the hub
				if !shown || h.broker[options.ServiceTopic(name)] == nil {
					continue
				}
				h.deletes(name)
				_, before := deleted[name]
				if !h.announcements.Emptied(options.ServiceTopic(name)) && !before {
					t.Fatalf("seed %d: not seen: %s", seed, strings.Join(story, "; "))
				}
				h.step()
				deleted[name] = definition[name]
				say("%s is deleted", name)
			case 2: // not received
				h.pass(time.Minute) // what a person sees is known to the broker and written down
				if h.broker[options.ServiceTopic(name)] == nil {
					continue
				}
				h.deletes(name)
				deleted[name] = definition[name]
				h.startHub()
				say("%s is deleted while the hub is away", name)
				if r.IntN(2) == 0 {
					h.pass(2 * time.Second)
				}
				wantAll()
				h.pass(2 * time.Second) // it has found out
			case 3:
				h.startHub()
				say("the hub starts")
				wantAll()
			case 4:
				saved = maps.Clone(h.broker)
				say("the broker writes %s", saved[marks])
			case 5:
				h.announcements.Disconnected()
				h.broker = maps.Clone(saved)
				if h.broker == nil {
					h.broker = map[string][]byte{}
				}
				say("the broker goes back to %s", saved[marks])
				h.startHomeAssistant()
				h.startHub()
				wantAll()
			case 6:
				h.startHomeAssistant()
				say("Home Assistant starts")
			}
		}
		h.pass(time.Minute)
		h.startHomeAssistant()
		h.pass(time.Minute)
		var want []string
		for _, name := range names {
			if _, is := deleted[name]; !is {
				want = append(want, "service_"+name+" state sensor")
			}
		}
		if slices.Sort(want); h.entities() != strings.Join(want, "\n") {
			t.Fatalf("seed %d: Home Assistant has\n%s\nwant\n%s\n%s", seed, h.entities(), strings.Join(want, "\n"), strings.Join(story, "; "))
		}
	}
}
