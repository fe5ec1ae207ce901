package engine

import (
	"time"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
)

// will is what is published for a client that goes without saying so (MQTT 5.0,
// 3.1.2.5).
type will struct {
	m     *message
	life  uint32 // its message expiry interval, which runs from when it is sent
	delay uint32
	of    Client
}

// newWill returns the will of a CONNECT, or nil.
func (c *conn) newWill(pk *wire.Packet) *will {
	p := &pk.Connect
	if !p.WillFlag {
		return nil
	}
	m := store.Message{Topic: p.WillTopic, Payload: p.WillPayload, QoS: p.WillQos, Retain: p.WillRetain, Publisher: p.ClientIdentifier}
	w := &will{delay: p.WillProperties.WillDelayInterval}
	if c.version == wire.V5 {
		props := &p.WillProperties
		m.Properties = store.Properties{
			HasPayloadFormat: props.PayloadFormatFlag,
			PayloadFormat:    props.PayloadFormat,
			HasContentType:   props.ContentType != "",
			ContentType:      props.ContentType,
			ResponseTopic:    props.ResponseTopic,
			Correlation:      props.CorrelationData,
		}
		for _, u := range props.User {
			m.Properties.User = append(m.Properties.User, store.UserProperty{Name: u.Key, Value: u.Val})
		}
		w.life = props.MessageExpiryInterval
	}
	w.m = restored(m)
	return w
}

// memory is what a will takes up; nil is none.
func (w *will) memory() int {
	if w == nil {
		return 0
	}
	return w.m.memory()
}

// setWill puts a will in place of the one there is; nil: none. The caller holds
// the mutex.
func (s *session) setWill(w *will) {
	s.hold(w.memory() - s.will.memory())
	s.will = w
}

// sendWill publishes a will, if its client still may.
func (e *Engine) sendWill(w *will) {
	if !e.allow(&w.of, ActionPublish, w.m.Topic) {
		e.log.Warn("a will was not published: its client may not publish there any more", "client", w.of.ID, "topic", w.m.Topic)
		return
	}
	m := &message{Message: w.m.Message, forward: w.m.forward, user: w.of.User}
	if w.life > 0 {
		m.Expires = time.Now().Add(time.Duration(w.life) * time.Second)
	}
	e.stats.wills.Add(1)
	e.noticed(&w.of, m.Topic, "its will is published")
	t := e.begin(nil)
	m.owner = e.users[w.of.User]
	t.account = e.accountOf(&w.of)
	t.publish(m, nil, nil)
	t.end()
}

// leave is the end of a connection, from the goroutine that reads. will says
// whether it is to be sent.
func (c *conn) leave(code byte, why string, withWill bool) {
	c.timer.Stop()
	s := c.s
	if s == nil {
		c.hangUp()
		return
	}
	s.mu.Lock()
	s.hold(-c.memory)
	c.left = true
	mine := s.conn == c
	if mine && !withWill {
		s.setWill(nil) // before the client sees the end: it may connect anew at once [MQTT-3.14.4-3]
	}
	c.end(code, why)
	shutDown := c.draining
	why = c.why
	s.mu.Unlock()
	c.e.log.Debug("disconnected", "client", s.id, "remote", c.remote, "why", why)
	if see := c.e.trace.Load(); see != nil {
		(*see)(Traced{Client: *c.who, Words: "the connection is over: " + why})
	}
	if !mine {
		return
	}
	e := c.e
	e.mu.Lock()
	s.mu.Lock()
	if s.conn != c || s.gone {
		s.mu.Unlock()
		e.mu.Unlock()
		return
	}
	s.conn = nil
	s.charge()
	s.online.Store(false)
	s.left = time.Now()
	ends := s.expiry == 0
	var due *will
	s.severed = shutDown || e.closed
	switch {
	case s.severed:
		ends = ends && s.will == nil && s.known // else nobody looks for it, or the restart sends the will, see Close
	case ends || s.will != nil && s.will.delay == 0:
		due = s.takeWill()
	}
	if s.known && !ends {
		records := []store.Record{s.record()}
		if s.will == nil {
			records = append(records, store.Will{Client: s.id})
		}
		s.account.Load().charge(sessionCost(s.client.Load(), nil))
		e.store.Append(records, nil)
	}
	if !ends && !s.severed {
		s.schedule(0)
	}
	s.mu.Unlock()
	if ends {
		s.remove()
	}
	e.mu.Unlock()
	if ends {
		s.dismiss()
	}
	if due != nil {
		e.sendWill(due)
	}
}

// record is what is stored of the session, connected where s.left is zero. The
// caller holds the mutex.
func (s *session) record() store.Session {
	c := s.client.Load()
	return store.Session{
		Client: s.id, Version: c.Version, User: c.User, HasUser: c.HasUser, Listener: c.Listener,
		Expiry: s.expiry, Disconnected: s.left, Cut: s.severed,
	}
}

// takeWill takes the will out. The caller holds the mutex.
func (s *session) takeWill() *will {
	w := s.will
	s.setWill(nil)
	if w != nil {
		w.of = *s.client.Load()
	}
	return w
}

