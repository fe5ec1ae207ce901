// Package store keeps what an MQTT broker must not lose: retained messages,
// sessions with their subscriptions, queues, packet ids in use and wills.
//
// It owns the files below one directory and their format. It knows nothing of
// connections, routing or access, never decides when a session or a message
// has expired, and refuses to be asked: what it holds is read once, by Open.
// After that it is told of each change, by Append, and answers when the change
// is safe. broker/engine imports it, and nobody else but tests.
package store

import (
	"errors"
	"log/slog"
	"time"
)

// ErrFull says that the disk has no room. See Store.Append for what becomes of
// the records.
var ErrFull = errors.New("cannot write: the disk is full, make room on it")

// ErrClosed says that Append came after Close.
var ErrClosed = errors.New("cannot write: the store is closed")

// Options are the settings of a store.
type Options struct {
	// Sync is how long a change may be with the operating system alone before
	// it is on the disk too: what a power cut can take. Zero: no time at all,
	// a change is on the disk before Append's done is called.
	Sync time.Duration
	// Exclude says which topics are never written: messages that are sent again
	// each few seconds, or made up by the broker. Nil: every topic is written.
	// It gives the same answer for a topic each time.
	Exclude func(topic string) bool
	// Log is told of cut tails, a full disk and its end. Nil: nobody is.
	Log *slog.Logger

	segment int64              // segmentSize, smaller in tests
	sync    func(toSync) error // of tests, in place of fsync
}

// Message is one application message. It is never changed once it was handed
// on, so that queues, retained messages and the store share one copy: a message
// that is in several records by the same pointer is written once.
type Message struct {
	Topic      string
	Payload    []byte
	QoS        byte      // as published
	Retain     bool      // as published
	Expires    time.Time // zero: never
	Publisher  string    // client id, for "no local"; "" is the broker itself
	Properties Properties
}

// Properties are what a subscriber gets unaltered [MQTT-3.3.2-4, -15, -16,
// -17, -20]. The zero value has none of them.
type Properties struct {
	HasPayloadFormat bool
	PayloadFormat    byte
	HasContentType   bool // an empty content type is not the same as none
	ContentType      string
	ResponseTopic    string // "": none; an empty one is malformed
	Correlation      []byte // nil: none; an empty one is not nil
	User             []UserProperty
}

// UserProperty is one name and value; names may repeat and keep their order
// [MQTT-3.3.2-18].
type UserProperty struct{ Name, Value string }

// NeverExpires is the Session.Expiry of a session that does not expire
// [MQTT 5.0, 3.1.2.11.2].
const NeverExpires = 1<<32 - 1

// Record is one change of what is kept. Retain, Session, SessionGone,
// Subscribe, Unsubscribe, Enqueue, Dequeue, Sent, Received, Released and Will
// are all there are; they are used by value, not by pointer.
//
// All but Retain, Session and SessionGone belong to a session and are ignored
// while there is none by that client id: a session that went away takes with it
// what was still to be said of it. A record that changes nothing (Dequeue of
// what is not queued, say) is not written.
type Record interface{ record() }

// Retain keeps a message for its topic, in place of the one before; nil clears
// the topic.
type Retain struct {
	Topic   string
	Message *Message
}

// Session makes a session or changes one that is there, which keeps its
// subscriptions, queue, packet ids and will. One with Expiry 0 ends with its
// connection; it is kept for its will alone.
type Session struct {
	Client       string
	Version      byte   // protocol: 4 or 5
	User         string // whose session it is; access is asked for as this user
	HasUser      bool
	Listener     string
	Expiry       uint32    // seconds after Disconnected; NeverExpires
	Disconnected time.Time // zero: connected when this was written
	Cut          bool      // its connection ended with the server, not by the client
}

// SessionGone removes a session and all that belongs to it.
type SessionGone struct{ Client string }

// Subscribe adds a subscription, or replaces the one with the same filter.
type Subscribe struct {
	Client            string
	Filter            string // with $share/<name>/ where it is shared
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte
	Identifier        uint32 // 0: none
}

// Unsubscribe removes a subscription.
type Unsubscribe struct{ Client, Filter string }

// Enqueue adds a message to a session's queue. Seq is given out by the engine,
// upwards in each session; the queue is in order of Seq after a restart too. One
// with a Seq that is queued already is ignored.
type Enqueue struct {
	Client      string
	Seq         uint64
	Message     *Message
	QoS         byte     // of this delivery
	Retain      bool     // flag of this delivery
	Identifiers []uint32 // of the subscriptions that matched
	Shared      string   // filter of the shared subscription it came by; "": none
}

// Dequeue removes a message from a session's queue: it was acknowledged, or
// dropped, or it expired.
type Dequeue struct {
	Client string
	Seq    uint64
}

// Phase says how far the delivery of a queued message is.
type Phase byte

// The phases of a delivery.
const (
	Queued    Phase = iota // never sent
	Published              // PUBLISH sent: again with DUP and the same packet id
	Releasing              // PUBREC received, PUBREL sent: PUBREL again, never PUBLISH
)

// Sent says that a queued message is in flight with a packet id.
type Sent struct {
	Client   string
	Seq      uint64
	PacketID uint16
	Phase    Phase
}

// Received says that a QoS 2 PUBLISH of the session's client was taken: the
// same packet id is no new message until Released.
type Received struct {
	Client   string
	PacketID uint16
}

// Released ends Received: the client sent PUBREL.
type Released struct {
	Client   string
	PacketID uint16
}

// Will keeps the will of a session; without a Message it removes it.
type Will struct {
	Client  string
	Message *Message
	Delay   uint32 // seconds after Session.Disconnected
	Life    uint32 // seconds, its message expiry interval, after it is sent; 0: for ever
}

func (Retain) record()      {}
func (Session) record()     {}
func (SessionGone) record() {}
func (Subscribe) record()   {}
func (Unsubscribe) record() {}
func (Enqueue) record()     {}
func (Dequeue) record()     {}
func (Sent) record()        {}
func (Received) record()    {}
func (Released) record()    {}
func (Will) record()        {}

// State is everything that is kept, as Open found it. It is the caller's own,
// but for the messages.
type State struct {
	Retained []*Message     // in no order, one a topic
	Sessions []SessionState // by client id
}

// SessionState is a session and what belongs to it.
type SessionState struct {
	Session
	Subscriptions []Subscribe // by filter
	Queue         []QueuedMessage
	Received      []uint16 // packet ids of QoS 2 between PUBLISH and PUBREL, ascending
	Will          *Will    // nil: none
}

// QueuedMessage is one message of a session's queue, which is in order of Seq.
type QueuedMessage struct {
	Enqueue
	PacketID uint16 // 0 while Queued
	Phase    Phase
}
