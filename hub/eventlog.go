package hub

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/topics"
)

// The last events can be requested, also after a restart of the hub.
const (
	eventsKept     = 200              // events at most
	eventsFile     = "events.json"    // in data_dir
	eventsFileSize = 64 << 10         // bytes of the file at most, about; the oldest are left out
	eventsInterval = 15 * time.Minute // between two writes of the file, for the sake of SD cards
)

// eventLog holds the last events, oldest first, and when they are to be written.
type eventLog struct {
	recent  []topics.Event
	unsaved bool
	saveAt  time.Time // not sooner
}

// readEventLog returns the events that an earlier run of the hub has written.
func readEventLog(s *store.Store, log *slog.Logger) eventLog {
	all := store.ReadNote[[]topics.Event](s, eventsFile, log)
	return eventLog{recent: slices.Clone(all[max(0, len(all)-eventsKept):])}
}

// event says what happened: to the log, to those who listen, and to those who
// ask later.
func (h *Hub) event(e topics.Event) {
	if e.At.IsZero() {
		e.At = topics.At(time.Now())
	}
	words := []any{"event", e.Type}
	if e.Domain != "" {
		words = append(words, "domain", e.Domain)
	}
	if e.Service != "" {
		words = append(words, "service", e.Service)
	}
	h.log.Log(context.Background(), level(e.Type), e.Message, words...)
	l := &h.events
	if len(l.recent) >= eventsKept {
		l.recent = append(l.recent[:0], l.recent[1:]...)
	}
	l.recent, l.unsaved = append(l.recent, e), true
	h.pub.Publish(h.tree.Message(topics.Address{Kind: topics.HubEvent}, topics.Encode(e)))
}

// level tells what needs a human, or may, from what just happened.
func level(t topics.EventType) slog.Level {
	switch t {
	case topics.HubProblem, topics.ConfigRefused, topics.CertificateExpires, topics.EpochRaised, topics.DomainLost, topics.DomainRefused, topics.DomainProblem,
		topics.ServiceUnhealthy, topics.ServiceCrashed, topics.ServiceFailed, topics.ServiceReverted, topics.CommandRefused, topics.MessageRefused:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

func (h *Hub) eventOf(d *domain, t topics.EventType, message string) {
	h.event(topics.Event{Type: t, Domain: d.name, Message: message})
}

// saveEventsWhenDue writes the last events at most once in eventsInterval, and
// within the budget of all notes.
func (h *Hub) saveEventsWhenDue(now time.Time) {
	l := &h.events
	if !l.unsaved {
		return
	}
	if l.saveAt.IsZero() {
		l.saveAt = now.Add(eventsInterval)
	}
	if next := h.store.NextNote(now); !now.Before(l.saveAt) && next.After(now) {
		l.saveAt = next
	}
	if now.Before(l.saveAt) {
		h.due(l.saveAt)
		return
	}
	h.saveEvents(now)
}

// saveEvents writes the last events. A disk that does not take them is a
// warning: an event about it would be one more to write.
func (h *Hub) saveEvents(now time.Time) {
	l := &h.events
	if !l.unsaved {
		return
	}
	l.unsaved, l.saveAt = false, now.Add(eventsInterval)
	if err := h.store.WriteNote(eventsFile, newest(l.recent, eventsFileSize)); err != nil {
		h.log.Warn("the last events are not kept over a restart of the hub", "error", err)
	}
}

// newest returns the last of the events that a file of about size bytes holds.
func newest(all []topics.Event, size int) []topics.Event {
	for i := len(all) - 1; i >= 0; i-- {
		b, err := json.MarshalIndent(all[i], "  ", "  ")
		if size -= len(b) + len("  ,\n"); err != nil || size < len("[\n]\n") {
			return all[i+1:]
		}
	}
	return all
}

func (h *Hub) lastEvents(limit int) []topics.Event {
	recent := h.events.recent
	if limit <= 0 || limit > len(recent) {
		limit = len(recent)
	}
	return slices.Clone(recent[len(recent)-limit:])
}
