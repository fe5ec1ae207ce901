package events_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/hub/events"
	"github.com/jmbarzee/dominion/hub/publisher"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/topics"
)

var start = time.Unix(1_800_000_000, 0)

// fixture is a log of events with a broker and a disk.
type fixture struct {
	t         *testing.T
	dir       string
	published []topics.Message
	output    bytes.Buffer
	*events.Log
}

func (h *fixture) Publish(m topics.Message) { h.published = append(h.published, m) }

func newHouse(t *testing.T) *fixture {
	h := &fixture{t: t, dir: t.TempDir()}
	h.start()
	return h
}

// start starts the hub, with what is on disk.
func (h *fixture) start() {
	log := slog.New(slog.NewTextHandler(&h.output, nil))
	s, err := store.Open(h.dir, log)
	if err != nil {
		h.t.Fatal(err)
	}
	h.Log = events.New(s, publisher.New(h, log), topics.NewTree("dominion"), log)
}

// messages returns the messages of the last events.
func (h *fixture) messages(limit int) []string {
	var all []string
	for _, e := range h.Last(limit) {
		all = append(all, e.Message)
	}
	return all
}

// An event is in the log, at the hub's topic and among the last ones; it is published as
// it was, and never retained.
func TestAdd(t *testing.T) {
	h := newHouse(t)
	h.Add(topics.Event{Type: topics.DomainLost, Domain: "kitchen", Message: "kitchen is lost", At: topics.At(start)})
	h.Add(topics.Event{Type: topics.ServiceReady, Service: "lamp", Message: "lamp is ready"})
	for i, want := range []string{"level=WARN msg=\"kitchen is lost\" event=domain_lost domain=kitchen", "level=INFO msg=\"lamp is ready\" event=service_ready service=lamp"} {
		if line := strings.Split(h.output.String(), "\n")[i]; !strings.HasSuffix(line, want) {
			t.Errorf("logged %q, want %q", line, want)
		}
	}
	last := h.Last(0)
	if len(last) != 2 || !last[0].At.Equal(start) || last[1].At.IsZero() {
		t.Fatalf("last %+v", last)
	}
	for i, m := range h.published {
		if m.Topic != "dominion/hub/event" || m.Retain || string(m.Payload) != string(topics.Encode(last[i])) {
			t.Errorf("published %+v", m)
		}
	}
}

// The last events are bounded, and asked for from the end.
func TestLast(t *testing.T) {
	h := newHouse(t)
	for i := range 250 {
		h.Add(topics.Event{Type: topics.ServiceReady, Message: fmt.Sprint(i)})
	}
	if got := h.messages(0); len(got) != 200 || got[0] != "50" || got[199] != "249" {
		t.Errorf("%d events, from %s to %s", len(got), got[0], got[len(got)-1])
	}
	for limit, want := range map[int]int{-1: 200, 1: 1, 3: 3, 200: 200, 500: 200} {
		if got := h.messages(limit); len(got) != want || got[len(got)-1] != "249" {
			t.Errorf("limit %d: %d events", limit, len(got))
		}
	}
	h.Last(1)[0].Message = "changed"
	if got := h.messages(1); got[0] != "249" {
		t.Errorf("the caller changed it to %q", got[0])
	}
}

// Refused messages are reported a few times for each cause; how many were not is reported
// when the minute is over.
func TestRefuse(t *testing.T) {
	h := newHouse(t)
	if !h.Next().IsZero() {
		t.Errorf("next is %v before anything happened", h.Next())
	}
	for range events.MaxRefusals + 5 {
		h.Refuse("a", topics.Event{Message: "a"}, start)
	}
	h.Refuse("b", topics.Event{Message: "b"}, start)
	got := h.Last(0)
	if len(got) != events.MaxRefusals+1 || got[0].Type != topics.MessageRefused || got[len(got)-1].Message != "b" {
		t.Errorf("%d events: %+v", len(got), got)
	}
	if next := h.Next(); !next.Equal(start.Add(time.Minute)) {
		t.Errorf("next after %v", next.Sub(start))
	}
	h.Expire(start.Add(59 * time.Second))
	if n := len(h.Last(0)); n != events.MaxRefusals+1 {
		t.Errorf("%d events before the minute is over", n)
	}
	h.Expire(start.Add(time.Minute))
	if got := h.messages(1); !strings.HasPrefix(got[0], "5 more messages") {
		t.Errorf("reported %q", got)
	}
	if !h.Next().IsZero() {
		t.Errorf("next after %v", h.Next().Sub(start))
	}
	h.Expire(start.Add(2 * time.Minute))
	if n := len(h.Last(0)); n != events.MaxRefusals+2 {
		t.Errorf("%d events: nothing was suppressed since", n)
	}
}

