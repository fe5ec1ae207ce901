package announcer_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/hub/announcer"
	"github.com/jmbarzee/dominion/hub/homeassistant"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

const (
	hubConfig    = "homeassistant/device/dominion_12345678_hub/config"
	lampConfig   = "homeassistant/device/dominion_12345678_service_lamp/config"
	domainConfig = "homeassistant/device/dominion_12345678_domain_esp/config"
)

// fixture is an announcer with a broker and a disk, in its own time.
type fixture struct {
	t   *testing.T
	now time.Time
	o   announcer.Options
	*announcer.Announcer

	published []string // "+topic" for a payload, "-topic" for none, since the last call of last
	again     []topics.Address
	snapshot  homeassistant.Snapshot
	writes    int
	full      bool      // the disk takes nothing
	nextNote  time.Time // as the budget of the disk has it
	firmware  *homeassistant.Firmware
}

func (h *fixture) Publish(m topics.Message) {
	sign := "+"
	if len(m.Payload) == 0 {
		sign = "-"
	}
	h.published = append(h.published, sign+m.Topic)
}

func (h *fixture) Clear(topic string) { h.published = append(h.published, "-"+topic) }

func (h *fixture) WriteNote(name string, v any) error {
	if name != "homeassistant.json" {
		h.t.Errorf("writes %s", name)
	}
	h.writes++
	if h.full {
		return errors.New("no space left on device")
	}
	h.snapshot = v.(homeassistant.Snapshot)
	return nil
}

func (h *fixture) NextNote(time.Time) time.Time { return h.nextNote }

// newFixture returns a fixture whose hub is connected. change may change its options.
func newFixture(t *testing.T, change func(h *fixture, o *announcer.Options)) *fixture {
	h := &fixture{t: t, now: time.Unix(1_800_000_000, 0)}
	h.o = announcer.Options{
		HomeAssistant: homeassistant.Options{Tree: topics.NewTree("dominion"), HubID: "12345678-9abc-def0-1234-56789abcdef0", HubName: "home", Version: "1.0.0"},
		Enabled:       true, Publisher: h, Store: h, Log: slog.New(slog.DiscardHandler),
		States: func() []topics.Address {
			var all []topics.Address
			for i := range 25 {
				all = append(all, topics.Address{Kind: topics.ServiceStatus, Service: fmt.Sprintf("s%d", i)})
			}
			return all
		},
	}
	if change != nil {
		change(h, &h.o)
	}
	h.start()
	return h
}

// start starts the hub, with what is on disk.
func (h *fixture) start() {
	h.o.Snapshot = h.snapshot
	h.Announcer = announcer.New(h.o)
	h.Connected(h.now)
}

// pass lets time pass, as the hub's loop does.
func (h *fixture) pass(d time.Duration) {
	for end := h.now.Add(d); ; {
		h.FirmwareDue(h.now)
		h.again = append(h.again, h.Expire(h.now)...)
		next := h.Next()
		if !next.IsZero() && !next.After(h.now) {
			h.t.Fatalf("next is %v, which is over", next.Sub(h.now))
		}
		if next.IsZero() || next.After(end) {
			h.now = end
			return
		}
		h.now = next
	}
}

// last returns what was published since the last call, but for the count of changes.
func (h *fixture) last() []string {
	defer func() { h.published = nil }()
	return slices.DeleteFunc(h.published, func(p string) bool { return p == "+dominion/hub/discovery" })
}

func (h *fixture) want(what string, want ...string) {
	h.t.Helper()
	if got := h.last(); !slices.Equal(got, want) {
		h.t.Errorf("%s: published %q, want %q", what, got, want)
	}
}

func (h *fixture) birth() {
	if ours, birth := h.Receive(topics.Message{Topic: "homeassistant/status", Payload: []byte("online")}, h.now); !ours || !birth {
		h.t.Errorf("the birth of Home Assistant: ours %v, birth %v", ours, birth)
	}
}

