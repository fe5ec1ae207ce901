// Package signatures verifies the signed orders of the hub for a domain that has pinned
// an authority: start commands and commands, and the hub's status. It holds the hub keys that were verified,
// the orders that wait to be verified, and those whose hub is not verified yet.
//
// It decides what is verified, in which order and how often: what was wrong before, or can be
// replayed without end, is rate limited. The loop runs the verifications beside itself. Whether a verified order is obeyed is package agent/orders's
// matter. It does no I/O and reads no clock. Only package agent imports it.
package signatures

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// What may wait: whoever controls the broker can send any number of orders.
const (
	maxWaiting      = 64
	maxWaitingBytes = 8 << 20
	maxHubs         = 64
)

// Order is an order as it came, or a status of the hub.
type Order struct {
	ConnID  int
	Kind    topics.Kind
	Message topics.Message
	Head    topics.SignedHead
	// Payload is what was signed, without the signature. It is set once that was verified.
	Payload []byte
}

// Signatures verifies the orders to one domain. Make it with New.
type Signatures struct {
	// domain is the id of this domain.
	domain string
	// verifier is by what the domain has pinned; nil: it has pinned nothing.
	verifier *identity.Verifier
	// hubs are the keys of hubs that were verified, by hash.
	hubs map[string]*ecdsa.PublicKey
	// certificate is the payload of hub/certificate that was verified last.
	certificate string

	// queue waits to be verified, one after the other; busy is set while one is.
	queue []work
	busy  bool
	// held are orders whose hub is not verified yet.
	held     []Order
	throttle signed.Throttle
}

// work is what is verified: an order by its hub's key, or a certificate of a hub.
type work struct {
	order *Order
	key   *ecdsa.PublicKey
	// certificate is a payload of hub/certificate at a topic; order is nil.
	certificate []byte
	topic       string
	verifier    *identity.Verifier
}

// Result is the result of a verification, for Done.
type Result struct {
	work work
	peer identity.Peer
	// payload is what was signed.
	payload []byte
	err     error
}

// New returns Signatures of a domain that has pinned nothing.
func New(domain string) *Signatures {
	return &Signatures{domain: domain, hubs: make(map[string]*ecdsa.PublicKey)}
}

// Pin notes by what hubs are verified from now on; nil: the domain has pinned nothing. Hubs that
// were verified by something else do not count any more.
func (s *Signatures) Pin(v *identity.Verifier) {
	s.verifier, s.certificate = v, ""
	clear(s.hubs)
	s.Drop()
}

// SetVerifier notes a newer key list of the dominion that is pinned. Hubs that it does not
// list do not count any more, nor do their orders that wait.
func (s *Signatures) SetVerifier(v *identity.Verifier) {
	s.verifier = v
	for key := range s.hubs {
		if !s.Counts(key) {
			delete(s.hubs, key)
		}
	}
	s.held = slices.DeleteFunc(s.held, func(o Order) bool { return !s.Counts(o.Head.Key) })
	s.queue = slices.DeleteFunc(s.queue, func(w work) bool { return w.order != nil && !s.Counts(w.order.Head.Key) })
	for i := range s.queue {
		s.queue[i].verifier = v
	}
}

// Required reports whether orders must be signed: the domain has pinned an authority.
func (s *Signatures) Required() bool { return s.verifier != nil }

// Counts reports whether the orders of a hub's key count: it is in the key list.
func (s *Signatures) Counts(key string) bool {
	return s.verifier != nil && (s.verifier.Keys == nil || s.verifier.Keys.HasHub(key) && !s.verifier.Keys.IsRevoked(key))
}

// Drop drops the orders that wait, because the connection that they came by is over or
// they were cleared.
func (s *Signatures) Drop() { s.queue, s.held = nil, nil }

// DropHeld drops the start commands that are held, because they were cleared.
func (s *Signatures) DropHeld() {
	s.held = slices.DeleteFunc(s.held, func(o Order) bool { return o.Kind == topics.DomainServicesSet })
}

// AddHub notes a hub that was verified otherwise: by the handshake of TLS.
func (s *Signatures) AddHub(p identity.Peer) {
	if s.verifier == nil || p.Subject.Dominion != s.verifier.Dominion || len(s.hubs) >= maxHubs {
		return
	}
	if s.hubs[p.KeyHash] == nil { // else what is being verified by it would not count
		s.hubs[p.KeyHash] = p.Key
	}
	s.release(p.KeyHash)
}

// release has the orders verified that were held for a key.
func (s *Signatures) release(key string) {
	held := s.held
	s.held = nil
	for _, o := range held {
		if o.Head.Key == key {
			s.queue = append(s.queue, work{order: &o, key: s.hubs[key]})
		} else {
			s.held = append(s.held, o)
		}
	}
}

// Head returns what is compared of a signed order before its signature is verified. Nothing
// else may be done with it.
func Head(m topics.Message) (topics.SignedHead, error) {
	if !signed.IsSigned(m.Payload) {
		return topics.SignedHead{}, signed.ErrUnsigned
	}
	payload, err := signed.Unverified(m.Payload)
	if err != nil {
		return topics.SignedHead{}, err
	}
	h, err := topics.Decode[topics.SignedHead](m.Topic, payload)
	if err == nil && !identity.ValidKeyHash(h.Key) {
		err = errors.New(`it does not name the key of a hub ("key")`)
	}
	return h, err
}

