package hub_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics"
)

// announcements are what devices published, as the tests of hub/devices have it.
func announcements(t *testing.T, name string) []topics.Message {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("devices", "testdata", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	var all []topics.Message
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimRight(line, "\n"); !strings.HasPrefix(line, "#") {
			topic, payload, _ := strings.Cut(line, " ")
			all = append(all, topics.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Retain: true})
		}
	}
	return all
}

func (h *home) publishAll(all []topics.Message) {
	for _, m := range all {
		h.broker.Publish(m)
	}
	synctest.Wait()
}

// timesPublished returns how often a topic was published.
func (h *home) timesPublished(topic string) (n int) {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.published {
		if t == topic {
			n++
		}
	}
	return n
}

func (h *home) device(id string) topics.Device {
	h.Helper()
	return get[topics.Device](h, h.tree.Device(id))
}

// What a broker had retained of devices when the hub started is published once, with their
// availability; what an earlier run published of others is cleared.
func TestDevicesAtStart(t *testing.T) {
	inHome(t, chain, func(h *home) {
		h.stop()
		h.before = append(announcements(t, "esphome"), announcements(t, "zigbee2mqtt")...)
		lamp := topics.NewTree("").Device("a4cf12ef3b70")
		h.before = append(h.before,
			topics.Message{Topic: h.tree.Device("ghost-1"), Payload: []byte(`{"id":"ghost-1"}`), Retain: true},
			topics.Message{Topic: h.tree.Device("0x90fd9ffffe6494fc"), Payload: []byte(`{"id":"old"}`), Retain: true})
		h.start()
		time.Sleep(2 * time.Second)
		if n := h.timesPublished(lamp); n != 0 {
			h.Errorf("told of the lamp before all had come, %d times", n)
		}
		time.Sleep(20 * time.Second)
		if d := h.device("a4cf12ef3b70"); d.Availability != "online" || d.Name != "Desk lamp" || len(d.AnnouncedBy) != 2 || h.timesPublished(lamp) != 1 {
			h.Errorf("told %d times of %+v", h.timesPublished(lamp), d)
		}
		if d := h.device("0x90fd9ffffe6494fc"); d.Availability != "offline" || d.Via != "0x00124b00120144ae" {
			h.Errorf("the bulb: %+v", d)
		}
		if got := h.last(h.tree.Device("ghost-1")); got != "" {
			h.Errorf("the ghost is %s", got)
		}

		// The next run finds what this one published, and publishes nothing again.
		var retained []topics.Message
		h.mu.Lock()
		for topic, payload := range h.retained {
			if strings.HasPrefix(topic, "dominion/device/") && payload != "" {
				retained = append(retained, topics.Message{Topic: topic, Payload: []byte(payload), Retain: true})
			}
		}
		h.mu.Unlock()
		if len(retained) != 7 {
			h.Errorf("%d devices", len(retained))
		}
		h.stop()
		h.before = append(append(announcements(t, "esphome"), announcements(t, "zigbee2mqtt")...), retained...)
		h.mu.Lock()
		h.published = nil
		h.mu.Unlock()
		h.start()
		time.Sleep(20 * time.Second)
		for _, m := range retained {
			if n := h.timesPublished(m.Topic); n != 1 { // as it was retained
				h.Errorf("%s was told of %d times", m.Topic, n-1)
			}
		}
	})
}