func (h *fixture) announceLamp(url string) {
	h.AnnounceService(homeassistant.Program{Name: "lamp", URL: url}, services.Definition{Name: "lamp", Replicas: 1}, h.now)
}

// A config is published when the device shows something else, and not otherwise.
func TestAnnouncedOnce(t *testing.T) {
	h := newFixture(t, nil)
	for range 3 {
		h.AnnounceHub(h.now)
		h.announceLamp("")
		h.pass(time.Minute)
	}
	h.want("three times the same", "+"+hubConfig, "+"+lampConfig)
	h.announceLamp("http://lamp")
	h.pass(time.Minute)
	h.want("another page", "+"+lampConfig)
}

// Nothing is published while the broker is away, and everything after it is back.
func TestDisconnected(t *testing.T) {
	h := newFixture(t, nil)
	h.Disconnected()
	h.AnnounceHub(h.now)
	if next := h.Next(); !next.IsZero() {
		t.Errorf("next is %v", next)
	}
	h.pass(time.Minute)
	h.want("away")
	h.Connected(h.now)
	h.pass(time.Minute)
	h.want("back", "+"+hubConfig)
}

// The device goes before what it shows: templates complain about an empty state.
func TestRemovedBeforeItsStates(t *testing.T) {
	h := newFixture(t, nil)
	h.announceLamp("")
	h.pass(time.Minute)
	h.last()
	h.RemoveService("lamp", h.now)
	h.pass(time.Minute)
	got := h.last()
	if len(got) < 3 || got[0] != "-"+lampConfig {
		t.Errorf("published %q", got)
	}
	for _, topic := range topics.NewTree("dominion").ServiceTopics("lamp") {
		if !slices.Contains(got, "-"+topic) {
			t.Errorf("%s is not cleared: %q", topic, got)
		}
	}
}

// Home Assistant may still process an announcement of a moment ago: the removal is
// delayed, and what the device shows is cleared after it.
func TestRemovedAMomentAfterItsAnnouncement(t *testing.T) {
	h := newFixture(t, nil)
	h.pass(2 * time.Second)
	h.birth()
	h.pass(10 * time.Second)
	h.announceLamp("")
	h.pass(time.Second)
	h.want("announced", "+"+lampConfig)
	h.RemoveService("lamp", h.now)
	h.pass(time.Second)
	status := "-dominion/service/lamp/status"
	if got := h.last(); slices.Contains(got, status) || slices.Contains(got, "-"+lampConfig) {
		t.Errorf("at once: %q", got)
	}
	h.pass(time.Minute)
	got := h.last()
	config, state := slices.Index(got, "-"+lampConfig), slices.Index(got, status)
	if config < 0 || state < config {
		t.Errorf("removed: %q", got)
	}
}

// What a device showed is cleared also where its removal is interrupted: by the will of
// Home Assistant's former connection, which comes late, or by a broker that has lost the
// config, so that the removal waits for the next birth.
func TestClearedAfterAnInterruptedRemoval(t *testing.T) {
	for name, interrupt := range map[string]func(h *fixture){
		"a late will": func(h *fixture) {
			h.Receive(topics.Message{Topic: "homeassistant/status", Payload: []byte("offline")}, h.now)
		},
		"a broker that has lost the config": func(h *fixture) {
			h.Disconnected()
			h.Connected(h.now)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newFixture(t, nil)
			h.pass(2 * time.Second)
			h.birth()
			h.pass(10 * time.Second)
			h.announceLamp("")
			h.pass(time.Second)
			h.RemoveService("lamp", h.now)
			h.last()
			interrupt(h)
			h.pass(time.Minute)
			if got := h.last(); !slices.Contains(got, "-dominion/service/lamp/status") {
				t.Errorf("published %q", got)
			}
		})
	}
}

