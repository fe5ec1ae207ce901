package engine

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
)

// validText reports whether a payload is the UTF-8 that its payload format indicates.
func validText(b []byte) bool { return utf8.Valid(b) }

// onControl handles the packet types that are rare.
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
		if err := c.waitForFilterBudget(&pk); err != nil {
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

// filtersPerLock is how many filters of a packet are handled under one lock.
const filtersPerLock = 512

// subscribeRequest is a SUBSCRIBE that is being handled.
type subscribeRequest struct {
	pk      *wire.Packet
	codes   []byte
	records []store.Record
	// added are the subscriptions in records.
	added        []replacement
	replays      []*replay
	hasSysFilter bool
}

// replacement is a subscription and the one that it replaced, or nil.
type replacement struct{ sub, old *subscription }

// onSubscribe adds subscriptions. SUBACK is sent when they are stored, and after it
// the retained messages.
func (c *conn) onSubscribe(pk *wire.Packet) {
	a := &subscribeRequest{pk: pk, codes: make([]byte, len(pk.Filters))}
	for from, n := 0, len(pk.Filters); from < n; from += filtersPerLock {
		if !c.addSubscriptions(a, from, min(from+filtersPerLock, n)) {
			return
		}
	}
	if c.e.opts.SysSubscribed != nil && a.hasSysFilter {
		c.e.opts.SysSubscribed()
	}
}

// addSubscriptions adds the subscriptions from..to of a packet, and answers the packet
// after the last ones. It returns false if the connection has lost its session.
func (c *conn) addSubscriptions(a *subscribeRequest, from, to int) bool {
	s, e := c.s, c.e
	e.mu.RLock()
	defer e.mu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.removed || s.conn != c {
		return false
	}
	for i := from; i < to; i++ {
		c.addSubscription(a, i)
	}
	if to < len(a.codes) {
		return true
	}
	if !s.durable || len(a.records) == 0 {
		c.suback(a)
		return true
	}
	c.unstored.Add(1)
	e.store.Append(a.records, func(err error) {
		e.noteStoreResult(a.records, err)
		c.batchStored()
		s.mu.Lock()
		defer s.mu.Unlock()
		if err != nil {
			c.rollBack(a)
		}
		c.suback(a)
	})
	return true
}

// addSubscription adds one subscription, if it is granted. The caller holds s.mu.
func (c *conn) addSubscription(a *subscribeRequest, i int) {
	s, f := c.s, &a.pk.Filters[i]
	sub := &subscription{
		session: s, filter: f.Filter, qos: f.Qos, noLocal: f.NoLocal || c.bridge, retainAsPublished: f.RetainAsPublished || c.bridge,
		retainHandling: f.RetainHandling, id: uint32(f.Identifier),
	}
	if a.codes[i] = c.grant(sub, i); a.codes[i] >= 0x80 {
		if emit := c.e.trace.Load(); emit != nil {
			(*emit)(TraceEvent{Client: *c.client, Kind: wire.Subscribe, ID: a.pk.PacketID, Topic: sub.filter, Code: a.codes[i], Refused: true, Action: ActionSubscribe})
		}
		return
	}
	old := s.subscriptions[sub.filter]
	s.subscribe(sub)
	if s.durable && (old == nil || old.record(s.id) != sub.record(s.id)) { // otherwise the store has it
		a.records = append(a.records, sub.record(s.id))
		a.added = append(a.added, replacement{sub, old})
	}
	a.hasSysFilter = a.hasSysFilter || sub.filter[0] == '$'
	group, _ := wire.SplitShared(sub.filter)
	if group == "" && (sub.retainHandling == 0 || sub.retainHandling == 1 && old == nil) { // [MQTT-3.3.1-9, -10, -11]
		a.replays = append(a.replays, &replay{sub: sub, at: newCursor(sub.filter)})
	}
}

// rollBack restores what the store has for subscriptions that it refused, and changes
// their reason codes. The caller holds s.mu.
func (c *conn) rollBack(a *subscribeRequest) {
	s := c.s
	refused := make(map[string]bool)
	for _, r := range slices.Backward(a.added) {
		refused[r.sub.filter] = true
		if s.subscriptions[r.sub.filter] != r.sub {
			continue // replaced meanwhile
		}
		if r.old != nil {
			s.subscribe(r.old)
		} else {
			s.unsubscribe(r.sub)
		}
	}
	for i := range a.codes {
		if a.codes[i] < 0x80 && refused[a.pk.Filters[i].Filter] {
			a.codes[i] = c.refusalCode(wire.QuotaExceeded)
		}
	}
	a.replays = slices.DeleteFunc(a.replays, func(r *replay) bool { return refused[r.sub.filter] })
}

// refusalCode returns a reason code for the client's version: before MQTT 5 there is
// only 0x80.
func (c *conn) refusalCode(code byte) byte {
	if c.version != wire.V5 {
		return 0x80
	}
	return code
}

// grant returns the reason code of a subscription: its QoS, or why it is refused. nth
// is its position in the packet: no more are examined than a client may have. The
// caller holds s.mu.
func (c *conn) grant(sub *subscription, nth int) byte {
	_, filter := wire.SplitShared(sub.filter)
	l := &c.e.limits
	_, exists := c.s.subscriptions[sub.filter]
	refuse := func(code byte, reason string) byte {
		c.s.refused++
		c.e.notify(c.client, sub.filter, "a subscription is refused: "+reason)
		return c.refusalCode(code)
	}
	refuseTooMany := func() byte {
		return refuse(wire.QuotaExceeded, fmt.Sprintf("a client may have %d (broker.limits.max_subscriptions)", l.MaxSubscriptions))
	}
	memory := costReplay
	if !exists {
		memory += filterMemory(sub.filter)
	}
	switch {
	case nth >= l.MaxSubscriptions:
		return refuseTooMany()
	case !wire.ValidFilter(sub.filter): // before MQTT 5, where it would be malformed
		return refuse(wire.TopicFilterInvalid, "it is not $share/GROUP/FILTER")
	case len(sub.filter) > l.MaxTopicLength:
		return refuse(wire.TopicFilterInvalid, fmt.Sprintf("its filter has %d bytes, and may have %d (broker.limits.max_topic_length)", len(sub.filter), l.MaxTopicLength))
	case levels([]byte(filter)) > l.MaxTopicLevels:
		return refuse(wire.TopicFilterInvalid, fmt.Sprintf("its filter has %d levels, and may have %d (broker.limits.max_topic_levels)", levels([]byte(filter)), l.MaxTopicLevels))
	case !exists && len(c.s.subscriptions) >= l.MaxSubscriptions:
		return refuseTooMany()
	case !exists && c.s.filterTotals.add(sub.filter).exceeds(l):
		return refuse(wire.QuotaExceeded, "all filters of its client are too long together, or have too many levels (broker.limits.max_subscriptions)")
	case !exists && hasWildcard(filter) && c.s.filterTotals.wild >= l.MaxWildcardSubscriptions:
		return refuse(wire.QuotaExceeded, fmt.Sprintf("a client may have %d with a wildcard (broker.limits.max_wildcard_subscriptions)", l.MaxWildcardSubscriptions))
	case !c.e.allowed(c.s.client.Load(), ActionSubscribe, sub.filter):
		return c.refusalCode(wire.NotAuthorized)
	case c.s.memory+memory > memoryAlwaysFree && !c.s.admits(memory):
		c.s.refused-- // admits has counted it, and refuse does too
		return refuse(wire.QuotaExceeded, c.s.memoryRefusal(memory))
	}
	return sub.qos
}

// hasWildcard reports whether a filter has a wildcard.
func hasWildcard(filter string) bool { return strings.ContainsAny(filter, "+#") }

// filterTotals are the sums over the filters of a client: each may be long, or have
// many levels, but not all of them.
type filterTotals struct{ bytes, levels, wild int }

const (
	// maxFilterBytes bounds the total length of the filters in bytes.
	maxFilterBytes = 1 << 20
	// maxLevelsPerFilter bounds the total number of levels, for each subscription that
	// a client may have.
	maxLevelsPerFilter = 8
)

// add returns the totals with a further filter.
func (x filterTotals) add(filter string) filterTotals {
	return x.change(filter, 1)
}

// sub returns the totals without a filter.
func (x filterTotals) sub(filter string) filterTotals {
	return x.change(filter, -1)
}

// change adds a filter n times; n may be negative.
func (x filterTotals) change(filter string, n int) filterTotals {
	x.bytes += n * len(filter)
	x.levels += n * (1 + strings.Count(filter, "/"))
	if hasWildcard(filter) {
		x.wild += n
	}
	return x
}

// exceeds reports whether the totals are beyond the bounds.
func (x filterTotals) exceeds(l *Limits) bool {
	return x.bytes > maxFilterBytes || x.levels > maxLevelsPerFilter*max(l.MaxSubscriptions, 16)
}

// record returns the record of the subscription.
func (s *subscription) record(client string) store.Subscribe {
	return store.Subscribe{
		Client: client, Filter: s.filter, QoS: s.qos, NoLocal: s.noLocal,
		RetainAsPublished: s.retainAsPublished, RetainHandling: s.retainHandling, Identifier: s.id,
	}
}

// subscribe adds a subscription and then removes the one that it replaces
// [MQTT-3.8.4-3], so that no message is lost in between [MQTT-3.8.4-4]. The caller
// holds s.mu.
func (s *session) subscribe(sub *subscription) {
	s.e.subscriptions.add(sub)
	if old := s.subscriptions[sub.filter]; old != nil {
		s.unsubscribe(old)
	}
	if s.subscriptions == nil {
		s.subscriptions = make(map[string]*subscription)
	}
	s.subscriptions[sub.filter] = sub
	s.filterTotals = s.filterTotals.add(sub.filter)
	s.accountMemory(filterMemory(sub.filter))
}

// unsubscribe removes a subscription. The caller holds s.mu.
func (s *session) unsubscribe(sub *subscription) {
	delete(s.subscriptions, sub.filter)
	s.filterTotals = s.filterTotals.sub(sub.filter)
	s.accountMemory(-filterMemory(sub.filter))
	s.e.subscriptions.remove(sub)
}

// suback queues SUBACK, and starts the replay of retained messages after it. The
// caller holds s.mu.
func (c *conn) suback(a *subscribeRequest) {
	if c.version == wire.V31 { // it has no reason code for a refusal; mosquitto does the same
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
	c.enqueueReply(packet{raw: raw})
	if s := c.s; s.conn == c {
		s.startReplays(a.replays)
		s.advance()
	}
	c.wakeWriter()
}

// onUnsubscribe removes subscriptions. UNSUBACK is sent when the store has the change.
func (c *conn) onUnsubscribe(pk *wire.Packet) {
	s, e := c.s, c.e
	codes := make([]byte, len(pk.Filters))
	var records []store.Record
	e.mu.RLock()
	defer e.mu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.removed || s.conn != c {
		return
	}
	for i := range pk.Filters {
		filter := pk.Filters[i].Filter
		sub := s.subscriptions[filter]
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
		c.enqueueReply(packet{raw: raw})
		c.wakeWriter()
		return
	}
	c.unstored.Add(1)
	e.store.Append(records, func(err error) { // it takes effect even if the store is full
		e.noteStoreResult(records, err)
		c.batchStored()
		s.mu.Lock()
		defer s.mu.Unlock()
		c.enqueueReply(packet{raw: raw})
		c.wakeWriter()
	})
}

// onDisconnect handles DISCONNECT (MQTT 5.0, 3.14.4). It returns an error in any case.
func (c *conn) onDisconnect(pk *wire.Packet) error {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.version == wire.V5 && pk.Properties.SessionExpiryIntervalFlag && s.conn == c {
		requested := pk.Properties.SessionExpiryInterval
		if s.expiry == 0 && requested != 0 {
			return &wire.Error{Code: wire.ProtocolError, Reason: "protocol error: a session expiry interval where CONNECT had none"} // [MQTT-3.14.2-2]
		}
		s.expiry = c.e.limitExpiry(requested)
	}
	c.hasWill = pk.ReasonCode != wire.Success // [MQTT-3.14.4-3]
	return errDisconnected
}
