package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// lastOrder is the last start command that the domain obeyed, as a hub signed it.
type lastOrder struct {
	Dominion, Message string
}

// setLast notes the last start command that was obeyed, as it was signed; "": it was not.
func (m *membership) setLast(dominion, message string) {
	if m != nil && len(message) <= topics.MaxLast {
		m.last.Store(&lastOrder{dominion, message})
	}
}

// Sign returns a message of this domain as it is published: signed by its key, if a dominion
// has adopted it. It waits for no file.
func (m *membership) Sign(kind topics.Kind, payload []byte) ([]byte, error) {
	pinned := m.pinned.Load()
	if pinned == nil {
		return payload, nil
	}
	message, err := signed.Sign(m.domain.Key, signed.Context{Kind: kind.SignedKind(), Dominion: pinned.Dominion, Domain: m.o.ID}, payload)
	if err != nil {
		return nil, fmt.Errorf("cannot sign a message of this domain: %w", err)
	}
	return message, nil
}

// signed returns a message of this domain as it is published. m is nil if it has no key.
func (m *membership) signed(log *slog.Logger, kind topics.Kind, payload []byte) []byte {
	if m == nil {
		return payload
	}
	message, err := m.Sign(kind, payload)
	if err != nil { // a fault of the program
		log.Error("a message is not signed: the hub will not believe it", "error", err)
		return payload
	}
	return message
}

// SignJoin returns a request to join as it is published. A join shows the last start command
// that was obeyed: a hub that was restored from a backup goes above its epoch.
func (m *membership) SignJoin(ask topics.HubRequest) ([]byte, error) {
	pinned, last := m.pinned.Load(), m.last.Load()
	joins := ask.Transaction != "" && ask.Confirm == "" && !ask.Renew && ask.ServiceKeys == nil
	if joins && pinned != nil && last != nil && last.Dominion == pinned.Dominion {
		ask.Last = last.Message
	}
	return m.Sign(topics.Request, topics.Encode(ask))
}

// VerifyAnswer returns the payload of the answer to a request to join. The grant of an
// adopted domain has the certificate of the hub whose key signed the answer; with that, the
// hub's orders are verified too.
func (m *membership) VerifyAnswer(answer topics.Message) ([]byte, error) {
	pinned := m.pinned.Load()
	if pinned == nil {
		return answer.Payload, nil
	}
	payload, err := signed.Unverified(answer.Payload)
	if err != nil {
		return nil, err
	}
	reply, err := topics.Decode[topics.Reply](answer.Topic, payload)
	if err != nil {
		return nil, err
	}
	grant, err := topics.Decode[topics.Grant](answer.Topic, reply.Data)
	if err != nil {
		return nil, err
	}
	if grant.Hub == nil {
		return nil, errors.New("it has no certificate of a hub")
	}
	hub, err := pinned.VerifyPublished(*grant.Hub, time.Now())
	if err != nil {
		return nil, err
	}
	c := signed.Context{Kind: topics.ResponseTo.SignedKind(), Dominion: pinned.Dominion, Domain: m.o.ID}
	if payload, err = signed.Verify(hub.Key, c, answer.Payload); err != nil {
		return nil, err
	}
	if err := signed.CheckNames[topics.Reply](payload); err != nil {
		return nil, err
	}
	if m.o.VerifiedHub != nil {
		m.o.VerifiedHub(hub)
	}
	return payload, nil
}
