package engine

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
)

func validText(b []byte) bool { return utf8.Valid(b) }

// onControl handles the packets that are rare.
func (c *conn) onControl(kind, first byte, body []byte) error {
	switch kind {
	case wire.Connect:
		return &wire.Error{Code: wire.ProtocolError, Reason: "protocol error: a second CONNECT"} // [MQTT-3.1.0-2]
	case wire.Auth:
		return &wire.Error{Code: wire.ProtocolError, Reason: "protocol error: AUTH without an authentication method"} // 4.12
	}
	pk, err := wire.Decode(first, body, c.version)
	if err != nil {
		return err
	}
	if kind == wire.Subscribe || kind == wire.Unsubscribe {
		if err := c.awaitFilters(&pk); err != nil {
			return err
		}
	}
	switch kind {
	case wire.Subscribe:
		c.onSubscribe(&pk)
	case wire.Unsubscribe:
		c.onUnsubscribe(&pk)
	case wire.Disconnect:
		return c.onDisconnect(&pk)
	}
	return nil
}

// atOnce is how many filters of a packet are handled before others have their
// turn.
const atOnce = 512

// asked is a SUBSCRIBE while it is handled.
type asked struct {
	pk       *wire.Packet
	codes    []byte
	records  []store.Record
	fresh    []renewed // that are in records
	replays  []*replay
	toSystem bool
}

// renewed is a subscription and the one that it took the place of, or nil.
type renewed struct{ sub, old *subscription }

// onSubscribe adds subscriptions. SUBACK is sent when they are stored, and
// after it the retained messages.
func (c *conn) onSubscribe(pk *wire.Packet) {
	a := &asked{pk: pk, codes: make([]byte, len(pk.Filters))}
	for from, n := 0, len(pk.Filters); from < n; from += atOnce {
		if !c.addSubscriptions(a, from, min(from+atOnce, n)) {
			return
		}
	}
	if c.e.ask.Subscribed != nil && a.toSystem {
		c.e.ask.Subscribed()
	}
}

// addSubscriptions adds some of the subscriptions of a packet, and answers it
// with the last ones. It is false where the connection has no session any more.
func (c *conn) addSubscriptions(a *asked, from, to int) bool {
	s, e := c.s, c.e
	e.mu.RLock()
	defer e.mu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone || s.conn != c {
		return false
	}
	for i := from; i < to; i++ {
		c.addSubscription(a, i)
	}
	switch {
	case to < len(a.codes):
	case s.durable && len(a.records) > 0:
		c.waiting.Add(1)
		e.store.Append(a.records, func(err error) {
			e.storeAnswered(a.records, err)
			c.stored()
			s.mu.Lock()
			defer s.mu.Unlock()
			if err != nil {
				c.takeBack(a)
			}
			c.suback(a)
		})
	default:
		c.suback(a)
	}
	return true
}

// addSubscription is called with the mutex held.
func (c *conn) addSubscription(a *asked, i int) {
	s, f := c.s, &a.pk.Filters[i]
	sub := &subscription{
		session: s, filter: f.Filter, qos: f.Qos, noLocal: f.NoLocal || c.bridge, asPub: f.RetainAsPublished || c.bridge,
		retain: f.RetainHandling, id: uint32(f.Identifier),
	}
	if a.codes[i] = c.maySubscribe(sub, i); a.codes[i] >= 0x80 {
		if see := c.e.trace.Load(); see != nil {
			(*see)(Traced{Client: *c.who, Kind: wire.Subscribe, ID: a.pk.PacketID, Topic: sub.filter, Code: a.codes[i], Refused: true, Action: ActionSubscribe})
		}
		return
	}
	old := s.subs[sub.filter]
	s.subscribe(sub)
	if s.durable && (old == nil || old.record(s.id) != sub.record(s.id)) { // else the store has it
		a.records = append(a.records, sub.record(s.id))
		a.fresh = append(a.fresh, renewed{sub, old})
	}
	a.toSystem = a.toSystem || sub.filter[0] == '$'
	group, _ := wire.Shared(sub.filter)
	if group == "" && (sub.retain == 0 || sub.retain == 1 && old == nil) { // [MQTT-3.3.1-9, -10, -11]
		a.replays = append(a.replays, &replay{sub: sub, at: newCursor(sub.filter)})
	}
}

