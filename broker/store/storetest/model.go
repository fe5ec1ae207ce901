package storetest

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/broker/store"
)

// Model is the state that records lead to, computed in the plainest way. It is what
// Memory holds, and what the files of a Store are tested against. Make it with
// NewModel.
type Model struct {
	retained map[string]*store.Message
	sessions map[string]*session
}

// session is a session of a Model.
type session struct {
	settings      store.Session
	subscriptions map[string]store.Subscribe
	queue         map[uint64]*store.QueuedMessage
	received      map[uint16]struct{}
	will          *store.Will
}

// NewModel returns the state of an empty store.
func NewModel() *Model {
	return &Model{retained: map[string]*store.Message{}, sessions: map[string]*session{}}
}

// Apply applies a record. One of a session that does not exist has no effect.
func (m *Model) Apply(r store.Record) {
	switch r := r.(type) {
	case store.Retain:
		if r.Message == nil {
			delete(m.retained, r.Topic)
		} else {
			m.retained[r.Topic] = r.Message
		}
	case store.Session:
		if s := m.sessions[r.Client]; s != nil {
			s.settings = r
		} else {
			m.sessions[r.Client] = &session{
				settings: r, subscriptions: map[string]store.Subscribe{},
				queue: map[uint64]*store.QueuedMessage{}, received: map[uint16]struct{}{},
			}
		}
	case store.SessionGone:
		delete(m.sessions, r.Client)
	default:
		if s := m.sessions[store.Client(r)]; s != nil {
			s.apply(r)
		}
	}
}

// apply applies a record of the session.
func (s *session) apply(r store.Record) {
	switch r := r.(type) {
	case store.Subscribe:
		s.subscriptions[r.Filter] = r
	case store.Unsubscribe:
		delete(s.subscriptions, r.Filter)
	case store.Enqueue:
		if s.queue[r.Seq] == nil && r.Message != nil {
			s.queue[r.Seq] = &store.QueuedMessage{Enqueue: r}
		}
	case store.Dequeue:
		delete(s.queue, r.Seq)
	case store.Sent:
		if q := s.queue[r.Seq]; q != nil {
			q.PacketID, q.Phase = r.PacketID, r.Phase
		}
	case store.Received:
		s.received[r.PacketID] = struct{}{}
	case store.Released:
		delete(s.received, r.PacketID)
	case store.Will:
		s.will = nil
		if r.Message != nil {
			s.will = &r
		}
	}
}

// State returns a copy of the state.
func (m *Model) State() store.State {
	state := store.State{Retained: slices.Collect(maps.Values(m.retained))}
	for _, s := range m.sessions {
		one := store.SessionState{
			Session:       s.settings,
			Subscriptions: slices.Collect(maps.Values(s.subscriptions)),
			Received:      slices.Sorted(maps.Keys(s.received)),
			Will:          s.will,
		}
		for _, q := range s.queue {
			one.Queue = append(one.Queue, *q)
		}
		slices.SortFunc(one.Subscriptions, func(a, b store.Subscribe) int { return strings.Compare(a.Filter, b.Filter) })
		slices.SortFunc(one.Queue, func(a, b store.QueuedMessage) int { return cmp.Compare(a.Seq, b.Seq) })
		state.Sessions = append(state.Sessions, one)
	}
	slices.SortFunc(state.Sessions, func(a, b store.SessionState) int { return strings.Compare(a.Client, b.Client) })
	return state
}
