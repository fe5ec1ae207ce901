package homeassistant

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

var (
	lampFirmware = Firmware{
		Identifiers: []string{"a4cf12ef3b70"}, Connections: [][2]string{{"mac", "a4:cf:12:ef:3b:70"}},
		Name: "Shed lamp", Manufacturer: "Espressif", Model: "d1_mini", Version: "2026.10.1",
	}
	otherBoard = Firmware{Connections: [][2]string{{"mac", "a4:cf:12:00:00:01"}}, Name: "Shed lamp"}
)

// Home Assistant makes one device of ours and of that of the firmware, as both have
// the same identifiers, connections, name and model.
func TestAMicrodomainIsOneDeviceWithItsFirmware(t *testing.T) {
	c := Domain(options, Machine{Name: "shed-lamp", Micro: true, Firmware: &lampFirmware})
	for _, f := range faults(c, map[string]string{}) {
		t.Error(f)
	}
	var p payload
	if err := json.Unmarshal(c.Payload, &p); err != nil {
		t.Fatal(err)
	}
	want := device{
		Identifiers: lampFirmware.Identifiers, Connections: lampFirmware.Connections, Name: "Shed lamp",
		Manufacturer: "Espressif", Model: "d1_mini", ModelID: "Microdomain", SWVersion: "2026.10.1", ViaDevice: "dominion_3f2a91c4_hub",
	}
	if fmt.Sprint(p.Device) != fmt.Sprint(want) {
		t.Errorf("%+v, want %+v", p.Device, want)
	}
	c = Domain(options, Machine{Name: "shed-lamp", Micro: true, Firmware: &otherBoard})
	for _, f := range faults(c, map[string]string{}) {
		t.Error(f)
	}
}

// Home Assistant moves no entity to another device. So where it has the device
// already, that goes first, and it has to be there to hear it: nothing is announced
// that it would take for a second device or refuse.
func TestAMicrodomainBecomesOneDeviceWithItsFirmware(t *testing.T) {
	topic := options.DomainTopic("lamp")
	for _, away := range []bool{false, true} {
		t.Run(fmt.Sprintf("Home Assistant is away: %v", away), func(t *testing.T) {
			h := newFixture(t)
			// show is what the hub does whenever it looks at the domain.
			show := func(f *Firmware) {
				if !h.announcements.Merge(topic, f, h.now) {
					f = h.announcements.Firmware(topic)
				}
				h.announcements.Announce(topic, "1", func() Config { return Domain(options, Machine{Name: "lamp", Micro: true, Firmware: f}) }, h.now)
			}
			announced := func() string {
				var p payload
				if h.broker[topic] == nil {
					return "nothing"
				}
				if err := json.Unmarshal(h.broker[topic], &p); err != nil {
					t.Fatal(err)
				}
				return fmt.Sprint(p.Device.Identifiers, p.Device.Connections)
			}
			expect := func(f *Firmware, when string) {
				t.Helper()
				want := "[dominion_3f2a91c4_domain_lamp] []"
				if f != nil {
					want = fmt.Sprint(f.Identifiers, f.Connections)
				}
				if got := announced(); got != want {
					t.Errorf("%s: retained is %s, want %s", when, got, want)
				}
				for id, got := range h.devices {
					if _, there := h.discovered[id]; there && got != want {
						t.Errorf("%s: Home Assistant has %s at %s, want %s", when, id, got, want)
					}
				}
				for _, c := range h.complaints {
					t.Errorf("%s: Home Assistant complains: %s", when, c)
				}
				h.complaints = nil
			}
			h.startHomeAssistant()
			show(nil)
			h.pass(time.Minute)
			expect(nil, "before its firmware is known")
			entities := len(h.registry)
			if away {
				h.stopHomeAssistant()
			}
			for range 3 {
				show(&lampFirmware)
				h.pass(time.Second)
			}
			h.pass(time.Minute)
			if away {
				expect(nil, "while Home Assistant is away")
				h.startHub()
				show(&lampFirmware)
				h.announcements.Complete(nil, h.now)
				h.pass(time.Minute)
				expect(nil, "after a restart of the hub")
				h.startHomeAssistant()
				show(&lampFirmware)
				h.pass(time.Minute)
			}
			expect(&lampFirmware, "with its firmware")
			if len(h.registry) != entities {
				t.Errorf("%d entities, before %d", len(h.registry), entities)
			}
			n := len(h.log)
			renamed := lampFirmware
			renamed.Version = "2026.11.0"
			show(&renamed)
			h.pass(time.Minute)
			if removals := slices.ContainsFunc(h.log[n:], func(m topics.Message) bool { return len(m.Payload) == 0 }); removals || len(h.log) != n+1 {
				t.Errorf("another version of the firmware: %v", h.log[n:])
			}
			h.startHub()
			n = len(h.log)
			show(h.announcements.Firmware(topic)) // its announcement has not come yet
			h.announcements.Complete(nil, h.now)
			h.pass(time.Minute)
			expect(&lampFirmware, "after a restart of the hub")
			if len(h.log) != n {
				t.Errorf("after a restart of the hub it is announced again: %v", h.log[n:])
			}
			h.startHomeAssistant()
			h.pass(time.Minute)
			show(&otherBoard)
			h.pass(time.Minute)
			expect(&otherBoard, "with another board")
			h.announcements.Remove(topic, h.now)
			h.pass(time.Minute)
			if len(h.registry) > 0 || h.broker[topic] != nil {
				t.Errorf("forgotten, and left: %v", h.registry)
			}
		})
	}
}
