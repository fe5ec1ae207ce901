package engine

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"time"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
)

// errDone ends a connection in order.
var errDone = errors.New("disconnected")

// run owns the connection until it is over.
func (c *conn) run() {
	defer func() {
		if p := recover(); p != nil {
			c.e.log.Error("the broker engine panicked over a packet: the connection is closed", "remote", c.remote, "panic", p, "stack", string(debug.Stack()))
			c.leave(wire.Unspecified, "an error of the broker", true)
			c.linger()
		}
	}()
	if !c.e.admission.enter(c) {
		c.e.ended("", c.remote, "more connections than broker.limits lets in")
		c.hangUp()
		return
	}
	defer c.e.admission.leave(c)
	c.timer = time.AfterFunc(c.e.limits.ConnectTimeout, c.hangUp)
	leave := c.e.lobby.Enter(host(c.remote), c.hangUp)
	rest, err := c.greet()
	if err != nil {
		c.timer.Stop()
		c.in.release()
		c.refused(err)
		c.lingerRefused()
		leave()
		return
	}
	leave()
	err = c.serve(rest)
	c.in.release()
	var fault *wire.Error
	switch {
	case errors.As(err, &fault):
		c.leave(fault.Code, fault.Reason, true)
	case errors.Is(err, errDone):
		c.leave(wire.Success, "disconnected", c.hasWill)
	default:
		c.leave(wire.Success, closedBy(err), true)
	}
	c.linger()
}

func closedBy(err error) string {
	if errors.Is(err, io.EOF) {
		return "the client closed it"
	}
	return err.Error()
}

// serve handles what is there, and all that comes.
func (c *conn) serve(b []byte) error {
	for {
		if c.over() {
			return net.ErrClosed
		}
		c.heard.Store(int64(c.e.now()))
		rest, need, err := c.process(b)
		if err != nil {
			return err
		}
		c.in.keep(rest, need)
		if err := c.countPart(); err != nil {
			return err
		}
		if err := c.settle(); err != nil {
			return err
		}
		if err := c.pace.wait(c, len(b)-len(rest)); err != nil {
			return err
		}
		if b, err = c.in.read(); err != nil {
			return err
		}
	}
}

// countPart counts the memory of a frame that is larger than a buffer and not
// all here yet.
func (c *conn) countPart() error {
	n := 0
	if c.in.need > readAtATime {
		n = cap(c.in.part)
	}
	d := n - c.part
	if d == 0 {
		return nil
	}
	c.s.mu.Lock()
	fits := d < 0 || c.s.admits(d)
	why := ""
	if !fits {
		why = c.s.noMemory(d)
	}
	c.s.mu.Unlock()
	if !fits {
		return &wire.Error{Code: wire.QuotaExceeded, Reason: "a packet of it is refused: " + why}
	}
	c.part = n
	c.hold(d)
	return nil
}

// process handles the whole frames in b, and returns the rest with the size of
// the frame it begins.
func (c *conn) process(b []byte) (rest []byte, need int, err error) {
	t := c.e.begin(c)
	all, packets := len(b), uint64(0)
	defer func() {
		t.end()
		c.e.stats.in.add(Traffic{packets, uint64(all - len(rest)), c.publishes, c.payload})
		c.publishes, c.payload = 0, 0
	}()
	for {
		first, start, end, more, err := wire.Frame(b)
		switch {
		case err != nil:
			return nil, 0, err
		case more:
			return b, 0, nil
		case end > c.e.limits.MaxPacket:
			need, err := c.tooLargePacket(first, b, start, end)
			return b, need, err
		}
		if err := wire.CheckFirst(first, c.version); err != nil {
			return nil, 0, err
		}
		if end > len(b) {
			return b, end, nil
		}
		body := b[start:end]
		b = b[end:]
		packets++
		if see := c.e.trace.Load(); see != nil {
			c.traceIn(see, first, body)
		}
		switch kind := first >> 4; kind {
		case wire.PublishType:
			err = c.onPublish(t, first, body)
		case wire.Puback, wire.Pubrec, wire.Pubrel, wire.Pubcomp:
			if err = c.awaitAck(t, kind, body); err == nil {
				err = c.onAck(t, kind, body)
			}
		case wire.Pingreq:
			err = c.onPing(t, body)
		default:
			t.end()
			err = c.onControl(kind, first, body)
			t = c.e.begin(c)
		}
		if err != nil {
			return nil, 0, err
		}
	}
}