// A device that comes back before its states were cleared keeps them.
func TestAnnouncedAgainBeforeItWasRemoved(t *testing.T) {
	h := newFixture(t, nil)
	h.pass(2 * time.Second)
	h.birth()
	h.pass(10 * time.Second)
	h.announceLamp("")
	h.pass(time.Second)
	h.RemoveService("lamp", h.now)
	h.announceLamp("")
	h.pass(time.Minute)
	if got := h.last(); slices.Contains(got, "-dominion/service/lamp/status") || slices.Contains(got, "-"+lampConfig) {
		t.Errorf("cleared: %q", got)
	}
}

// The same where the device is removed after all, to become one with its firmware.
func TestMergedAfterItWasToBeRemoved(t *testing.T) {
	h := newFixture(t, func(h *fixture, o *announcer.Options) {
		o.Firmware = func(string) (*homeassistant.Firmware, bool) { return h.firmware, h.firmware != nil }
	})
	h.firmware = &homeassistant.Firmware{Identifiers: []string{"a4cf"}}
	esp := homeassistant.Machine{Name: "esp", ID: "esp", Micro: true}
	h.pass(2 * time.Second)
	h.birth()
	h.pass(10 * time.Second)
	h.AnnounceDomain(esp, h.now)
	h.pass(time.Second)
	h.want("announced", "+"+domainConfig)
	h.RemoveDomain("esp", h.now)
	h.AnnounceDomain(esp, h.now)
	h.pass(10 * time.Second)
	h.firmware = &homeassistant.Firmware{Identifiers: []string{"other"}}
	h.AnnounceDomain(esp, h.now)
	h.pass(time.Minute)
	got := h.last()
	if !slices.Contains(got, "-"+domainConfig) || slices.Contains(got, "-dominion/domain/esp/status") {
		t.Errorf("merged: %q", got)
	}
}

// After a birth all configs are published again, and after them the states, a few at a
// time.
func TestStatesFollowABirth(t *testing.T) {
	h := newFixture(t, nil)
	h.AnnounceHub(h.now)
	h.pass(time.Minute)
	h.last()
	h.birth()
	var batches []int
	for end := h.now.Add(time.Minute); h.now.Before(end); {
		if again := h.Expire(h.now); len(again) > 0 {
			batches = append(batches, len(again))
			if len(batches) == 1 && !slices.Contains(h.last(), "+"+hubConfig) {
				t.Error("the states come before the config")
			}
		}
		if h.now = h.Next(); h.now.IsZero() {
			break
		}
	}
	if !slices.Equal(batches, []int{10, 10, 5}) {
		t.Errorf("states by batch: %v", batches)
	}
}

// What is retained at the birth topic may be long ago, and another topic is not ours.
func TestWhatIsNoBirth(t *testing.T) {
	h := newFixture(t, nil)
	for _, c := range []struct {
		m    topics.Message
		ours bool
	}{
		{topics.Message{Topic: "homeassistant/status", Payload: []byte("online"), Retain: true}, true},
		{topics.Message{Topic: "homeassistant/status", Payload: []byte("offline")}, true},
		{topics.Message{Topic: "homeassistant/status", Payload: []byte("starting")}, true},
		{topics.Message{Topic: lampConfig, Payload: []byte("online")}, true},
		{topics.Message{Topic: "homeassistant/device/other/config", Payload: []byte("{}")}, false},
		{topics.Message{Topic: "dominion/hub/status", Payload: []byte("online")}, false},
	} {
		if ours, birth := h.Receive(c.m, h.now); birth || ours != c.ours {
			t.Errorf("%s %s: ours %v, birth %v", c.m.Topic, c.m.Payload, ours, birth)
		}
	}
}