// takeBack undoes what could not be stored, to what the store has, and says so
// in the answer. The caller holds the mutex.
func (c *conn) takeBack(a *asked) {
	s := c.s
	lost := make(map[string]bool)
	for _, r := range slices.Backward(a.fresh) {
		lost[r.sub.filter] = true
		switch {
		case s.subs[r.sub.filter] != r.sub:
		case r.old != nil:
			s.subscribe(r.old)
		default:
			s.unsubscribe(r.sub)
		}
	}
	for i := range a.codes {
		if a.codes[i] < 0x80 && lost[a.pk.Filters[i].Filter] {
			a.codes[i] = c.refusal(wire.QuotaExceeded)
		}
	}
	a.replays = slices.DeleteFunc(a.replays, func(r *replay) bool { return lost[r.sub.filter] })
}

// refusal is a reason code as the client's version has it.
func (c *conn) refusal(code byte) byte {
	if c.version != wire.V5 {
		return 0x80
	}
	return code
}

// maySubscribe says what a subscription is granted. nth of a packet: no more are
// looked at than a client may have. The caller holds the mutex.
func (c *conn) maySubscribe(sub *subscription, nth int) byte {
	_, filter := wire.Shared(sub.filter)
	l := &c.e.limits
	_, known := c.s.subs[sub.filter]
	refuse := func(code byte, why string) byte {
		c.s.refused++
		c.e.noticed(c.who, sub.filter, "a subscription is refused: "+why)
		return c.refusal(code)
	}
	tooMany := func() byte {
		return refuse(wire.QuotaExceeded, fmt.Sprintf("a client may have %d (broker.limits.max_subscriptions)", l.MaxSubscriptions))
	}
	memory := costReplay
	if !known {
		memory += filterMemory(sub.filter)
	}
	switch {
	case nth >= l.MaxSubscriptions:
		return tooMany()
	case !wire.ValidFilter(sub.filter): // of MQTT before 5; there it is malformed
		return refuse(wire.TopicFilterInvalid, "it is not $share/GROUP/FILTER")
	case len(sub.filter) > l.MaxTopicLength:
		return refuse(wire.TopicFilterInvalid, fmt.Sprintf("its filter has %d bytes, and may have %d (broker.limits.max_topic_length)", len(sub.filter), l.MaxTopicLength))
	case levels([]byte(filter)) > l.MaxTopicLevels:
		return refuse(wire.TopicFilterInvalid, fmt.Sprintf("its filter has %d levels, and may have %d (broker.limits.max_topic_levels)", levels([]byte(filter)), l.MaxTopicLevels))
	case !known && len(c.s.subs) >= l.MaxSubscriptions:
		return tooMany()
	case !known && c.s.filters.with(sub.filter).beyond(l):
		return refuse(wire.QuotaExceeded, "all filters of its client are too long together, or have too many levels (broker.limits.max_subscriptions)")
	case !known && wild(filter) && c.s.filters.wild >= l.MaxWildcardSubscriptions:
		return refuse(wire.QuotaExceeded, fmt.Sprintf("a client may have %d with a wildcard (broker.limits.max_wildcard_subscriptions)", l.MaxWildcardSubscriptions))
	case !c.e.allow(c.s.client.Load(), ActionSubscribe, sub.filter):
		return c.refusal(wire.NotAuthorized)
	case c.s.memory+memory > memoryFree && !c.s.admits(memory):
		c.s.refused-- // refuse counts it
		return refuse(wire.QuotaExceeded, c.s.noMemory(memory))
	}
	return sub.qos
}

// wild reports whether a filter has a wildcard.
func wild(filter string) bool { return strings.ContainsAny(filter, "+#") }

// extent is what the filters of a client have together: each may be long, or
// have many levels, but not all of them.
type extent struct{ bytes, levels, wild int }

const (
	longestFilters = 1 << 20 // bytes
	deepestFilters = 8       // levels, for each subscription that there may be
)

func (x extent) with(filter string) extent {
	return x.plus(filter, 1)
}

func (x extent) without(filter string) extent {
	return x.plus(filter, -1)
}

func (x extent) plus(filter string, n int) extent {
	x.bytes += n * len(filter)
	x.levels += n * (1 + strings.Count(filter, "/"))
	if wild(filter) {
		x.wild += n
	}
	return x
}

func (x extent) beyond(l *Limits) bool {
	return x.bytes > longestFilters || x.levels > deepestFilters*max(l.MaxSubscriptions, 16)
}

func (s *subscription) record(client string) store.Subscribe {
	return store.Subscribe{
		Client: client, Filter: s.filter, QoS: s.qos, NoLocal: s.noLocal,
		RetainAsPublished: s.asPub, RetainHandling: s.retain, Identifier: s.id,
	}
}