// tooLargePacket refuses a packet beyond the limit, as soon as its topic is here
// to name it: until then it returns how many bytes that takes.
func (c *conn) tooLargePacket(first byte, b []byte, start, end int) (need int, err error) {
	what := fmt.Sprintf("a packet of type %d", first>>4)
	if first>>4 == wire.PublishType {
		topic := start + 2
		if len(b) < topic {
			return topic, nil
		}
		n := int(b[start])<<8 | int(b[start+1])
		if len(b) < topic+n && topic+n < end {
			return topic + n, nil
		}
		what = fmt.Sprintf("a message to %.200q", b[topic:min(topic+n, len(b))])
	}
	return 0, &wire.Error{
		Code:   wire.PacketTooLarge,
		Reason: fmt.Sprintf("packet too large: %s has %d bytes; the limit is %d (broker.limits.max_packet)", what, end, c.e.limits.MaxPacket),
	}
}

func (c *conn) onPing(t *turn, body []byte) error {
	if _, err := wire.Decode(wire.Pingreq<<4, body, c.version); err != nil {
		return err
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.reply(packet{raw: pingresp})
	c.touchOwn(t)
	return nil
}

var pingresp = []byte{wire.Pingresp << 4, 0}

// touchOwn has this connection written to at the end of the turn, whether it
// still has its session or not.
func (c *conn) touchOwn(t *turn) {
	if c.s.conn == c {
		t.touch(c.s)
		return
	}
	c.wake()
}

func (c *conn) onPublish(t *turn, first byte, body []byte) error {
	p := &c.publish
	if err := p.Decode(first, body, c.version); err != nil {
		return err
	}
	c.pace.messages++
	c.publishes++
	c.payload += uint64(len(p.Payload))
	topic := p.Topic
	if p.Alias != 0 {
		if p.Alias > c.e.limits.TopicAliasMaximum {
			return &wire.Error{Code: wire.TopicAliasInvalid, Reason: "topic alias above the maximum"} // [MQTT-3.3.2-9]
		}
		if len(topic) == 0 {
			known, ok := c.aliases[p.Alias]
			if !ok {
				return &wire.Error{Code: wire.ProtocolError, Reason: "protocol error: a topic alias that stands for nothing"}
			}
			topic = []byte(known)
		} else {
			if c.aliases == nil {
				c.aliases = make(map[uint16]string)
			}
			c.setAlias(p.Alias, string(topic))
		}
	}
	if see := c.e.trace.Load(); see != nil {
		(*see)(c.traced(p, topic))
	}
	if p.QoS > 0 && int(c.unacked.Add(1)) > c.e.limits.MaxInflight && c.version == wire.V5 {
		return &wire.Error{Code: wire.ReceiveMaximumExceeded, Reason: "more unacknowledged messages than the server's receive maximum"} // [MQTT-3.3.4-7]
	}
	a := ack{kind: wire.Puback, Ack: wire.Ack{PacketID: p.PacketID}}
	if p.QoS == 2 {
		a.kind = wire.Pubrec
		twice, durable := c.receive(p.PacketID)
		if durable {
			// said again where it is not new: the first may not be stored yet
			t.add(store.Received{Client: c.s.id, PacketID: p.PacketID})
			a.stored = true
		}
		if twice {
			t.acks = append(t.acks, a)
			return nil
		}
	}
	if len(topic) > c.e.limits.MaxTopicLength || levels(topic) > c.e.limits.MaxTopicLevels {
		return c.refuse(t, a, p, topic, wire.TopicNameInvalid)
	}
	if p.Properties.HasPayloadFormat && p.Properties.PayloadFormat == 1 && !validText(p.Payload) {
		return c.refuse(t, a, p, topic, wire.PayloadFormatInvalid)
	}
	r := c.e.route(topic)
	if !c.may.publish(c, r.topic) {
		return c.refuse(t, a, p, topic, wire.NotAuthorized)
	}
	if p.QoS > 0 && c.e.full.since.Load() != 0 && c.e.mustStore(p, r, c.s) && c.e.refuses(len(topic)+len(p.Payload)) {
		return c.refuse(t, a, p, topic, wire.QuotaExceeded)
	}
	if p.QoS > 0 && c.account != nil {
		if cost := c.queueCost(p.QoS, len(topic)+len(p.Payload)+len(p.Forward), r); cost > 0 {
			if err := c.awaitTurn(t, cost); err != nil {
				return err
			}
			r = c.e.routeOf(r.topic)
		}
	}
	if p.QoS == 0 {
		if !p.Retain && len(r.sessions) == 0 && len(r.groups) == 0 && len(r.locals) == 0 {
			c.e.stats.published.Add(1)
			return nil
		}
		t.publish(received(p, r.topic, c.s.client.Load()), r, nil)
		return nil
	}
	t.publish(received(p, r.topic, c.s.client.Load()), r, &a)
	return nil
}

// receive takes the packet identifier of a QoS 2 message.
func (c *conn) receive(id uint16) (twice, durable bool) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	fresh := c.s.flow.receive(id)
	if fresh {
		c.s.hold(costIdentifier)
	}
	return !fresh, c.s.durable && !c.s.gone
}

