package hub

import (
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/hub/workqueue"
	"github.com/jmbarzee/dominion/identity"
	protocol "github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// What a domain that has a key publishes is believed only if that key has signed it,
// wherever it comes from: join, status, event and response. What can be compared is compared
// first; signatures are verified beside the loop, in the order of the domain's messages.

// received is a message of a domain that must be signed.
type received struct {
	kind    topics.Kind
	message topics.Message
	// by is the domain whose key must have signed it.
	by protocol.Member
	// key is that of workqueue.Work; "": none.
	key string
	// until is when nobody waits for it any more; zero: it is done in any case.
	until time.Time
}

// head returns what is compared of a message before it is verified.
func (r received) head() (topics.SenderHead, error) {
	if !signed.IsSigned(r.message.Payload) {
		return topics.SenderHead{}, fmt.Errorf("cannot take %s: it is not signed by %s, which has a key", r.message.Topic, r.by.Name)
	}
	payload, err := signed.Unverified(r.message.Payload)
	if err != nil {
		return topics.SenderHead{}, err
	}
	return topics.Decode[topics.SenderHead](r.message.Topic, payload)
}

// open verifies a message, and returns what it says. It runs beside the loop.
func open[T any](r received, dominion string) (v T, err error) {
	key, err := identity.ParsePublicKey(r.by.Key)
	if err != nil {
		return v, err
	}
	c := signed.Context{Kind: r.kind.SignedKind(), Dominion: dominion, Domain: r.by.ID}
	payload, err := signed.Verify(key, c, r.message.Payload)
	if err == nil {
		err = signed.CheckNames[T](payload)
	}
	if err == nil {
		return topics.Decode[T](r.message.Topic, payload)
	}
	return v, fmt.Errorf("cannot take %s, which is not of %s: %w", r.message.Topic, r.by.Name, err)
}

// source is what senders of wrong signatures are told apart by. A user is one, whatever client
// identifiers it shows: else one could be so many that all are rate limited.
func (r received) source() string { return r.message.Topic + " " + r.by.ID + " " + asker(r.message) }

// verify has a message verified, and then taken, unless the domain has another key by then.
// then runs beside the loop, and returns what the loop does with the message.
func verify[T any](h *Hub, r received, then func(v T) (take func(now time.Time) error), now time.Time) error {
	dominion, m := h.ID(), r.message
	return h.beside(workqueue.Work{
		Domain: r.by.ID, Source: r.source(), Key: r.key, Size: len(m.Payload),
		Run: func() (func(time.Time), error) {
			if !r.until.IsZero() && time.Now().After(r.until) {
				return func(time.Time) {}, nil
			}
			v, err := open[T](r, dominion)
			if err != nil {
				return nil, err
			}
			take := then(v)
			return func(now time.Time) {
				if h.adoption.Members()[r.by.ID].KeyHash != r.by.KeyHash {
					return
				}
				if err := take(now); err != nil {
					h.signed.Suspect(r.source(), now)
					h.refuse(r, err, now)
				}
			}, nil
		},
		Failed: func(err error, now time.Time) {
			h.repair(r)
			h.refuse(r, err, now)
		},
	}, now)
}

// signerOf returns the domain whose key must have signed what is published at a topic; false:
// nobody's, as it is of another kind, or of a domain without a key.
func (h *Hub) signerOf(a topics.Address) (protocol.Member, bool) {
	switch a.Kind {
	case topics.DomainStatus, topics.DomainEvent, topics.DomainResponse:
		return h.memberOf(a.Domain)
	}
	return protocol.Member{}, false
}

// memberOf returns the adopted domain of a name.
func (h *Hub) memberOf(name string) (protocol.Member, bool) {
	id, is := h.adoption.byName[name]
	if !is {
		return protocol.Member{}, false
	}
	m, is := h.adoption.Members()[id]
	return m, is && m.Name == name
}

// receiveSigned takes a status, an event or a response of a domain that has a key. What was
// replayed is refused by its session and number, before anything is verified.
func (h *Hub) receiveSigned(r received, now time.Time) error {
	head, err := r.head()
	if err != nil {
		h.repair(r)
		return err
	}
	if worth, err := h.compareSigned(r, head); !worth {
		return err
	}
	switch r.kind {
	case topics.DomainStatus:
		return verify(h, r, func(s topics.Domain) func(time.Time) error {
			return func(now time.Time) error { return h.takeSignedStatus(r, s, now) }
		}, now)
	case topics.DomainEvent:
		return verify(h, r, func(e topics.Event) func(time.Time) error {
			return func(now time.Time) error { return h.takeSignedEvent(r, e, now) }
		}, now)
	default:
		return verify(h, r, func(a topics.Reply) func(time.Time) error {
			return func(now time.Time) error {
				h.response(r.by.Name, a)
				return nil
			}
		}, now)
	}
}

// compareSigned reports whether a message is worth a verification, and why it is not; nil: that
// is no news.
func (h *Hub) compareSigned(r received, head topics.SenderHead) (worth bool, err error) {
	d := h.fleet.Get(r.by.Name)
	switch {
	case r.kind == topics.DomainResponse:
		return h.pending.commands.Awaits(r.by.Name, head.Transaction), nil
	case r.kind == topics.DomainStatus && d == nil:
		return true, nil
	case r.kind == topics.DomainStatus:
		if s := d.Status; s != nil && head.Session == s.Session && head.Seq == s.Seq {
			return false, nil // the same once more
		}
		err = d.CompareStatus(head.Session, head.Seq)
	case d == nil:
		return false, nil
	default:
		err = d.CompareEvent(head.Session, head.Seq)
	}
	if err == nil {
		return true, nil
	}
	if r.message.Retain {
		return false, nil // of before the hub was started
	}
	h.repair(r)
	return false, fmt.Errorf("cannot take %s of %s: %w", r.message.Topic, r.by.Name, err)
}

// takeSignedStatus takes the status of a domain that has signed it.
func (h *Hub) takeSignedStatus(r received, s topics.Domain, now time.Time) error {
	if s.Micro || s.ID != r.by.ID {
		return fmt.Errorf("cannot take %s: %s has a key, and is no microdomain and no other domain", r.message.Topic, r.by.Name)
	}
	if d := h.fleet.Get(r.by.Name); d != nil {
		if err := d.CompareStatus(s.Session, s.Seq); err != nil {
			return nil // another one came in between
		}
	}
	err := h.domainStatus(r.by.Name, s, r.message, now)
	if h.fleet.SetUnreadable(r.by.Name, err, now) {
		h.touch(r.by.Name)
	}
	return err
}

// takeSignedEvent takes an event of a domain that has signed it.
func (h *Hub) takeSignedEvent(r received, e topics.Event, now time.Time) error {
	d := h.fleet.Get(r.by.Name)
	if d == nil || d.CompareEvent(e.Session, e.Seq) != nil {
		return nil
	}
	d.AcceptEvent(e.Session, e.Seq)
	return h.passOn(r.by.Name, r.message.Topic, e, now)
}

// repair has a domain publish its status again that somebody else has overwritten.
func (h *Hub) repair(r received) {
	if d := h.fleet.Get(r.by.Name); d != nil && r.kind == topics.DomainStatus && !r.message.Retain {
		d.StatusOverwritten()
	}
}

// refuse reports that a message is not believed, at a bounded rate.
func (h *Hub) refuse(r received, err error, now time.Time) {
	h.schedule.sooner = true
	h.events.Refuse(r.message.Topic, topics.Event{Domain: r.by.Name, Message: err.Error()}, now)
}

// beside has work of a domain done beside the loop.
func (h *Hub) beside(w workqueue.Work, now time.Time) error {
	err := h.signed.Add(w, now)
	h.stepSigned()
	return err
}

// stepSigned begins the work that may begin.
func (h *Hub) stepSigned() {
	for next := h.signed.Take(); next != nil; next = h.signed.Take() {
		h.work.ended.Go(func() { h.box.PutAlways(next()) })
	}
}