// takeOver ends the connection of a session, because there is another one. It
// returns the will that is due by that: a connection that goes on with the
// session before the delay is over prevents it [MQTT-3.1.3-9], and one that
// comes in time after the server had ended. The session is gone where its time
// is over. The caller holds Engine.mu.
func (s *session) takeOver() *will {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopTimerLocked()
	if s.conn == nil {
		if s.severed {
			s.setWill(nil)
		}
		s.gone = s.over(time.Now()) // then dismiss sends its will
		return nil
	}
	s.conn.end(wire.SessionTakenOver, "its client id connected anew")
	s.conn = nil
	s.online.Store(false)
	s.left = time.Now()
	s.gone = s.expiry == 0 // it ended with its connection
	if s.gone || s.will != nil && s.will.delay == 0 {
		return s.takeWill()
	}
	return nil
}

func (s *session) isGone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone
}

// remove takes a session from the engine and the store. The caller holds
// Engine.mu, and calls dismiss when it does not any more.
func (s *session) remove() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	s.stopTimerLocked()
	if s.e.sessions[s.id] == s {
		delete(s.e.sessions, s.id)
	}
	s.unbill()
	if s.known {
		s.account.Load().charge(len(s.id) + recordCost)
		s.e.store.Append([]store.Record{store.SessionGone{Client: s.id}}, nil)
	}
}

// dismiss ends what a session that was removed leaves: its subscriptions, its
// will if there is one, and what it had of shared subscriptions, which goes to
// others (MQTT 5.0, 4.8.2): QoS 1, and QoS 2 that was never sent
// [MQTT-4.8.2-5].
func (s *session) dismiss() {
	s.mu.Lock()
	subs := s.subs
	s.subs = nil
	w := s.takeWill()
	var shared []delivery
	now := time.Now()
	for _, all := range []*deliveries{&s.flow.flights, &s.flow.queue} {
		for i := range all.len() {
			s.e.memory.drop(all.at(i).m)
			if d := all.at(i); d.from != "" && (d.qos == 1 || !d.sent) && !d.m.expired(now) {
				shared = append(shared, *d)
			}
		}
	}
	s.flow = flow{}
	s.replays = nil
	s.mu.Unlock()
	for _, sub := range subs {
		s.e.subscriptions.remove(sub)
	}
	if len(shared) > 0 {
		t := s.e.begin(nil)
		for _, d := range shared {
			r := s.e.routeOf(d.m.Topic)
			for i := range r.groups {
				if r.groups[i].group.filter == d.from {
					r.groups[i].push(t, d.m, r.persists)
				}
			}
		}
		t.end()
	}
	if w != nil {
		s.e.sendWill(w)
	}
}

// forgetStored makes a session that was stored one that is not: the client came
// back and does not want it kept. The caller holds the mutex.
func (s *session) forgetStored() {
	for _, all := range []*deliveries{&s.flow.flights, &s.flow.queue} {
		for i := range all.len() {
			all.at(i).stored = true
		}
	}
}

// over tells whether the time of a session without a connection has passed
// [MQTT-4.1.0-2]. The caller holds the mutex.
func (s *session) over(now time.Time) bool {
	return s.expiry != store.NeverExpires && !s.left.IsZero() && !now.Before(s.left.Add(time.Duration(s.expiry)*time.Second))
}

// schedule sets the timer of a session without a connection, to a time from now
// at the least. The caller holds the mutex.
func (s *session) schedule(least time.Duration) {
	end := s.left.Add(time.Duration(s.expiry) * time.Second)
	if s.expiry == store.NeverExpires {
		end = time.Time{}
	}
	if s.will != nil {
		// [MQTT-3.1.3-9]: after its delay, or when the session ends
		if at := s.left.Add(time.Duration(s.will.delay) * time.Second); end.IsZero() || at.Before(end) {
			end = at
		}
	}
	s.stopTimerLocked()
	if end.IsZero() {
		return
	}
	wait := max(time.Until(end), least)
	s.deadline = time.Now().Add(wait)
	s.timer = time.AfterFunc(wait, s.due)
}

func (s *session) stopTimerLocked() {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}

func (s *session) stopTimer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopTimerLocked()
}

// due is called when the time of the will or the session is over.
func (s *session) due() {
	e := s.e
	e.mu.Lock()
	s.mu.Lock()
	if s.gone || s.conn != nil || s.timer == nil || e.closed || time.Now().Before(s.deadline) {
		s.mu.Unlock()
		e.mu.Unlock()
		return
	}
	now := time.Now()
	ends := s.over(now)
	var w *will
	if !ends {
		if w = s.takeWill(); w != nil && s.known {
			s.account.Load().charge(len(s.id) + recordCost)
			e.store.Append([]store.Record{store.Will{Client: s.id}}, nil)
		}
		s.schedule(0)
	}
	s.mu.Unlock()
	if ends {
		e.stats.expired.Add(1)
		s.remove()
	}
	e.mu.Unlock()
	if ends {
		s.dismiss()
	}
	if w != nil {
		e.sendWill(w)
	}
}
