package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// client is one connection. What it expects must come next and nothing else,
// but for what await put aside.
type client struct {
	*probe
	conn    net.Conn
	name    string
	version byte
	connack packet
	packets uint16   // the last packet id used
	aside   []packet // came while something else was awaited
	only    string   // PUBLISH of topics without this prefix are let go
}

func (c *client) send(parts ...[]byte) {
	_ = c.conn.SetWriteDeadline(time.Now().Add(patience))
	// the server may close while we write: what it said before is what counts
	_, _ = c.conn.Write(joined(parts))
}

// read is the next packet, from the wire or put aside.
func (c *client) read() (packet, error) {
	if len(c.aside) > 0 {
		p := c.aside[0]
		c.aside = c.aside[1:]
		return p, nil
	}
	return c.receive()
}

func (c *client) receive() (packet, error) {
	for {
		_ = c.conn.SetReadDeadline(time.Now().Add(patience))
		p, err := parse(c.conn, c.version)
		if err == nil && p.kind == PUBLISH && !strings.HasPrefix(p.topic, c.only) && len(p.all(propTopicAlias)) == 0 {
			continue
		}
		return p, err
	}
}

// expect is the next packet, which must be of a kind.
func (c *client) expect(kind byte) packet {
	p, err := c.read()
	c.check(err == nil, "awaiting %s: %v", kinds[kind], err)
	c.check(p.kind == kind, "awaiting %s, not %v", kinds[kind], p)
	return p
}

// await is the next packet of a kind; messages that come before stay for later.
func (c *client) await(kind byte) packet {
	for {
		p, err := c.receive()
		c.check(err == nil, "awaiting %s: %v", kinds[kind], err)
		if p.kind == kind {
			return p
		}
		c.check(p.kind == PUBLISH || p.kind == PUBREL, "awaiting %s, not %v", kinds[kind], p)
		c.aside = append(c.aside, p)
	}
}

// ping shows that the server has dealt with all that was sent before, and that
// what it had to send in return has come. The first answer may overtake
// messages that are on their way, the second comes after them: at once, or when
// the store has what must be with it before.
func (c *client) ping() {
	for n := range 2 {
		c.send(raw(PINGREQ<<4, 0))
		c.await(PINGRESP)
		if n == 0 && c.target.stores {
			c.afterStore()
		}
	}
}

// quiet shows that nothing has come.
func (c *client) quiet() {
	c.ping()
	c.check(len(c.aside) == 0, "came unasked: %v", c.aside)
}

// end reads to the end of the connection and gives the last packet before it.
func (c *client) end() (*packet, error) {
	var last *packet
	for {
		p, err := c.receive()
		switch {
		case err == nil && last != nil && last.kind == DISCONNECT:
			return last, fmt.Errorf("%v after %v", p, last)
		case err == nil && p.kind == PINGRESP:
			return &p, errors.New("the connection goes on, PINGREQ is answered")
		case err == nil:
			last = &p
		case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
			return last, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return last, fmt.Errorf("the connection goes on; last came %v", last)
		default:
			return last, err
		}
	}
}

// closed shows that the server ends the connection, and gives its last packet.
func (c *client) closed() *packet {
	last, err := c.end()
	c.check(err == nil, "%v", err)
	return last
}

// drop ends the connection without DISCONNECT.
func (c *client) drop() {
	if tcp, ok := c.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.conn.Close()
}

// leave sends DISCONNECT and waits until the server has closed.
func (c *client) leave(body ...byte) {
	c.send(frame(DISCONNECT<<4, body))
	for {
		if _, err := c.receive(); err != nil {
			c.check(!errors.Is(err, os.ErrDeadlineExceeded), "DISCONNECT does not end the connection")
			break
		}
	}
	_ = c.conn.Close()
}

func (c *client) next() uint16 {
	c.packets++
	return c.packets
}

// message is a PUBLISH in the making.
type message struct {
	topic, payload string
	qos            byte
	retain, dup    bool
	id             uint16
	properties     []property
}

func (c *client) publishPacket(m message) []byte {
	flags := m.qos << 1
	if m.retain {
		flags |= 1
	}
	if m.dup {
		flags |= 8
	}
	var id []byte
	if m.qos > 0 {
		id = short(int(m.id))
	}
	return frame(PUBLISH<<4|flags, str(m.topic), id, encode(c.version, m.properties...), []byte(m.payload))
}

