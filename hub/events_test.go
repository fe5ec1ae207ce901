package hub_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// lastEvents asks the hub for its last events.
func (h *home) lastEvents() []topics.Event {
	h.Helper()
	all, err := topics.Decode[[]topics.Event]("", h.ask(topics.VerbEvents, `{}`).Data)
	if err != nil {
		h.Fatal(err)
	}
	return all
}

// The last events are there after a restart of the hub, in their order, and once.
func TestEventsSurviveARestart(t *testing.T) {
	inHome(t, chain, func(h *home) {
		h.publish("dominion/service/lamp/set", "OFF", false)
		before := h.lastEvents()
		h.stop()
		h.start()
		after := h.lastEvents()
		if len(before) < 2 || len(after) < len(before) || !slices.Equal(after[:len(before)], before) {
			t.Fatalf("before the restart %v, after it %v", before, after)
		}
		var types []topics.EventType
		for _, e := range after[len(before):] {
			types = append(types, e.Type)
		}
		if len(types) < 2 || types[0] != topics.HubStopping || types[1] != topics.HubStarted {
			t.Errorf("after what was before the restart: %v", types)
		}
	})
}

// What a power cut leaves is at most a quarter of an hour old, and the file is
// not written more often.
func TestEventsAreWrittenEachQuarterOfAnHour(t *testing.T) {
	inHome(t, chain, func(h *home) {
		file := filepath.Join(h.dataDir, "events.json")
		time.Sleep(10 * time.Minute)
		h.publish("dominion/service/lamp/set", "OFF", false)
		if _, err := os.Stat(file); err == nil {
			t.Error("the events are written at once")
		}
		time.Sleep(6 * time.Minute)
		h.lastEvents() // waits for the loop
		if b, err := os.ReadFile(file); err != nil || !strings.Contains(string(b), string(topics.ServiceWanted)) {
			t.Errorf("after 16 minutes: %s %v", b, err)
		}
	})
}

// The file has a bound in bytes: the newest events are in it.
func TestFileOfEventsIsBounded(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen := h.agent("kitchen", []string{"lamp"}, "lamp")
		if err := kitchen.join(); err != nil {
			t.Fatal(err)
		}
		for range 150 {
			kitchen.say(topics.DomainEvent, string(topics.Encode(topics.Event{
				At: topics.At(time.Now()), Type: topics.ServiceStarted, Service: "lamp", Message: strings.Repeat("x", 900),
			})))
		}
		h.lastEvents()
		h.stop()
		b, err := os.ReadFile(filepath.Join(h.dataDir, "events.json"))
		if err != nil || len(b) > 64<<10 || len(b) < 60<<10 {
			t.Errorf("the file has %d bytes, want just below 64 KiB: %v", len(b), err)
		}
		var all []topics.Event
		if err := json.Unmarshal(b, &all); err != nil || all[len(all)-1].Type != topics.HubStopping {
			t.Errorf("the newest event is missing: %v", err)
		}
		h.start()
	})
}

// A broken file of events is set aside, and keeps no hub from starting.
func TestBrokenFileOfEventsIsSetAside(t *testing.T) {
	for _, content := range []string{"", "[{", `{"at": 1}`, "\x00\x00\x00"} {
		inHome(t, chain, func(h *home) {
			h.stop()
			file := filepath.Join(h.dataDir, "events.json")
			_ = os.Remove(file + ".previous")
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			h.start()
			if all := h.lastEvents(); len(all) == 0 || all[0].Type != topics.HubStarted {
				t.Errorf("%q: %v", content, all)
			}
			if b, err := os.ReadFile(file + ".broken"); err != nil || string(b) != content {
				t.Errorf("%q was not set aside: %q %v", content, b, err)
			}
		})
	}
}
