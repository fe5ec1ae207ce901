package report

import (
	"errors"
	"fmt"

	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// Session is what the MACs of a join are made with: those of heartbeats and metrics, and those
// that leases must have. The zero Session is of a domain without a key, whose messages have
// none.
type Session struct {
	// Dominion and Domain are ids.
	Dominion, Domain string
	// Keys are those of the join; nil: there are none.
	Keys *signed.Keys
}

// errNoMAC means that a lease is not of the hub that granted the last join.
var errNoMAC = errors.New("it does not have the MAC of the hub of this domain's last join: it is forged, or of a former run of the hub")

// context is what a message of a kind has its MAC for.
func (s Session) context(k topics.Kind) signed.Context {
	return signed.Context{Kind: k.SignedKind(), Dominion: s.Dominion, Domain: s.Domain}
}

// withMAC returns a payload as it is published.
func (s Session) withMAC(k topics.Kind, payload []byte) []byte {
	if s.Keys == nil {
		return payload
	}
	message, err := signed.AppendMAC(s.Keys.FromDomain, s.context(k), payload)
	if err != nil {
		return payload // ids that no grant has: the hub does not take it
	}
	return message
}

// lease returns the lease that a message holds.
func (s Session) lease(m topics.Message) (topics.Lease, error) {
	payload := m.Payload
	if s.Keys != nil {
		var err error
		if payload, err = signed.VerifyMAC(s.Keys.FromHub, s.context(topics.DomainLease), m.Payload); err != nil {
			return topics.Lease{}, fmt.Errorf("cannot take %s: %w", m.Topic, errNoMAC)
		}
	}
	return topics.Decode[topics.Lease](m.Topic, payload)
}