// release takes the packet identifier of a QoS 2 message back; it is false
// where none was received. The caller holds the mutex.
func (s *session) release(id uint16) bool {
	ok := s.flow.release(id)
	if ok {
		s.hold(-costIdentifier)
	}
	return ok
}

// setAlias notes the topic that an alias of the client stands for.
func (c *conn) setAlias(alias uint16, topic string) {
	before, known := c.aliases[alias]
	if before == topic && known {
		return
	}
	n := len(topic) - len(before)
	if !known {
		n += costAlias
	}
	c.aliases[alias] = topic
	c.hold(n)
}

// hold counts what the reading goroutine of a connection holds.
func (c *conn) hold(n int) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if !c.left {
		c.memory += n
		c.s.hold(n)
	}
}

// refuse tells the publisher that its message goes nowhere. Before MQTT 5 there
// is no way to: what a client may not publish is acknowledged and dropped, as
// closing the connection would have it send the same again for ever; for what
// could be taken later, or elsewhere, the connection is closed [MQTT 3.1.1:
// MQTT-3.3.5-2].
func (c *conn) refuse(t *turn, a ack, p *wire.Publish, topic []byte, code byte) error {
	c.e.stats.refused.Add(1)
	if see := c.e.trace.Load(); see != nil {
		(*see)(Traced{Client: *c.who, Kind: wire.PublishType, QoS: p.QoS, ID: p.PacketID, Topic: string(topic), Code: code, Refused: true, Action: ActionPublish})
	}
	if code == wire.NotAuthorized && (c.version != wire.V5 || p.QoS == 0) {
		c.answerDenied(t, string(topic), p.Payload)
	}
	if p.QoS == 0 {
		return nil
	}
	if c.version != wire.V5 {
		if code != wire.NotAuthorized {
			return &wire.Error{Code: code, Reason: fmt.Sprintf("what it published to %.200q is refused", topic)}
		}
		t.acks = append(t.acks, a)
		return nil
	}
	if p.QoS == 2 {
		// A PUBREC of 0x80 and above ends it: the identifier is free.
		c.s.mu.Lock()
		c.s.release(p.PacketID)
		durable := c.s.durable && !c.s.gone
		c.s.mu.Unlock()
		if durable {
			t.free(store.Released{Client: c.s.id, PacketID: p.PacketID})
		}
		a.stored = false
	}
	a.Code = code
	t.acks = append(t.acks, a)
	return nil
}

