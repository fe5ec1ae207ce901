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

// verify has a message verified, and then taken, unless the domain has another key by then.
// then runs beside the loop, and returns what the loop does with the message.
func verify[T any](h *Hub, r received, then func(v T) (take func(now time.Time) error), now time.Time) error {
	dominion, m := h.ID(), r.message
	return h.beside(workqueue.Work{
		Domain: r.by.ID, Source: m.Topic + " " + m.User + " " + m.Client, Size: len(m.Payload),
		Run: func() (func(time.Time), error) {
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
					h.refuse(r, err, now)
				}
			}, nil
		},
		Failed: func(err error, now time.Time) { h.refuse(r, err, now) },
	}, now)
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