// Add has an order verified, or holds it until its hub is verified. It returns why it does
// neither.
func (s *Signatures) Add(o Order, now time.Time) error {
	key, verified := s.hubs[o.Head.Key]
	if !s.Counts(o.Head.Key) {
		return fmt.Errorf("it is signed by the key %.12s, which is not a hub's of this dominion or is revoked", o.Head.Key)
	}
	if s.full(len(o.Message.Payload)) {
		return errors.New("too many orders wait to be verified")
	}
	if !verified {
		s.held = append(s.held, o)
		return nil
	}
	if !s.throttle.Allow(source(&o), now) {
		return errors.New("too many orders came whose signatures are not valid")
	}
	s.queue = append(s.queue, work{order: &o, key: key})
	return nil
}

// full reports whether an order of a size is too much beside what waits.
func (s *Signatures) full(size int) bool {
	for _, w := range s.queue {
		size += len(w.certificate)
		if w.order != nil {
			size += len(w.order.Message.Payload)
		}
	}
	for _, o := range s.held {
		size += len(o.Message.Payload)
	}
	return len(s.queue)+len(s.held) >= maxWaiting || size > maxWaitingBytes
}

// source is what senders of orders are told apart by.
func source(o *Order) string { return o.Message.Topic + " " + o.Head.Key }

// Certificate takes a payload of hub/certificate, which names the key that orders are signed
// with.
func (s *Signatures) Certificate(m topics.Message, now time.Time) error {
	if s.verifier == nil || len(m.Payload) == 0 || string(m.Payload) == s.certificate {
		return nil
	}
	if s.full(len(m.Payload)) || !s.throttle.Allow(m.Topic, now) {
		return errors.New("too many certificates of hubs came that are not valid")
	}
	s.queue = append(s.queue, work{certificate: m.Payload, topic: m.Topic, verifier: s.verifier})
	return nil
}

// Take returns the next verification, which is run beside the loop; its result is for
// Done. nil: none waits, or one runs.
func (s *Signatures) Take(now time.Time) func() Result {
	if s.busy || len(s.queue) == 0 {
		return nil
	}
	w := s.queue[0]
	s.queue = s.queue[1:]
	s.busy = true
	if w.order == nil {
		return func() Result { return w.verifyCertificate(now) }
	}
	c := signed.Context{Kind: w.order.Kind.SignedKind(), Dominion: s.verifier.Dominion, Domain: s.domain}
	if w.order.Kind == topics.HubStatus {
		c.Domain = "" // it is for all
	}
	return func() Result { return w.verifyOrder(c) }
}

// verifyCertificate verifies the certificate of a hub.
func (w work) verifyCertificate(now time.Time) Result {
	view, err := topics.Decode[topics.HubCertificateView](w.topic, w.certificate)
	if err != nil {
		return Result{work: w, err: err}
	}
	peer, err := w.verifier.VerifyPublished(view, now)
	return Result{work: w, peer: peer, err: err}
}

// verifyOrder verifies the signature of an order, and that no name in it is there twice.
func (w work) verifyOrder(c signed.Context) Result {
	payload, err := signed.Verify(w.key, c, w.order.Message.Payload)
	if err == nil {
		switch w.order.Kind {
		case topics.DomainServicesSet:
			err = signed.CheckNames[topics.StartCommand](payload)
		case topics.HubStatus:
			err = signed.CheckNames[topics.Hub](payload)
		default:
			err = signed.CheckNames[topics.Command](payload)
		}
	}
	return Result{work: w, payload: payload, err: err}
}

// Done takes the result of a verification. It returns the order that was verified, or
// whose verification failed with err; nil: it was none, or does not count any more.
func (s *Signatures) Done(r Result, now time.Time) (o *Order, err error) {
	s.busy = false
	if r.work.order == nil {
		return nil, s.certified(r, now)
	}
	if s.hubs[r.work.order.Head.Key] != r.work.key {
		return nil, nil // of what was pinned before
	}
	if r.err != nil {
		s.throttle.Failed(source(r.work.order), now)
		return r.work.order, r.err
	}
	if r.work.order.Kind == topics.HubStatus {
		s.throttle.Failed(source(r.work.order), now) // it has no number: anybody can replay it
	}
	r.work.order.Payload = r.payload
	return r.work.order, nil
}

// certified takes the result of the verification of a certificate.
func (s *Signatures) certified(r Result, now time.Time) error {
	switch {
	case r.work.verifier != s.verifier:
		if s.verifier != nil && s.verifier.Dominion == r.work.verifier.Dominion { // by another key list
			w := r.work
			w.verifier = s.verifier
			s.queue = append(s.queue, w)
		}
		return nil
	case r.err != nil:
		s.throttle.Failed(r.work.topic, now)
		return r.err
	}
	if s.hubs[r.peer.KeyHash] != nil {
		s.throttle.Failed(r.work.topic, now) // anybody can write what is known in another way
	}
	s.certificate = string(r.work.certificate)
	s.AddHub(r.peer)
	return nil
}
