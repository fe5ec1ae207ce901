package store

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// mirror is a state that is being built from records. It is what Memory holds, and
// what the files are tested against.
type mirror struct {
	retained map[string]*Message
	sessions map[string]*mirroredSession
}

// mirroredSession is a session in a mirror.
type mirroredSession struct {
	session       Session
	subscriptions map[string]Subscribe
	queue         map[uint64]*QueuedMessage
	received      map[uint16]struct{}
	will          *Will
}

func newMirror() *mirror {
	return &mirror{retained: map[string]*Message{}, sessions: map[string]*mirroredSession{}}
}

// apply applies a record.
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
			m.sessions[r.Client] = &mirroredSession{session: r}
		}
	case SessionGone:
		delete(m.sessions, r.Client)
	default:
		if s := m.sessions[client(r)]; s != nil {
			s.apply(r)
		}
	}
}

// apply applies a record of the session.
func (s *mirroredSession) apply(r Record) {
	switch r := r.(type) {
	case Subscribe:
		setEntry(&s.subscriptions, r.Filter, r)
	case Unsubscribe:
		delete(s.subscriptions, r.Filter)
	case Enqueue:
		if s.queue[r.Seq] == nil && r.Message != nil {
			setEntry(&s.queue, r.Seq, &QueuedMessage{Enqueue: r})
		}
	case Dequeue:
		delete(s.queue, r.Seq)
	case Sent:
		if q := s.queue[r.Seq]; q != nil {
			q.PacketID, q.Phase = r.PacketID, r.Phase
		}
	case Received:
		setEntry(&s.received, r.PacketID, struct{}{})
	case Released:
		delete(s.received, r.PacketID)
	case Will:
		s.will = nil
		if r.Message != nil {
			s.will = &r
		}
	}
}

// state returns a copy.
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
