// Package macs holds the keys by which heartbeats, metrics and leases have MACs: those of
// each domain that has a key, for the session of its agent and this run of the hub. Both come
// from the exchange inside the signed join; no key is stored, so nothing of a former run of
// the hub counts.
//
// It does no I/O and knows no other part of the hub. Exchange may run beside the loop. Package
// hub alone imports it, and calls the methods from its loop.
package macs

import (
	"errors"

	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// Why a message of a domain that has a key is not taken.
var (
	// ErrNoExchange means that the domain has not joined this run of the hub yet: it joins
	// once it receives hub/status.
	ErrNoExchange = errors.New("the domain has not joined this run of the hub")
	// ErrFormer means that the message may have been sent before the last join of the domain.
	ErrFormer = errors.New("it may be of before the last join")
	// ErrReplayed means that a later message of its kind was taken.
	ErrReplayed = errors.New("it was replayed: its number does not grow")
	// ErrSession means that the message is of another run of the agent.
	ErrSession = errors.New("it is of another run of the agent")
	// ErrDomain means that a domain has made the MAC of a heartbeat that names another one.
	ErrDomain = errors.New("it names the id of another domain")
)

// MACs holds the keys. Make it with New.
type MACs struct {
	dominion string
	// domains are by id.
	domains map[string]*Session
	// room holds the payload that was verified last.
	room []byte
}

// Session holds the keys of one exchange. Make it with Exchange.
type Session struct {
	// session is that of the agent, answer the hub's ephemeral key.
	session string
	answer  []byte

	fromDomain, fromHub *signed.MAC
	// heartbeat and metrics are the numbers of the last ones. A heartbeat proves that the
	// domain has the keys.
	heartbeat, metrics uint64
}

// New returns the MACs of a run of the hub that no domain has joined.
func New(dominion string) *MACs {
	return &MACs{dominion: dominion, domains: make(map[string]*Session)}
}

// Answer returns the ephemeral key that a grant has.
func (s *Session) Answer() []byte { return s.answer }

// Exchange answers the ephemeral key of a domain's join. It takes as long as two operations
// with P-256, and uses nothing of MACs.
func Exchange(e signed.Exchange, asked []byte) (*Session, error) {
	other, err := signed.ParseEphemeral(asked)
	if err != nil {
		return nil, err
	}
	own, err := signed.NewEphemeral()
	if err != nil {
		return nil, err
	}
	keys, err := e.Derive(own, other)
	if err != nil {
		return nil, err
	}
	s := &Session{session: e.Session, answer: own.PublicKey().Bytes()}
	if s.fromDomain, err = signed.NewMAC(keys.FromDomain); err != nil {
		return nil, err
	}
	if s.fromHub, err = signed.NewMAC(keys.FromHub); err != nil {
		return nil, err
	}
	return s, nil
}

// Put has the keys of an exchange count for a domain, and those before it no more.
func (m *MACs) Put(domain string, s *Session) { m.domains[domain] = s }

// Remove removes the keys of a domain that is not adopted any more.
func (m *MACs) Remove(domain string) { delete(m.domains, domain) }

// verify returns the payload of a message of a domain.
func (m *MACs) verify(domain string, k topics.Kind, message []byte) (*Session, []byte, error) {
	s := m.domains[domain]
	if s == nil {
		return nil, nil, ErrNoExchange
	}
	payload, err := s.fromDomain.Verify(m.room, m.context(domain, k), message)
	if err != nil {
		if s.heartbeat == 0 {
			err = ErrFormer
		}
		return nil, nil, err
	}
	m.room = payload
	return s, payload, nil
}

func (m *MACs) context(domain string, k topics.Kind) signed.Context {
	return signed.Context{Kind: k.SignedKind(), Dominion: m.dominion, Domain: domain}
}

// Heartbeat returns a heartbeat of a domain, if its MAC is of the last join, it names the id of that
// domain, and its number is greater than that of the last one. Names that are there twice harm nobody but the domain,
// which alone can have made the MAC.
func (m *MACs) Heartbeat(domain, topic string, message []byte) (topics.Heartbeat, error) {
	s, payload, err := m.verify(domain, topics.DomainHeartbeat, message)
	if err != nil {
		return topics.Heartbeat{}, err
	}
	b, err := topics.Decode[topics.Heartbeat](topic, payload)
	switch {
	case err != nil:
		return topics.Heartbeat{}, err
	case b.ID != domain:
		return topics.Heartbeat{}, ErrDomain
	case b.Session != s.session:
		return topics.Heartbeat{}, ErrSession
	case b.Seq <= s.heartbeat:
		return topics.Heartbeat{}, ErrReplayed
	}
	s.heartbeat = b.Seq
	return b, nil
}

// Metrics returns the metrics of a domain, as Heartbeat returns a heartbeat.
func (m *MACs) Metrics(domain, topic string, message []byte) (topics.Metrics, error) {
	s, payload, err := m.verify(domain, topics.DomainMetrics, message)
	if err != nil {
		return topics.Metrics{}, err
	}
	v, err := topics.Decode[topics.Metrics](topic, payload)
	switch {
	case err != nil:
		return topics.Metrics{}, err
	case v.Seq <= s.metrics:
		return topics.Metrics{}, ErrReplayed
	}
	s.metrics = v.Seq
	return v, nil
}

// Lease returns a lease for a domain as a message with its MAC.
func (m *MACs) Lease(domain string, payload []byte) ([]byte, error) {
	s := m.domains[domain]
	if s == nil {
		return nil, ErrNoExchange
	}
	return s.fromHub.Append(m.context(domain, topics.DomainLease), payload)
}