// answerDenied sends a client what Options.Denied has for it.
func (c *conn) answerDenied(t *turn, topic string, payload []byte) {
	if c.e.ask.Denied == nil {
		return
	}
	m, ok := c.e.ask.Denied(*c.who, topic, payload)
	if !ok {
		return
	}
	r := c.e.routeOf(m.Topic)
	for i := range r.sessions {
		if r.sessions[i].session == c.s {
			c.s.push(t, own(m), &r.sessions[i], false, "")
		}
	}
}

// mustStore tells whether a publish would need room on the disk.
func (e *Engine) mustStore(p *wire.Publish, r *route, from *session) bool {
	if e.store == nil {
		return false
	}
	if p.QoS == 2 && from.keeps() {
		return true
	}
	if !r.persists {
		return false
	}
	if p.Retain && len(p.Payload) > 0 {
		return true
	}
	for i := range r.sessions {
		if r.sessions[i].qos > 0 && r.sessions[i].session.keeps() {
			return true
		}
	}
	for i := range r.groups {
		for _, s := range r.groups[i].members {
			if s.qos > 0 && s.session.keeps() {
				return true
			}
		}
	}
	return false
}

func (s *session) keeps() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.durable
}

func (c *conn) onAck(t *turn, kind byte, body []byte) error {
	a, err := wire.DecodeAck(kind, body, c.version)
	if err != nil {
		return err
	}
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c {
		return nil // taken over: its successor is asked anew
	}
	switch kind {
	case wire.Puback:
		d, ok := s.flow.acknowledged(a.PacketID)
		if !ok {
			return s.flow.unexpected(kind, a.PacketID)
		}
		s.finished(t, d)
	case wire.Pubrec:
		d, what := s.flow.recorded(a.PacketID, a.Code)
		switch what {
		case unknown:
			if err := s.flow.unexpected(kind, a.PacketID); err != nil {
				return err
			}
			if a.Code < 0x80 {
				c.reply(packet{id: a.PacketID, first: wire.Pubrel << 4, code: wire.PacketIdentifierNotFound})
			}
		case refused:
			s.finished(t, *d)
		case release:
			s.recorded(t, d)
		}
	case wire.Pubcomp:
		d, ok := s.flow.completed(a.PacketID)
		if !ok {
			return s.flow.unexpected(kind, a.PacketID)
		}
		s.finished(t, d)
	case wire.Pubrel:
		back := ack{kind: wire.Pubcomp, Ack: wire.Ack{PacketID: a.PacketID}}
		if !s.release(a.PacketID) {
			back.Code = wire.PacketIdentifierNotFound
			c.unacked.Add(1) // acknowledging takes one off
		} else if s.durable {
			t.free(store.Released{Client: s.id, PacketID: a.PacketID})
		}
		t.acks = append(t.acks, back)
	}
	t.touch(s)
	return nil
}

// finished forgets a delivery that the client has. The caller holds the mutex.
func (s *session) finished(t *turn, d delivery) {
	s.forget(d.m)
	if s.durable && !d.passing {
		t.free(store.Dequeue{Client: s.id, Seq: d.seq})
	}
}

// recorded goes on with a PUBREL, once it is stored that PUBLISH must not be
// sent again. The caller holds the mutex.
func (s *session) recorded(t *turn, d *delivery) {
	if !s.durable || d.passing {
		s.conn.deliver(d)
		return
	}
	d.stored = false
	s.append([]store.Record{store.Sent{Client: s.id, Seq: d.seq, PacketID: d.id, Phase: store.Releasing}}, []uint64{d.seq})
}

func levels(topic []byte) int {
	n := 1
	for _, b := range topic {
		if b == '/' {
			n++
		}
	}
	return n
}