// A device that comes while the hub runs is published once, with its
// availability, follows it, and goes when nothing announces it any more.
func TestDeviceComesAndGoes(t *testing.T) {
	inHome(t, chain, func(h *home) {
		time.Sleep(15 * time.Second)
		all := announcements(t, "esphome")
		slices.Reverse(all) // its last word first
		h.publishAll(all)
		time.Sleep(5 * time.Second)
		lamp := h.tree.Device("a4cf12ef3b70")
		if d := h.device("a4cf12ef3b70"); d.Availability != "online" || len(d.Topics.State) != 2 || h.timesPublished(lamp) != 1 {
			h.Errorf("told %d times of %+v", h.timesPublished(lamp), d)
		}
		h.publish("desk-lamp/status", "offline", true)
		time.Sleep(time.Second)
		if d := h.device("a4cf12ef3b70"); d.Availability != "offline" || h.timesPublished(lamp) != 2 {
			h.Errorf("told %d times of %+v", h.timesPublished(lamp), d)
		}
		for range 100 { // nobody listens to what it measures
			h.publish("desk-lamp/sensor/wifi_signal/state", "-60", true)
		}
		h.publishAll(announcements(t, "esphome"))
		time.Sleep(2 * time.Second)
		if n := h.timesPublished(lamp); n != 3 { // online again
			h.Errorf("told %d times", n)
		}
		for _, m := range all {
			h.publish(m.Topic, "", true)
		}
		time.Sleep(2 * time.Second)
		if got := h.last(lamp); got != "" || h.timesPublished(lamp) != 4 {
			h.Errorf("it is still there: %s", got)
		}
		h.publish("desk-lamp/status", "online", true)
		time.Sleep(2 * time.Second)
		if n := h.timesPublished(lamp); n != 4 {
			h.Errorf("told %d times of one that nobody announces", n)
		}
	})
}

// What the hub announces to Home Assistant is no device of somebody else.
func TestOurOwnDiscoveryIsNoDevice(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen := h.agent("kitchen", []string{"lamp"}, "lamp", "web", "orchestrator")
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		defer kitchen.leave()
		time.Sleep(20 * time.Second)
		synctest.Wait()
		for topic := range h.retained {
			if strings.HasPrefix(topic, "dominion/device/") {
				h.Errorf("told of %s", topic)
			}
		}
	})
}

// A microcontroller that is a domain of ours, and announces itself to Home
// Assistant too, shows that it is both.
func TestDeviceThatIsADomain(t *testing.T) {
	inHome(t, chain, func(h *home) {
		h.publish("dominion/domain/desk-relay/availability", "online", true)
		h.publish("dominion/domain/desk-relay/status", `{"name":"desk-relay","micro":true,"services":[{"service":"relay","state":"running"}]}`, true)
		h.publishAll(slices.DeleteFunc(announcements(t, "homeassistant"), func(m topics.Message) bool { return !strings.HasPrefix(m.Topic, "homeassistant/switch/desk/") }))
		time.Sleep(15 * time.Second)
		if d := h.device("a020a61c3105"); d.Domain != "desk-relay" || d.Availability != "online" {
			h.Errorf("%+v", d)
		}
	})
}

// The answer to the verb comes in parts, which together have every device.
func TestDevicesInParts(t *testing.T) {
	inHome(t, chain, func(h *home) {
		time.Sleep(15 * time.Second)
		state := strings.Repeat("x", 200)
		for n := range 900 {
			h.broker.Publish(topics.Message{Topic: fmt.Sprintf("homeassistant/switch/d%d/config", n), Payload: []byte(fmt.Sprintf(`{"uniq_id":"%d","cmd_t":"c","dev":{"ids":["d%d"]},"stat_t":"%s/%d"}`, n, n, state, n)), Retain: true})
		}
		h.publish("homeassistant/switch/broken/config", "{", true)
		ids, after, parts := make(map[string]bool), "", 0
		for parts = 1; parts < 100; parts++ {
			r := h.ask(topics.VerbDevices, fmt.Sprintf(`{"after":%q}`, after))
			if len(r.Data) > 600<<10 {
				h.Errorf("an answer has %d bytes", len(r.Data))
			}
			page, err := topics.Decode[topics.Devices]("", r.Data)
			if err != nil {
				h.Fatal(err)
			}
			for _, d := range page.Devices {
				ids[d.ID] = true
			}
			if (len(page.Problems) == 1) != (parts == 1) {
				h.Errorf("part %d has the problems %+v", parts, page.Problems)
			}
			if after = page.Next; after == "" {
				break
			}
		}
		if len(ids) != 900 || parts < 2 {
			h.Errorf("%d devices in %d parts", len(ids), parts)
		}
	})
}

