// Package events reports what happened: to the log, to those who subscribe to the
// hub's events, and to those who ask for the last ones later, also after a restart of
// the hub. It bounds how often refused messages are reported.
//
// It does not decide what an event is. Package hub alone imports it, and calls it from
// its loop.
package events

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/hub/publisher"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/internal/ratelimit"
	"github.com/jmbarzee/dominion/topics"
)

const (
	maxEvents    = 200              // that can be asked for
	file         = "events.json"    // in data_dir
	maxFileSize  = 64 << 10         // bytes, about; the oldest events are left out
	saveInterval = 15 * time.Minute // between two writes of the file, for the sake of SD cards
)

// How many reports a minute there are.
const (
	MaxRefusals      = 20     // of refused messages of one cause
	maxRefusalsTotal = 200    // of all causes
	maxRelayed       = 300    // of events of one domain: far more than a start of fifty services
	maxRelayedTotal  = 20_000 // of all domains
)

// Log holds the last events, oldest first. Make it with New.
type Log struct {
	log   *slog.Logger
	pub   *publisher.Publisher
	tree  topics.Tree
	store *store.Store

	recent  []topics.Event
	unsaved bool
	// saveAt is the earliest time of the next write.
	saveAt time.Time

	refusals *ratelimit.Window
	relayed  *ratelimit.Window
}

// New returns a log that begins with the events that an earlier run of the hub wrote.
func New(s *store.Store, pub *publisher.Publisher, tree topics.Tree, log *slog.Logger) *Log {
	all := store.ReadNote[[]topics.Event](s, file, log)
	return &Log{
		log: log, pub: pub, tree: tree, store: s,
		recent:   slices.Clone(all[max(0, len(all)-maxEvents):]),
		refusals: ratelimit.New(maxRefusalsTotal), relayed: ratelimit.New(maxRelayedTotal),
	}
}

// Add reports an event. Where it has no time, it is now.
func (l *Log) Add(e topics.Event) {
	if e.At.IsZero() {
		e.At = topics.At(time.Now())
	}
	attributes := []any{"event", e.Type}
	if e.Domain != "" {
		attributes = append(attributes, "domain", e.Domain)
	}
	if e.Service != "" {
		attributes = append(attributes, "service", e.Service)
	}
	l.log.Log(context.Background(), level(e.Type), e.Message, attributes...)
	if len(l.recent) >= maxEvents {
		l.recent = append(l.recent[:0], l.recent[1:]...)
	}
	l.recent, l.unsaved = append(l.recent, e), true
	l.pub.Publish(l.tree.Message(topics.Address{Kind: topics.HubEvent}, topics.Encode(e)))
}

// level is higher for what needs a person, or may.
func level(t topics.EventType) slog.Level {
	switch t {
	case topics.HubProblem, topics.ConfigRefused, topics.CertificateExpires, topics.EpochRaised, topics.DomainLost, topics.DomainRefused, topics.DomainProblem, topics.AdoptionRefused, topics.DomainCopied, topics.DomainRevoked,
		topics.ServiceUnhealthy, topics.ServiceCrashed, topics.ServiceFailed, topics.ServiceReverted, topics.CommandRefused, topics.MessageRefused:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// Refuse reports why a message is not obeyed, MaxRefusals times a minute for a cause.
func (l *Log) Refuse(cause string, e topics.Event, now time.Time) {
	if !l.MayReport(cause, MaxRefusals, now) {
		return
	}
	e.Type = topics.MessageRefused
	l.Add(e)
}

// MayReport reports whether there may be one more report of a cause, of which there
// are at most max a minute.
func (l *Log) MayReport(cause string, max int, now time.Time) bool {
	return l.refusals.Allow(cause, max, now)
}

// MayRelay reports whether one more event of a domain may be relayed.
func (l *Log) MayRelay(domain string, now time.Time) bool {
	return l.relayed.Allow(domain, maxRelayed, now)
}

// Last returns the last events, oldest first; with limit 0 all that are held.
func (l *Log) Last(limit int) []topics.Event {
	if limit <= 0 || limit > len(l.recent) {
		limit = len(l.recent)
	}
	return slices.Clone(l.recent[len(l.recent)-limit:])
}

// Expire reports how much was not reported in the minute that is over.
func (l *Log) Expire(now time.Time) {
	if n := l.refusals.Expire(now) + l.relayed.Expire(now); n > 0 {
		l.Add(topics.Event{Type: topics.MessageRefused, Message: fmt.Sprintf("%d more messages of the last minute were refused or not passed on; the first of them were reported", n)})
	}
}

// Next returns when Expire has something to do; zero: not by itself.
func (l *Log) Next() (next time.Time) {
	for _, w := range []*ratelimit.Window{l.refusals, l.relayed} {
		if at := w.Next(); !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// SaveWhenDue writes the last events at most once in saveInterval, within the budget of
// all notes. It returns when they are to be written; zero: all is written.
func (l *Log) SaveWhenDue(now time.Time) (next time.Time) {
	if !l.unsaved {
		return time.Time{}
	}
	if l.saveAt.IsZero() {
		l.saveAt = now.Add(saveInterval)
	}
	if next := l.store.NextNote(now); !now.Before(l.saveAt) && next.After(now) {
		l.saveAt = next
	}
	if now.Before(l.saveAt) {
		return l.saveAt
	}
	l.Save(now)
	return time.Time{}
}

// Save writes the last events. A disk that does not take them is a warning: an event
// about it would be one more to write.
func (l *Log) Save(now time.Time) {
	if !l.unsaved {
		return
	}
	l.unsaved, l.saveAt = false, now.Add(saveInterval)
	if err := l.store.WriteNote(file, newest(l.recent, maxFileSize)); err != nil {
		l.log.Warn("the last events are not kept over a restart of the hub", "error", err)
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
