package store

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// mirror is State while it is built: what each record means, said once. It is
// the memory store, and what the files are tested against.
type mirror struct {
	retained map[string]*Message
	sessions map[string]*mirrored
}

type mirrored struct {
	session       Session
	subscriptions map[string]Subscribe
	queue         map[uint64]*QueuedMessage
	received      map[uint16]struct{}
	will          *Will
}

func newMirror() *mirror {
	return &mirror{retained: map[string]*Message{}, sessions: map[string]*mirrored{}}
}

func (m *mirror) apply(r Record) {
	switch r := r.(type) {
	case Retain:
		if r.Message == nil {
			delete(m.retained, r.Topic)
		} else {
			m.retained[r.Topic] = r.Message
		}
	case Session:
		if s := m.sessions[r.Client]; s != nil {
			s.session = r
		} else {
			m.sessions[r.Client] = &mirrored{session: r}
		}
	case SessionGone:
		delete(m.sessions, r.Client)
	default:
		if s := m.sessions[client(r)]; s != nil {
			s.apply(r)
		}
	}
}

// client returns the client id of a record that belongs to a session.
func client(r Record) string {
	switch r := r.(type) {
	case Subscribe:
		return r.Client
	case Unsubscribe:
		return r.Client
	case Enqueue:
		return r.Client
	case Dequeue:
		return r.Client
	case Sent:
		return r.Client
	case Received:
		return r.Client
	case Released:
		return r.Client
	case Will:
		return r.Client
	case Session:
		return r.Client
	case SessionGone:
		return r.Client
	}
	return ""
}

// set makes the map with its first entry: most of 10,000 sessions lack most of
// the four.
func set[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}

func (s *mirrored) apply(r Record) {
	switch r := r.(type) {
	case Subscribe:
		set(&s.subscriptions, r.Filter, r)
	case Unsubscribe:
		delete(s.subscriptions, r.Filter)
	case Enqueue:
		if s.queue[r.Seq] == nil && r.Message != nil {
			set(&s.queue, r.Seq, &QueuedMessage{Enqueue: r})
		}
	case Dequeue:
		delete(s.queue, r.Seq)
	case Sent:
		if q := s.queue[r.Seq]; q != nil {
			q.PacketID, q.Phase = r.PacketID, r.Phase
		}
	case Received:
		set(&s.received, r.PacketID, struct{}{})
	case Released:
		delete(s.received, r.PacketID)
	case Will:
		s.will = nil
		if r.Message != nil {
			s.will = &r
		}
	}
}

// state copies the mirror.
func (m *mirror) state() State {
	state := State{Retained: slices.Collect(maps.Values(m.retained))}
	for _, s := range m.sessions {
		one := SessionState{
			Session:       s.session,
			Subscriptions: slices.Collect(maps.Values(s.subscriptions)),
			Received:      slices.Sorted(maps.Keys(s.received)),
			Will:          s.will,
		}
		for _, q := range s.queue {
			one.Queue = append(one.Queue, *q)
		}
		slices.SortFunc(one.Subscriptions, func(a, b Subscribe) int { return strings.Compare(a.Filter, b.Filter) })
		slices.SortFunc(one.Queue, func(a, b QueuedMessage) int { return cmp.Compare(a.Seq, b.Seq) })
		state.Sessions = append(state.Sessions, one)
	}
	slices.SortFunc(state.Sessions, func(a, b SessionState) int { return strings.Compare(a.Client, b.Client) })
	return state
}
