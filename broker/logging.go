package broker

import (
	"strings"
	"time"

	"github.com/jmbarzee/dominion/broker/engine"
)

// logRefused logs a client that the engine refused, as far as logLimit allows.
func (b *Broker) logRefused(c engine.Client, reason string) {
	if b.logLimit.allow(c.Remote, reason, time.Now()) {
		b.log.Warn("connection refused: "+reason, "client", truncate(c.ID), "remote", c.Remote, "listener", c.Listener)
	}
}

// logEnded logs why a connection was ended, as far as logLimit allows.
func (b *Broker) logEnded(client, remote, reason string) {
	if b.logLimit.allow(remote, reason, time.Now()) {
		b.log.Info("connection ended by the broker: "+reason, "client", truncate(client), "remote", remote)
	}
}

// logNotice logs what happened to a message, as far as logLimit allows.
func (b *Broker) logNotice(c engine.Client, topic, what string) {
	// reasons that differ only in numbers count as one
	cause := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, what)
	if b.logLimit.allow(c.ID, cause, time.Now()) {
		b.log.Info(what, "client", truncate(c.ID), "user", c.User, "topic", truncate(topic), "remote", c.Remote)
	}
}

// truncate returns a text from a client as the log has it: names, topics and headers
// may have 65,535 bytes.
func truncate(s string) string {
	const maxBytes = 200
	if len(s) <= maxBytes {
		return s
	}
	return strings.ToValidUTF8(s[:maxBytes], "") + "…"
}