// Where nothing is announced, what an earlier run announced is removed, and no states are
// published for it.
func TestDisabled(t *testing.T) {
	h := newFixture(t, func(_ *fixture, o *announcer.Options) { o.Enabled = false })
	h.Receive(topics.Message{Topic: lampConfig, Payload: []byte(`{"components":{"state":{"platform":"sensor"}}}`), Retain: true}, h.now)
	h.Complete(nil, h.now)
	h.birth()
	h.pass(time.Minute)
	if got := h.last(); !slices.Contains(got, "-"+lampConfig) {
		t.Errorf("not removed: %q", got)
	}
	if len(h.again) > 0 {
		t.Errorf("%d states are published", len(h.again))
	}
}

// Of a domain that has not reported yet nothing is removed.
func TestCompleteSparesWhoDidNotReport(t *testing.T) {
	h := newFixture(t, nil)
	for _, topic := range []string{lampConfig, domainConfig} {
		h.Receive(topics.Message{Topic: topic, Payload: []byte(`{"components":{"state":{"platform":"sensor"}}}`), Retain: true}, h.now)
	}
	h.Complete([]string{"esp"}, h.now)
	h.pass(time.Minute)
	got := h.last()
	if !slices.Contains(got, "-"+lampConfig) || slices.Contains(got, "-"+domainConfig) {
		t.Errorf("published %q", got)
	}
}

// A microdomain is announced with its firmware, and without it only after a moment.
func TestFirmwareIsAwaited(t *testing.T) {
	esp := homeassistant.Machine{Name: "esp", ID: "esp", Micro: true}
	withFirmware := func(h *fixture, o *announcer.Options) {
		o.Firmware = func(string) (*homeassistant.Firmware, bool) { return h.firmware, h.firmware != nil }
	}
	t.Run("it comes in time", func(t *testing.T) {
		h := newFixture(t, withFirmware)
		h.AnnounceDomain(esp, h.now)
		h.pass(2 * time.Second)
		h.want("awaited")
		h.firmware = &homeassistant.Firmware{Identifiers: []string{"a4cf"}}
		h.AnnounceDomain(esp, h.now)
		h.pass(time.Second)
		h.want("with it", "+"+domainConfig)
	})
	t.Run("it does not come", func(t *testing.T) {
		h := newFixture(t, withFirmware)
		h.AnnounceDomain(esp, h.now)
		h.Expire(h.now)
		start := h.now
		var due []string
		for len(due) == 0 {
			if h.now = h.Next(); h.now.IsZero() {
				t.Fatal("nothing is due")
			}
			due = h.FirmwareDue(h.now)
			h.Expire(h.now)
		}
		if !slices.Equal(due, []string{"esp"}) || h.now.Sub(start) != 3*time.Second {
			t.Errorf("%q is due after %v", due, h.now.Sub(start))
		}
		h.want("awaited")
		h.AnnounceDomain(esp, h.now)
		h.pass(time.Second)
		h.want("without it", "+"+domainConfig)
		if due := h.FirmwareDue(h.now); len(due) > 0 {
			t.Errorf("%q is due again", due)
		}
	})
	t.Run("the domain goes meanwhile", func(t *testing.T) {
		h := newFixture(t, withFirmware)
		h.AnnounceDomain(esp, h.now)
		h.RemoveDomain("esp", h.now)
		h.now = h.now.Add(time.Minute)
		if due := h.FirmwareDue(h.now); len(due) > 0 {
			t.Errorf("%q is due", due)
		}
	})
	t.Run("nobody listens for it", func(t *testing.T) {
		h := newFixture(t, nil)
		h.AnnounceDomain(esp, h.now)
		h.pass(time.Second + time.Millisecond)
		h.want("at once", "+"+domainConfig)
	})
}

