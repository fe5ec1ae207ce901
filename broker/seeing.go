package broker

import (
	"strings"
	"time"

	"github.com/jmbarzee/dominion/broker/engine"
)

// Stats is what the broker did since its start, and what it has now.
type Stats = engine.Stats

// Session is a client that is connected, or whose session is kept.
type Session = engine.Session

// Stats returns the figures of the broker as they are.
func (b *Broker) Stats() Stats { return b.engine.Stats() }

// Sessions lists all clients, by their identifiers.
func (b *Broker) Sessions() []Session { return b.engine.Sessions() }

// Dropped counts a message for a part of the program that is a client, and left
// it out.
func (b *Broker) Dropped(client, topic, why string) { b.engine.CountDropped(client, topic, why) }

// Missed returns how many messages a client did not get since the start.
func (b *Broker) Missed(client string) uint64 { return b.engine.DroppedFor(client) }

// Began tells when the broker was started.
func (b *Broker) Began() time.Time { return b.began }

// Kick ends a client's connection. It is false where there is none.
func (b *Broker) Kick(client string) bool {
	return b.engine.Kick("an administrator ended it", func(c engine.Client, _ time.Time) bool { return c.ID == client }) > 0
}

// kickGrace is how long the connections of a user live who was changed. It may
// be the user's own doing, and the answer is still on its way. What it may do is
// judged anew at once.
const kickGrace = time.Second

// connectTimeout is how long a connection may take to log in.
func (b *Broker) connectTimeout() time.Duration {
	if t := b.config.Limits.ConnectTimeout; t > 0 {
		return t
	}
	return engine.DefaultLimits().ConnectTimeout
}

// kickChanged ends the connections of users who are not the same any more, but
// for those that were made after that. One that is just being let in is caught
// when it must be in or out.
func (b *Broker) kickChanged(was, is *accounts) {
	changed := make(map[string]bool)
	for name, old := range was.byName {
		if now, there := is.byName[name]; !there || !old.same(now) {
			changed[name] = true
		}
	}
	closed := was.anonymous && !is.anonymous
	if len(changed) == 0 && !closed {
		return
	}
	at := time.Now()
	b.around.Go(func() {
		for _, wait := range []time.Duration{kickGrace, b.connectTimeout()} {
			timer := time.NewTimer(wait)
			select {
			case <-b.quit:
				timer.Stop()
				return
			case <-timer.C:
			}
			b.engine.Kick("its user was changed or removed", func(c engine.Client, since time.Time) bool {
				return changed[c.User] && since.Before(at)
			})
			if closed {
				b.engine.Kick("clients without a user are not let in any more", func(c engine.Client, since time.Time) bool {
					return c.User == "" && since.Before(at) && b.role(c.Listener, "") == ""
				})
			}
		}
	})
}

// same tells whether a client that was let in would be let in as the same.
func (a account) same(b account) bool {
	return a.role == b.role && a.password == b.password && string(a.hash) == string(b.hash) && a.certificate == b.certificate
}

// noticed says what became of a message, as often as refusals allows.
func (b *Broker) noticed(c engine.Client, topic, what string) {
	// sizes differ from one to the next, and are one cause
	cause := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, what)
	if b.refusals.tell(c.ID, cause, time.Now()) {
		b.log.Info(what, "client", short(c.ID), "user", c.User, "topic", short(topic), "remote", c.Remote)
	}
}

// StoreFull reports whether the store refused something and does not take
// everything again yet.
func (b *Broker) StoreFull() bool { return b.engine.StoreFull() }