// Events of a domain that publishes too many are not relayed, those of others are.
func TestMayRelay(t *testing.T) {
	h := newHouse(t)
	relayed := 0
	for range 1000 {
		if h.MayRelay("loud", start) {
			relayed++
		}
	}
	if relayed != 300 || !h.MayRelay("quiet", start) {
		t.Errorf("%d relayed", relayed)
	}
	h.Expire(start.Add(time.Minute))
	if got := h.messages(1); len(got) != 1 || !strings.HasPrefix(got[0], "700 more messages") {
		t.Errorf("reported %q", got)
	}
}

// The last events survive a restart. They are written rarely, and not without need.
func TestSaved(t *testing.T) {
	h := newHouse(t)
	file := filepath.Join(h.dir, "events.json")
	written := func() bool {
		_, err := os.Stat(file)
		return err == nil
	}
	if next := h.SaveWhenDue(start); !next.IsZero() {
		t.Errorf("nothing happened, and it is written after %v", next.Sub(start))
	}
	h.Add(topics.Event{Type: topics.ServiceReady, Message: "one"})
	due := h.SaveWhenDue(start)
	if due.Sub(start) != 15*time.Minute {
		t.Errorf("written after %v", due.Sub(start))
	}
	h.SaveWhenDue(due.Add(-time.Second))
	if written() {
		t.Fatal("written early")
	}
	if next := h.SaveWhenDue(due); !next.IsZero() || !written() {
		t.Fatalf("next %v, written %v", next, written())
	}
	h.Add(topics.Event{Type: topics.ServiceReady, Message: "two"})
	if next := h.SaveWhenDue(due.Add(time.Minute)); next.Sub(due) != 15*time.Minute {
		t.Errorf("the next is written after %v", next.Sub(due))
	}
	h.Save(due.Add(time.Minute)) // the hub stops
	h.start()
	if got := h.messages(0); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("after a restart: %q", got)
	}
}

// The file is bounded: the oldest events are left out of it.
func TestFileIsBounded(t *testing.T) {
	h := newHouse(t)
	long := strings.Repeat("x", 1000)
	for i := range 200 {
		h.Add(topics.Event{Type: topics.ServiceReady, Message: fmt.Sprint(i, long)})
	}
	h.Save(start)
	info, err := os.Stat(filepath.Join(h.dir, "events.json"))
	if err != nil || info.Size() > 64<<10 || info.Size() < 60<<10 {
		t.Fatalf("the file: %v, %v", info, err)
	}
	h.start()
	got := h.messages(0)
	if len(got) < 50 || len(got) > 64 || !strings.HasPrefix(got[len(got)-1], "199") {
		t.Errorf("%d events after a restart", len(got))
	}
}

// A disk that takes nothing is a warning in the log and no event, and is tried again
// only with the next event.
func TestDiskThatTakesNothing(t *testing.T) {
	h := newHouse(t)
	if err := os.Mkdir(filepath.Join(h.dir, "events.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.Add(topics.Event{Type: topics.ServiceReady, Message: "one"})
	h.Save(start)
	if !strings.Contains(h.output.String(), "level=WARN msg=\"the last events are not kept") {
		t.Errorf("logged %s", h.output.String())
	}
	if got := h.messages(0); !slices.Equal(got, []string{"one"}) {
		t.Errorf("events %q", got)
	}
	if next := h.SaveWhenDue(start.Add(time.Hour)); !next.IsZero() {
		t.Errorf("it is tried again at %v", next)
	}
}
