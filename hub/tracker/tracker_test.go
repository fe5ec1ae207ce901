package tracker_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/hub/tracker"
	"github.com/jmbarzee/dominion/topics"
)

var start = time.Unix(1_000_000, 0)

func at(seconds float64) time.Time {
	return start.Add(time.Duration(seconds * float64(time.Second)))
}

func newTracker() *tracker.Tracker {
	return tracker.New(tracker.Options{Tree: topics.NewTree("dominion"), DiscoveryPrefix: "homeassistant", Enabled: true})
}

// announcement is what a device with one switch announces. Its identifier is its name;
// availability may be "".
func announcement(name, availability string) topics.Message {
	more := ""
	if availability != "" {
		more = fmt.Sprintf(`,"avty_t":%q`, availability)
	}
	return topics.Message{
		Topic: "homeassistant/switch/" + name + "/config", Retain: true,
		Payload: fmt.Appendf(nil, `{"uniq_id":%q,"name":"Power","cmd_t":"x/%s/set"%s,"dev":{"ids":%q,"name":%q}}`, name, name, more, name, name),
	}
}

// lampID is the identifier of the device lamp.
const lampID = "lamp-e8179b1c23b4"

// expire returns what is due, as "+name:availability" and "-name".
func expire(t *tracker.Tracker, now time.Time) string {
	updates, _ := t.Expire(now)
	var all []string
	for _, u := range updates {
		name, _, _ := strings.Cut(u.ID, "-")
		if u.Cleared {
			all = append(all, "-"+name)
			continue
		}
		all = append(all, "+"+name+":"+u.Device.Availability)
	}
	return strings.Join(all, " ")
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func wantNext(t *testing.T, tr *tracker.Tracker, want time.Time) {
	t.Helper()
	if got := tr.Next(); !got.Equal(want) {
		t.Errorf("next %v, want %v", got, want)
	}
}

// Nothing is published before the broker had time to replay everything; then all devices
// are published at once, and what an earlier run published of others is cleared.
func TestAllDevicesOnceTheyHaveCome(t *testing.T) {
	tr := newTracker()
	tr.Receive(announcement("lamp", ""), at(0))
	wantNext(t, tr, time.Time{}) // not connected
	tr.Connected(at(0))
	tr.Receive(announcement("plug", ""), at(1))
	for _, id := range []string{lampID, "gone"} {
		if !tr.Retained(id, topics.Message{Payload: []byte("{}"), Retain: true}) {
			t.Errorf("%s was published by an earlier run", id)
		}
	}
	if !slices.Contains(tr.Topics(), "dominion/device/+/status") {
		t.Errorf("what an earlier run published is not followed: %q", tr.Topics())
	}
	want(t, "after the announcement", expire(tr, at(1.5)), "")
	wantNext(t, tr, at(3))
	want(t, "after the replay", expire(tr, at(3)), "+lamp:unknown +plug:unknown -gone")
	wantNext(t, tr, time.Time{})
	if slices.Contains(tr.Topics(), "dominion/device/+/status") {
		t.Error("our own entries are still followed")
	}
}

// What an earlier run published is retained by the broker: nothing else is.
func TestWhichEntriesAreOfAnEarlierRun(t *testing.T) {
	for _, c := range []struct {
		name    string
		message topics.Message
		former  bool
	}{
		{"retained", topics.Message{Payload: []byte("{}"), Retain: true}, true},
		{"published now", topics.Message{Payload: []byte("{}")}, false},
		{"cleared", topics.Message{Retain: true}, false},
	} {
		if got := newTracker().Retained(lampID, c.message); got != c.former {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	tr := newTracker()
	tr.Connected(at(0))
	tr.Receive(announcement("lamp", ""), at(0))
	expire(tr, at(3))
	if tr.Retained(lampID, topics.Message{Payload: []byte("{}"), Retain: true}) {
		t.Error("this run published it")
	}
}

// Changes are gathered from the first one on: later ones do not postpone them.
func TestChangesAreGathered(t *testing.T) {
	tr := newTracker()
	tr.Connected(at(0))
	want(t, "no devices", expire(tr, at(3)), "")
	tr.Receive(announcement("lamp", ""), at(10))
	wantNext(t, tr, at(10.5))
	tr.Receive(announcement("plug", ""), at(10.4))
	wantNext(t, tr, at(10.5))
	want(t, "too early", expire(tr, at(10.4)), "")
	want(t, "gathered", expire(tr, at(10.5)), "+lamp:unknown +plug:unknown")
	tr.Receive(announcement("lamp", ""), at(11))
	wantNext(t, tr, time.Time{}) // it is the same
	tr.Receive(topics.Message{Topic: announcement("plug", "").Topic, Retain: true}, at(12))
	want(t, "taken back", expire(tr, at(12.5)), "-plug")
}

// A device with a topic of availability is published once, with what is retained there.
func TestAvailabilityIsWaitedFor(t *testing.T) {
	tr := newTracker()
	tr.Connected(at(0))
	expire(tr, at(3))
	tr.Receive(announcement("lamp", "lamp/status"), at(10))
	updates, otherTopics := tr.Expire(at(10.5))
	if len(updates) > 0 || !otherTopics || !slices.Contains(tr.Topics(), "lamp/status") {
		t.Fatalf("%v, other topics %v: %q", updates, otherTopics, tr.Topics())
	}
	wantNext(t, tr, at(11))
	tr.Receive(topics.Message{Topic: "lamp/status", Payload: []byte("online"), Retain: true}, at(10.6))
	want(t, "with its availability", expire(tr, at(11)), "+lamp:online")
	tr.Receive(topics.Message{Topic: "lamp/status", Payload: []byte("offline")}, at(20))
	want(t, "offline", expire(tr, at(20.5)), "+lamp:offline")
}

// Waiting for availability ends: further devices do not postpone those that wait.
func TestAvailabilityIsWaitedForOnce(t *testing.T) {
	tr := newTracker()
	tr.Connected(at(0))
	expire(tr, at(3))
	tr.Receive(announcement("lamp", "lamp/status"), at(10))
	want(t, "postponed", expire(tr, at(10.5)), "")
	tr.Receive(announcement("plug", "plug/status"), at(10.9))
	want(t, "not postponed again", expire(tr, at(11)), "+lamp:unknown +plug:unknown")
}

// After a disconnection everything comes again; what does not is cleared then.
func TestAnotherConnection(t *testing.T) {
	tr := newTracker()
	tr.Connected(at(0))
	tr.Receive(announcement("lamp", ""), at(0))
	tr.Receive(announcement("plug", ""), at(0))
	want(t, "first", expire(tr, at(3)), "+lamp:unknown +plug:unknown")
	if !tr.Disconnected() {
		t.Error("our own entries are followed again")
	}
	want(t, "disconnected", expire(tr, at(100)), "")
	wantNext(t, tr, time.Time{})
	tr.Connected(at(100))
	tr.Receive(announcement("plug", ""), at(101))
	want(t, "again", expire(tr, at(103)), "+plug:unknown -lamp")
}

// Where devices are disabled nothing is listed, and what an earlier run published is
// cleared.
func TestDisabled(t *testing.T) {
	tr := tracker.New(tracker.Options{Tree: topics.NewTree("dominion")})
	tr.Connected(at(0))
	tr.Receive(announcement("lamp", ""), at(0))
	tr.Refused("homeassistant/+/+/config", errors.New("not authorized"), at(0))
	tr.Retained(lampID, topics.Message{Payload: []byte("{}"), Retain: true})
	want(t, "swept", expire(tr, at(3)), "-lamp")
	if len(tr.Topics()) > 0 || tr.Enabled() {
		t.Errorf("enabled, or %q is followed", tr.Topics())
	}
	if _, is := tr.Firmware("lamp"); is {
		t.Error("there is firmware")
	}
	if _, err := tr.Page("", at(4)); err == nil || !strings.Contains(err.Error(), "devices.enabled is false") {
		t.Errorf("a page: %v", err)
	}
	tr.Connected(at(5)) // without a disconnection before
	want(t, "again", expire(tr, at(8)), "")
}

// A topic that the broker refuses is a problem of the devices, where it is one of
// theirs.
func TestRefusedTopics(t *testing.T) {
	tr := newTracker()
	tr.Connected(at(0))
	tr.Receive(announcement("lamp", "lamp/status"), at(0))
	expire(tr, at(3))
	tr.Refused("scaling/figure", errors.New("not authorized"), at(4))
	tr.Refused("lamp/status", errors.New("not authorized"), at(4))
	page, err := tr.Page("", at(5))
	if err != nil || len(page.Problems) != 1 || page.Problems[0].Topic != "lamp/status" {
		t.Errorf("%+v, %v", page.Problems, err)
	}
}

// Pages together have each device once, in order, and no page is much longer than a
// message may be.
func TestPages(t *testing.T) {
	tr := newTracker()
	tr.Connected(at(0))
	const devices = 1500
	for i := range devices {
		tr.Receive(announcement(fmt.Sprintf("device-%04d", i), ""), at(0))
	}
	var all []string
	pages := 0
	for after := ""; pages == 0 || after != ""; pages++ {
		page, err := tr.Page(after, at(1))
		if err != nil {
			t.Fatal(err)
		}
		if n := len(topics.Encode(page)); n > topics.MaxPayload {
			t.Fatalf("a page has %d bytes", n)
		}
		for _, d := range page.Devices {
			all = append(all, d.ID)
		}
		after = page.Next
	}
	if pages < 2 || len(all) != devices || !slices.IsSorted(all) || len(slices.Compact(all)) != devices {
		t.Errorf("%d devices in %d pages", len(all), pages)
	}
}