// A problem with a retained message stands until it is corrected, wherever the
// message came from. One with a message that is not retained has passed.
func TestStandingAndPassingProblems(t *testing.T) {
	inHome(t, chain, func(h *home) {
		time.Sleep(15 * time.Second)
		const retained, passing = "homeassistant/sensor/retained/config", "homeassistant/sensor/passing/config"
		h.publish(retained, "{", true)
		h.publish(passing, "{", false)
		problems := func() map[string]topics.DeviceProblem {
			page, err := topics.Decode[topics.Devices]("", h.ask(topics.VerbDevices, "").Data)
			if err != nil {
				h.Fatal(err)
			}
			all := make(map[string]topics.DeviceProblem)
			for _, p := range page.Problems {
				all[p.Topic] = p
			}
			return all
		}
		if all := problems(); len(all) != 2 || all[retained].Passing || all[passing].Passing {
			h.Errorf("at once: %+v", all)
		}
		time.Sleep(15 * time.Second)
		if all := problems(); len(all) != 2 || all[retained].Passing || !all[passing].Passing {
			h.Errorf("after the broker was asked: %+v", all)
		}
		h.publish(retained, `{"stat_t":"s","uniq_id":"u","dev":{"ids":["x"]}}`, true)
		if all := problems(); len(all) != 1 {
			h.Errorf("corrected: %+v", all)
		}
		h.publish(retained, "{", true)
		time.Sleep(15 * time.Second)
		h.publish(retained, "", true)
		if all := problems(); len(all) != 1 {
			h.Errorf("cleared: %+v", all)
		}
		time.Sleep(time.Hour)
		if all := problems(); len(all) != 0 {
			h.Errorf("after an hour: %+v", all)
		}
	})
}

// Switched off, nobody listens, and what an earlier run published is cleared.
func TestDevicesOff(t *testing.T) {
	inHome(t, chain, func(h *home) {
		h.stop()
		h.cfg.Devices = config.Devices{}
		h.before = append(announcements(t, "tasmota"), topics.Message{Topic: h.tree.Device("84cca8a1b2c3"), Payload: []byte(`{}`), Retain: true})
		h.start()
		time.Sleep(15 * time.Second)
		if got := h.last(h.tree.Device("84cca8a1b2c3")); got != "" {
			h.Errorf("it is %s", got)
		}
		if r := h.ask(topics.VerbDevices, ""); r.Status != topics.StatusError || !strings.Contains(r.Error, "devices.enabled") {
			h.Errorf("%+v", r)
		}
	})
}

// A broker that is not ours may come back with other devices, and may refuse
// to let us hear some of it.
func TestDevicesOfAnotherBroker(t *testing.T) {
	inHome(t, chain, func(h *home) {
		time.Sleep(15 * time.Second)
		h.hub.CannotSubscribe("esphome/discover/+", errors.New("refused by home.lan"))
		h.publishAll(announcements(t, "tasmota"))
		time.Sleep(2 * time.Second)
		page := func() topics.Devices {
			r := h.ask(topics.VerbDevices, "")
			page, err := topics.Decode[topics.Devices]("", r.Data)
			if err != nil {
				h.Fatal(err)
			}
			return page
		}
		if p := page(); len(p.Devices) != 3 || len(p.Problems) != 1 || !strings.Contains(p.Problems[0].Message, "refused by home.lan") {
			h.Errorf("%+v", p)
		}
		h.hub.Disconnected()
		h.hub.Connected()
		h.publish("tele/washer/LWT", "Offline", true)
		for _, m := range announcements(t, "tasmota")[:2] {
			h.hub.Deliver(m)
		}
		time.Sleep(5 * time.Second)
		if p := page(); len(p.Devices) != 1 || p.Devices[0].Availability != "offline" || len(p.Problems) != 0 {
			h.Errorf("after it came back: %+v", p)
		}
		if got := h.last(h.tree.Device("2cf432112233")); got != "" {
			h.Errorf("one that it does not know: %s", got)
		}
	})
}