// publish sends a message, waits for the whole of its acknowledgement, and
// gives the reason code of the first packet of it.
func (c *client) publish(topic, payload string, qos byte, properties ...property) byte {
	return c.deliver(message{topic: topic, payload: payload, qos: qos, properties: properties})
}

func (c *client) retain(topic, payload string, qos byte, properties ...property) byte {
	return c.deliver(message{topic: topic, payload: payload, qos: qos, retain: true, properties: properties})
}

func (c *client) deliver(m message) byte {
	if m.qos > 0 && m.id == 0 {
		m.id = c.next()
	}
	c.send(c.publishPacket(m))
	switch m.qos {
	case 0:
		c.ping()
		return 0
	case 1:
		return c.acked(PUBACK, m.id).reason
	}
	first := c.acked(PUBREC, m.id)
	if first.reason < 0x80 {
		c.send(ack(PUBREL, m.id))
		c.acked(PUBCOMP, m.id)
	}
	return first.reason
}

// acked awaits an acknowledgement of a packet id.
func (c *client) acked(kind byte, id uint16) packet {
	p := c.await(kind)
	c.check(p.id == id, "%v is not for packet id %d", p, id)
	return p
}

// ack is an acknowledgement without anything beside its packet id.
func ack(kind byte, id uint16, reason ...byte) []byte {
	first := kind << 4
	if kind == PUBREL {
		first |= 2
	}
	return frame(first, short(int(id)), reason)
}

// wish is a filter with its subscription options.
type wish struct {
	filter  string
	options byte
}

// Subscription options beside the QoS.
const (
	noLocal     byte = 4
	asPublished byte = 8
	ifNew       byte = 1 << 4
	notRetained byte = 2 << 4
)

func (c *client) subscribePacket(id uint16, properties []property, wishes ...wish) []byte {
	var payload []byte
	for _, w := range wishes {
		payload = append(append(payload, str(w.filter)...), w.options)
	}
	return frame(SUBSCRIBE<<4|2, short(int(id)), encode(c.version, properties...), payload)
}

// subscribe must be granted what it asks for.
func (c *client) subscribe(filter string, options byte, properties ...property) {
	code := c.subscribed(properties, wish{filter, options})[0]
	c.check(code == options&3, "%q is granted %#x for QoS %d", filter, code, options&3)
}

// subscribed gives the answers to a SUBSCRIBE.
func (c *client) subscribed(properties []property, wishes ...wish) []byte {
	id := c.next()
	c.send(c.subscribePacket(id, properties, wishes...))
	a := c.acked(SUBACK, id)
	c.check(len(a.reasons) == len(wishes), "%d filters are answered by %v", len(wishes), a)
	return a.reasons
}

func (c *client) unsubscribePacket(id uint16, filters ...string) []byte {
	var payload []byte
	for _, f := range filters {
		payload = append(payload, str(f)...)
	}
	return frame(UNSUBSCRIBE<<4|2, short(int(id)), encode(c.version), payload)
}

func (c *client) unsubscribed(filters ...string) []byte {
	id := c.next()
	c.send(c.unsubscribePacket(id, filters...))
	a := c.acked(UNSUBACK, id)
	if c.version == 5 {
		c.check(len(a.reasons) == len(filters), "%d filters are answered by %v", len(filters), a)
	}
	return a.reasons
}

// take expects a message and acknowledges it to the end.
func (c *client) take() packet {
	m := c.expect(PUBLISH)
	c.settle(m)
	return m
}

func (c *client) settle(m packet) {
	switch m.qos() {
	case 1:
		c.send(ack(PUBACK, m.id))
	case 2:
		c.send(ack(PUBREC, m.id))
		c.acked(PUBREL, m.id)
		c.send(ack(PUBCOMP, m.id))
	}
}

// gets expects these payloads in this order, and acknowledges them.
func (c *client) gets(payloads ...string) (got []packet) {
	for _, want := range payloads {
		m := c.take()
		c.check(m.payload == want, "got %v, not %q", m, want)
		got = append(got, m)
	}
	return got
}

// getsAll expects these payloads in any order.
func (c *client) getsAll(payloads ...string) (got []packet) {
	left := slices.Clone(payloads)
	for range payloads {
		m := c.take()
		i := slices.Index(left, m.payload)
		c.check(i >= 0, "got %v, not one of %q", m, left)
		left = slices.Delete(left, i, i+1)
		got = append(got, m)
	}
	return got
}

func has(list string, code byte) bool { return bytes.IndexByte([]byte(list), code) >= 0 }
