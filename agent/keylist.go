package agent

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// keyLists takes the key lists of the dominion, one after the other, beside the loop. Of
// those that come meanwhile, the last one counts.
type keyLists struct {
	// last is the payload that was taken or refused last, of a connection.
	last     topics.Message
	lastConn int
	busy     bool
	// waiting is taken next; nil: none waits.
	waiting  *incoming
	throttle signed.Throttle
}

// keyListTaken is what came of a key list.
type keyListTaken struct {
	message incoming
	// changed reports that the list is stored and counts; reconnect reports that the
	// connection may be to a hub that does not count any more, or by a certificate of this domain
	// that does not.
	changed, reconnect bool
	// authority is the newest one that is stored, if that is another one than before.
	authority string
	// own is the list that the domain has.
	own []byte
	err error
}

// keyList takes a message of hub/keys.
func (l *loop) keyList(m incoming, now time.Time) {
	k := &l.keyLists
	same := m.connID == k.lastConn && string(m.Payload) == string(k.last.Payload)
	if l.member == nil || !l.signatures.Required() || len(m.Payload) == 0 || same {
		return
	}
	if k.busy {
		k.waiting = &m
		return
	}
	if !k.throttle.Allow(m.Topic, now) {
		return
	}
	k.last, k.lastConn, k.busy = m.Message, m.connID, true
	l.verifying.Go(func() { l.post(l.member.takeKeyList(m)) })
}

// keyListTaken carries out what follows from a key list.
func (l *loop) keyListTaken(t keyListTaken, now time.Time) {
	l.keyLists.busy = false
	if t.err != nil {
		l.refuseKeyList(t, now)
	}
	if t.changed {
		l.credentials.TrustChanged(false)
		l.signatures.SetVerifier(l.member.pinned.Load())
		l.verify(now)
		if t.authority != "" {
			l.acknowledgeAuthority(t)
		}
		if t.reconnect {
			l.link.Reconnect()
		}
	}
	if next := l.keyLists.waiting; next != nil {
		l.keyLists.waiting = nil
		l.keyList(*next, now)
	}
}

// refuseKeyList reports why a key list was not taken. A hub with an older one, such as one
// that was restored from a backup, is shown that of this domain.
func (l *loop) refuseKeyList(t keyListTaken, now time.Time) {
	l.reports.Invalid(fmt.Errorf("cannot take %s: %w", t.message.Topic, t.err), now)
	l.keyLists.throttle.Failed(t.message.Topic, now) // also an older one, which anybody can replay
	if !errors.Is(t.err, identity.ErrOlderList) && !errors.Is(t.err, identity.ErrOtherList) {
		return
	}
	if !l.connection.Open(t.message.connID) || len(t.own) > topics.MaxConfig {
		return
	}
	topic, _ := l.tree.Request(topics.VerbJoin)
	ask := topics.HubRequest{ID: l.member.o.ID, Name: l.config.Name, Session: l.member.o.Session, KeyList: string(t.own)}
	l.request(topic, ask)
}

// acknowledgeAuthority tells the hub that this domain has stored an authority: the hub uses
// it when all have.
func (l *loop) acknowledgeAuthority(t keyListTaken) {
	if !l.connection.Open(t.message.connID) {
		return // the next join says it
	}
	topic, _ := l.tree.Request(topics.VerbJoin)
	ask := topics.HubRequest{ID: l.member.o.ID, Name: l.config.Name, Session: l.member.o.Session, Authority: t.authority}
	l.request(topic, ask)
}

// request publishes a request to join that is not answered.
func (l *loop) request(topic string, ask topics.HubRequest) {
	payload, err := l.member.SignJoin(ask)
	if err != nil {
		l.log.Error("the hub is not told what this domain has stored", "error", err)
		return
	}
	l.connection.Publish(topics.Message{Topic: topic, QoS: topics.Lookup(topics.Request).QoS, Payload: payload})
}

// takeKeyList stores a key list that is newer than the one that is pinned, before it is
// used.
func (m *membership) takeKeyList(message incoming) keyListTaken {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := keyListTaken{message: message}
	if !m.domain.Adopted() {
		return t
	}
	before, authority := m.verifier.Keys, m.domain.Trust.Newest()
	trust, changed, err := m.domain.Trust.TakeKeyList(message.Payload)
	if err == nil && changed {
		if err = m.domain.SetTrust(trust); err == nil {
			err = m.trustChanged()
		}
	}
	t.own, t.err = m.domain.Trust.Keys, err
	if changed && err == nil {
		t.changed = true
		t.reconnect = !allCount(before, m.verifier.Keys) || m.domain.Chain != nil && !m.domain.CertificateCounts(m.verifier)
		if newest := m.domain.Trust.Newest(); newest != authority {
			t.authority = newest
			m.o.Log.Info("another authority of the dominion is stored", "key", identity.Label(newest))
		}
		m.o.Log.Info("the dominion has a newer key list", "list", m.verifier.Keys.String())
	}
	return t
}

// allCount reports whether all hub keys that counted by a list count by another one.
func allCount(before, after *identity.KeyList) bool {
	return before != nil && !slices.ContainsFunc(before.Hubs, func(h identity.HubKey) bool { return before.HasHub(h.Key) && !after.HasHub(h.Key) })
}
