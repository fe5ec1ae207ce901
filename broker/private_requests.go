package broker

import (
	"time"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/topics"
)

// PrivateHandler gets a private request. answer sends a message to the asking connection
// alone; it must not be called before the handler returns, which must not block.
type PrivateHandler func(m topics.Message, answer func(topics.Message))

// HandlePrivate sets what handles private requests. Until then they are dropped.
func (b *Broker) HandlePrivate(handler PrivateHandler) { b.private.Store(&handler) }

// PrivateRefusal is a private request that was refused because others could read it on the
// way, or because nobody says who sends it.
type PrivateRefusal struct {
	Verb, User, Client string
}

// refusalInterval is the least time between two reports of a refusal.
const refusalInterval = time.Second

// HandlePrivateRefusals sets what is told of private requests that were refused for their
// connection: a client of MQTT that reads no answers cannot show it. It is called once a
// second at most, and must not block.
func (b *Broker) HandlePrivateRefusals(handler func(PrivateRefusal)) {
	b.privateRefused.Store(&handler)
}

// reportPrivateRefusal tells that handler.
func (b *Broker) reportPrivateRefusal(c engine.Client, verb string) {
	handler := b.privateRefused.Load()
	if handler == nil {
		return
	}
	last, now := b.refusedAt.Load(), time.Now().UnixNano()
	if now-last >= int64(refusalInterval) && b.refusedAt.CompareAndSwap(last, now) {
		(*handler)(PrivateRefusal{verb, c.User, c.ID})
	}
}

// isPrivate reports whether a topic is that of a private request.
func (b *Broker) isPrivate(topic string) bool {
	at, ours := b.tree.Parse(topic)
	return ours && at.Kind == topics.Request && (b.config.ControlOnly || topics.IsPrivate(at.Verb))
}

// receivePrivate passes a private request on.
func (b *Broker) receivePrivate(c engine.Client, m topics.Message, answer func(topics.Message)) {
	if c.Applicant {
		if handler := b.applicants.Load(); handler != nil {
			(*handler)(m, hostOf(c.Remote))
		}
		return
	}
	if handler := b.private.Load(); handler != nil {
		(*handler)(m, answer)
	}
}

// maySendPrivate reports whether a client may send private requests, as far as its
// connection goes: nobody can read them on the way, and somebody is known to send them.
// A client within the program is a bridge, which passes on what others publish.
func (b *Broker) maySendPrivate(c engine.Client) bool {
	switch c.Listener {
	case control:
		return true
	case "mqtts", "wss", "https", "unix":
		return c.User != ""
	}
	return false
}
