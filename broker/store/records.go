package store

import "time"

// Message is an application message. It is immutable once it was passed on, so that
// queues, retained messages and the store share one copy: a message that is in several
// records by the same pointer is written once.
type Message struct {
	Topic   string
	Payload []byte
	// QoS and Retain are as published.
	QoS    byte
	Retain bool
	// Expires is zero if the message does not expire.
	Expires time.Time
	// Publisher is the client identifier, for "no local"; "": the broker itself.
	Publisher  string
	Properties Properties
}

// Properties are those that a subscriber gets unaltered [MQTT-3.3.2-4, -15, -16, -17,
// -20]. The zero value has none.
type Properties struct {
	HasPayloadFormat bool
	PayloadFormat    byte
	// HasContentType distinguishes an empty content type from none.
	HasContentType bool
	ContentType    string
	// ResponseTopic is "" if there is none; an empty one is malformed.
	ResponseTopic string
	// Correlation is nil if there is none; an empty one is not nil.
	Correlation []byte
	User        []UserProperty
}

// UserProperty is a name with a value; names may repeat, and their order is preserved
// [MQTT-3.3.2-18].
type UserProperty struct{ Name, Value string }

// NeverExpires is the Session.Expiry of a session that does not expire (MQTT 5.0,
// 3.1.2.11.2).
const NeverExpires = 1<<32 - 1

// Record is one change of the state. The records are Retain, Session, SessionGone,
// Subscribe, Unsubscribe, Enqueue, Dequeue, Sent, Received, Released and Will; they
// are used by value, not by pointer.
//
// All but Retain, Session and SessionGone belong to a session, and are ignored if
// there is none with that client identifier. A record without effect, such as Dequeue
// of what is not queued, is not written.
type Record interface{ record() }

// Retain sets the retained message of a topic; nil clears it.
type Retain struct {
	Topic   string
	Message *Message
}

// Session adds a session, or changes an existing one, whose subscriptions, queue,
// packet identifiers and will stay. A session with Expiry 0 ends with its connection;
// it is stored for its will only.
type Session struct {
	Client string
	// Version is the protocol level: 4 or 5.
	Version byte
	// User is the user as whom access is decided.
	User     string
	HasUser  bool
	Listener string
	// Expiry is in seconds after Disconnected, or NeverExpires.
	Expiry uint32
	// Disconnected is zero if it was connected when this was written.
	Disconnected time.Time
	// EndedByServer is set if its connection ended with the server, not by the client.
	EndedByServer bool
}

// SessionGone removes a session and all that belongs to it.
type SessionGone struct{ Client string }

// Subscribe adds a subscription, or replaces the one with the same filter.
type Subscribe struct {
	Client string
	// Filter includes $share/<name>/ if it is shared.
	Filter            string
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte
	// Identifier is 0 if there is none.
	Identifier uint32
}

// Unsubscribe removes a subscription.
type Unsubscribe struct{ Client, Filter string }

// Enqueue adds a message to a session's queue. Seq is assigned by the engine,
// ascending in each session; the queue is ordered by Seq, after a restart too. A Seq
// that is queued already is ignored.
type Enqueue struct {
	Client  string
	Seq     uint64
	Message *Message
	// QoS and Retain are those of this delivery.
	QoS    byte
	Retain bool
	// Identifiers are those of the subscriptions that matched.
	Identifiers []uint32
	// Shared is the filter of the shared subscription that matched; "": none.
	Shared string
}

// Dequeue removes a message from a session's queue: it was acknowledged, dropped, or
// has expired.
type Dequeue struct {
	Client string
	Seq    uint64
}

// Phase is the progress of the delivery of a queued message.
type Phase byte

// The phases of a delivery.
const (
	// Queued: never sent.
	Queued Phase = iota
	// Published: PUBLISH was sent; it is sent again with DUP and the same packet
	// identifier.
	Published
	// Releasing: PUBREC was received and PUBREL sent; PUBREL is sent again, never
	// PUBLISH.
	Releasing
)

// Sent means that a queued message is in flight with a packet identifier.
type Sent struct {
	Client   string
	Seq      uint64
	PacketID uint16
	Phase    Phase
}

// Received means that a QoS 2 PUBLISH of the session's client was accepted: until
// Released, the same packet identifier is not a new message.
type Received struct {
	Client   string
	PacketID uint16
}

// Released ends Received: the client sent PUBREL.
type Released struct {
	Client   string
	PacketID uint16
}

// Will sets the will of a session; without a Message it removes it.
type Will struct {
	Client  string
	Message *Message
	// Delay is in seconds after Session.Disconnected.
	Delay uint32
	// ExpiryInterval is the message expiry interval in seconds after it is sent; 0: it
	// does not expire.
	ExpiryInterval uint32
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

// State is everything that is stored, as Open found it. It belongs to the caller,
// except for the messages.
type State struct {
	// Retained has one message for each topic, in no order.
	Retained []*Message
	// Sessions are ordered by client identifier.
	Sessions []SessionState
}

// SessionState is a session and what belongs to it.
type SessionState struct {
	Session
	// Subscriptions are ordered by filter.
	Subscriptions []Subscribe
	Queue         []QueuedMessage
	// Received are packet identifiers of QoS 2 between PUBLISH and PUBREL, ascending.
	Received []uint16
	// Will is nil if there is none.
	Will *Will
}

// QueuedMessage is a message of a session's queue, which is ordered by Seq.
type QueuedMessage struct {
	Enqueue
	// PacketID is 0 while Queued.
	PacketID uint16
	Phase    Phase
}

// Client returns the client identifier of a record that belongs to a session; "" for
// other records.
func Client(r Record) string {
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

// NeedsSpace reports whether a batch needs space on disk, and so is refused with ErrFull
// when there is none. One that only removes or advances something is always accepted.
func NeedsSpace(records []Record) bool {
	for _, r := range records {
		switch r := r.(type) {
		case Session, Subscribe, Enqueue, Received:
			return true
		case Retain:
			if r.Message != nil {
				return true
			}
		case Will:
			if r.Message != nil {
				return true
			}
		}
	}
	return false
}
