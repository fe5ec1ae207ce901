package broker

import (
	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/topics"
)

// PrivateHandler gets a private request. answer sends a message to the asking connection
// alone; it must not be called before the handler returns, which must not block.
type PrivateHandler func(m topics.Message, answer func(topics.Message))

// HandlePrivate sets what handles private requests. Until then they are dropped.
func (b *Broker) HandlePrivate(handler PrivateHandler) { b.private.Store(&handler) }

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