// subscribe adds a subscription, in place of the one with its filter
// [MQTT-3.8.4-3], which is there until then: nothing is lost in between
// [MQTT-3.8.4-4]. The caller holds the mutex.
func (s *session) subscribe(sub *subscription) {
	s.e.subscriptions.add(sub)
	if old := s.subs[sub.filter]; old != nil {
		s.unsubscribe(old)
	}
	if s.subs == nil {
		s.subs = make(map[string]*subscription)
	}
	s.subs[sub.filter] = sub
	s.filters = s.filters.with(sub.filter)
	s.hold(filterMemory(sub.filter))
}

// unsubscribe removes a subscription that is there. The caller holds the mutex.
func (s *session) unsubscribe(sub *subscription) {
	delete(s.subs, sub.filter)
	s.filters = s.filters.without(sub.filter)
	s.hold(-filterMemory(sub.filter))
	s.e.subscriptions.remove(sub)
}

// suback answers, and begins with the retained messages. The caller holds the
// mutex.
func (c *conn) suback(a *asked) {
	if c.version == wire.V31 { // which has no code for a refusal: as mosquitto does
		for i := range a.codes {
			if a.codes[i] >= 0x80 {
				a.codes[i] = a.pk.Filters[i].Qos
			}
		}
	}
	raw, err := wire.Append(nil, wire.Suback, wire.Packet{ProtocolVersion: c.version, PacketID: a.pk.PacketID, ReasonCodes: a.codes})
	if err != nil {
		return
	}
	c.reply(packet{raw: raw})
	if s := c.s; s.conn == c {
		s.begin(a.replays)
		s.advance()
	}
	c.wake()
}

// begin takes up replays, one for each time that a filter was subscribed to
// [MQTT-3.8.4-4, -5]. When there are more than a client may have subscriptions,
// because it asks faster than it reads, only the last of each filter stays. The
// caller holds the mutex.
func (s *session) begin(replays []*replay) {
	for _, r := range replays {
		s.hold(r.memory())
	}
	s.replays = append(s.replays, replays...)
	if len(s.replays) <= s.e.limits.MaxSubscriptions {
		return
	}
	last := make(map[string]*replay)
	for _, r := range s.replays {
		last[r.sub.filter] = r
	}
	s.dropReplays(func(r *replay) bool { return last[r.sub.filter] != r })
}

func (c *conn) onUnsubscribe(pk *wire.Packet) {
	s, e := c.s, c.e
	codes := make([]byte, len(pk.Filters))
	var records []store.Record
	e.mu.RLock()
	defer e.mu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone || s.conn != c {
		return
	}
	for i := range pk.Filters {
		filter := pk.Filters[i].Filter
		sub := s.subs[filter]
		if sub == nil {
			codes[i] = wire.NoSubscriptionExisted
			continue
		}
		s.unsubscribe(sub)
		s.dropReplays(func(r *replay) bool { return r.sub.filter == filter })
		records = append(records, store.Unsubscribe{Client: s.id, Filter: filter})
	}
	raw, err := wire.Append(nil, wire.Unsuback, wire.Packet{ProtocolVersion: c.version, PacketID: pk.PacketID, ReasonCodes: codes})
	if err != nil {
		return
	}
	if !s.durable || len(records) == 0 {
		c.reply(packet{raw: raw})
		c.wake()
		return
	}
	c.waiting.Add(1)
	e.store.Append(records, func(err error) { // it holds in any case
		e.storeAnswered(records, err)
		c.stored()
		s.mu.Lock()
		defer s.mu.Unlock()
		c.reply(packet{raw: raw})
		c.wake()
	})
}

// onDisconnect ends the connection as the client says (MQTT 5.0, 3.14.4).
func (c *conn) onDisconnect(pk *wire.Packet) error {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.version == wire.V5 && pk.Properties.SessionExpiryIntervalFlag && s.conn == c {
		wish := pk.Properties.SessionExpiryInterval
		if s.expiry == 0 && wish != 0 {
			return &wire.Error{Code: wire.ProtocolError, Reason: "protocol error: a session expiry interval where CONNECT had none"} // [MQTT-3.14.2-2]
		}
		s.expiry = c.e.expiry(wish)
	}
	c.hasWill = pk.ReasonCode != wire.Success // [MQTT-3.14.4-3]
	return errDone
}

// expiry is a session expiry interval within the limit.
func (e *Engine) expiry(seconds uint32) uint32 {
	most := uint32(min(e.limits.MaxSessionExpiry/time.Second, store.NeverExpires))
	return min(seconds, most)
}