// What was announced is written once for many changes, no sooner than the disk takes it,
// and again where it failed.
func TestSaved(t *testing.T) {
	h := newFixture(t, nil)
	h.announceLamp("")
	h.pass(10 * time.Second)
	if h.writes == 0 || len(h.snapshot.Devices) != 1 {
		t.Fatalf("%d writes, %d devices", h.writes, len(h.snapshot.Devices))
	}
	h.nextNote = h.now.Add(time.Hour)
	h.AnnounceHub(h.now)
	h.pass(10 * time.Second) // it is written with the budget of before
	writes := h.writes
	h.announceLamp("http://lamp")
	h.pass(50 * time.Minute)
	if h.writes > writes {
		t.Errorf("%d writes beyond the budget", h.writes-writes)
	}
	h.pass(time.Hour)
	if h.writes != writes+1 {
		t.Errorf("%d writes, want one", h.writes-writes)
	}
	h.full, h.nextNote, h.writes = true, time.Time{}, 0
	h.RemoveService("lamp", h.now)
	h.pass(10 * time.Minute)
	if h.writes < 5 || h.writes > 12 {
		t.Errorf("%d tries in ten minutes", h.writes)
	}
	h.full = false
	h.Save(h.now)
	if record := h.snapshot.Devices[lampConfig]; len(record.Components) > 0 && !record.Gone {
		t.Errorf("after all the disk has %+v", record)
	}
}

// What was announced in an earlier run counts after a restart.
func TestRestart(t *testing.T) {
	h := newFixture(t, nil)
	h.AnnounceService(homeassistant.Program{Name: "lamp", Versioned: true}, services.Definition{Name: "lamp"}, h.now)
	h.AnnounceService(homeassistant.Program{Name: "esp", Micro: true}, services.Definition{Name: "esp"}, h.now)
	h.pass(time.Minute)
	h.Save(h.now)
	h.start()
	for name, want := range map[string][2]bool{"lamp": {false, true}, "esp": {true, true}, "web": {true, false}} {
		if micro, announced := h.MicroService(name); announced != want[1] || announced && micro != want[0] {
			t.Errorf("%s: micro %v, announced %v", name, micro, announced)
		}
	}
	h.last()
	var payload string
	h.o.Publisher = publisher(func(m topics.Message) {
		if m.Topic == lampConfig {
			payload = string(m.Payload)
		}
	})
	h.start()
	h.announceLamp("") // its versions are not reported yet
	h.pass(time.Minute)
	if !strings.Contains(payload, `"unique_id":"dominion_12345678_service_lamp_version"`) {
		t.Errorf("the entity of its version is lost: %s", payload)
	}
}

// publisher is a Publisher of a function.
type publisher func(topics.Message)

func (p publisher) Publish(m topics.Message) { p(m) }
func (p publisher) Clear(topic string)       { p(topics.Message{Topic: topic, Retain: true}) }

// How many replicas a person may ask for follows from the definition.
func TestReplicasForPeople(t *testing.T) {
	for _, c := range []struct {
		name string
		d    services.Definition
		want string // "" without the entity
	}{
		{"optional", services.Definition{}, `"max":100`},
		{"listed domains", services.Definition{Domains: []string{"a", "b", "c"}}, `"max":3`},
		{"one domain", services.Definition{Domains: []string{"a"}}, ""},
		{"exclusive", services.Definition{Exclusive: true}, ""},
		{"on each domain", services.Definition{Priority: services.Required}, ""},
		{"required, with a number", services.Definition{Priority: services.Required, Replicas: 2}, `"max":100`},
	} {
		var payload string
		h := newFixture(t, func(_ *fixture, o *announcer.Options) {
			o.Publisher = publisher(func(m topics.Message) {
				if m.Topic == lampConfig {
					payload = string(m.Payload)
				}
			})
		})
		c.d.Name = "lamp"
		h.AnnounceService(homeassistant.Program{Name: "lamp"}, c.d, h.now)
		h.pass(time.Minute)
		if !strings.Contains(payload, `"running":`) {
			t.Fatalf("%s: no config: %q", c.name, payload)
		}
		if got := strings.Contains(payload, `"replicas":{`); got != (c.want != "") || !strings.Contains(payload, c.want) {
			t.Errorf("%s: %s", c.name, payload)
		}
	}
}
