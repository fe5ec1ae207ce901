package engine_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/broker/wire"
)

// client speaks MQTT by hand. What it gets is a line of text each.
type client struct {
	t       testing.TB
	conn    net.Conn
	version byte
	b       []byte
	id      uint16
	aliases map[uint16]string
}

type setting func(*packets.Packet)

func v5(pk *packets.Packet)           { pk.ProtocolVersion = 5 }
func persistent(pk *packets.Packet)   { pk.Connect.Clean = false }
func cleanSession(pk *packets.Packet) { pk.Connect.Clean = true }
func expiry(seconds uint32) setting {
	return func(pk *packets.Packet) {
		v5(pk)
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = seconds, true
	}
}

func keepAlive(seconds uint16) setting {
	return func(pk *packets.Packet) { pk.Connect.Keepalive = seconds }
}

func window(n uint16) setting {
	return func(pk *packets.Packet) { v5(pk); pk.Properties.ReceiveMaximum = n }
}

func user(name string) setting {
	return func(pk *packets.Packet) { pk.Connect.UsernameFlag, pk.Connect.Username = true, []byte(name) }
}

// will is the message that is published when a client disconnects without DISCONNECT
// (MQTT 5.0, 3.1.2.5).
func will(topic, payload string, qos byte, retain bool, delay uint32) setting {
	return func(pk *packets.Packet) {
		c := &pk.Connect
		c.WillFlag, c.WillTopic, c.WillPayload, c.WillQos, c.WillRetain = true, topic, []byte(payload), qos, retain
		c.WillProperties.WillDelayInterval = delay
	}
}

// pipe connects without a socket, so that it works in a bubble.
func pipe(t testing.TB, e *engine.Engine) net.Conn {
	ours, theirs := net.Pipe()
	e.Serve(theirs, "pipe")
	return ours
}

func handshake(t testing.TB, conn net.Conn, id string, settings ...setting) *client {
	t.Helper()
	pk := packets.Packet{ProtocolVersion: 4, FixedHeader: packets.FixedHeader{Type: packets.Connect}}
	pk.Connect = packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: id, Clean: true}
	for _, s := range settings {
		s(&pk)
	}
	c := &client{t: t, conn: conn, version: pk.ProtocolVersion, aliases: map[uint16]string{}}
	var b bytes.Buffer
	if err := pk.ConnectEncode(&b); err != nil {
		t.Fatal(err)
	}
	c.send(b.Bytes())
	return c
}

// connect connects and expects to be let in.
func connect(t testing.TB, conn net.Conn, id string, settings ...setting) *client {
	t.Helper()
	c := handshake(t, conn, id, settings...)
	if got := c.nextAsText(); !strings.HasPrefix(got, "CONNACK 0") {
		t.Fatalf("%s: got %q", id, got)
	}
	return c
}

func (c *client) send(b []byte) {
	c.t.Helper()
	_ = c.conn.SetWriteDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatalf("cannot write: %v", err)
	}
}

func (c *client) publish(qos byte, topic, payload string, retain ...bool) uint16 {
	c.t.Helper()
	o := wire.Outgoing{Flags: qos << 1, Topic: topic, Payload: len(payload)}
	if len(retain) > 0 && retain[0] {
		o.Flags |= wire.FlagRetain
	}
	if qos > 0 {
		c.id++
		o.PacketID = c.id
	}
	c.send(append(o.Append(nil, c.version), payload...))
	return o.PacketID
}

func (c *client) ack(kind byte, id uint16) {
	c.t.Helper()
	c.send(wire.AppendAck(nil, kind, wire.Ack{PacketID: id}, c.version))
}

func (c *client) subscribe(filters ...packets.Subscription) {
	c.t.Helper()
	c.id++
	pk := packets.Packet{ProtocolVersion: c.version, PacketID: c.id, Filters: filters, FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}}
	if filters[0].Identifier > 0 {
		pk.Properties.SubscriptionIdentifier = []int{filters[0].Identifier}
	}
	var b bytes.Buffer
	if err := pk.SubscribeEncode(&b); err != nil {
		c.t.Fatal(err)
	}
	c.send(b.Bytes())
}

// subscribeAndWait subscribes and waits until that is done.
func (c *client) subscribeAndWait(qos byte, filters ...string) {
	c.t.Helper()
	for _, f := range filters {
		c.subscribe(packets.Subscription{Filter: f, Qos: qos})
		c.expect(fmt.Sprintf("SUBACK %02x", qos))
	}
}

func (c *client) disconnect() {
	c.t.Helper()
	c.send([]byte{wire.Disconnect << 4, 0})
	c.expect("closed")
}

// frame reads one packet.
func (c *client) frame(patience time.Duration) (first byte, body []byte, err error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		first, start, end, more, err := wire.Frame(c.b)
		if err != nil {
			c.t.Fatal(err)
		}
		if !more && end <= len(c.b) {
			body = c.b[start:end]
			c.b = c.b[end:]
			return first, body, nil
		}
		var buffer [4096]byte
		n, err := c.conn.Read(buffer[:])
		c.b = append(c.b, buffer[:n]...)
		if err != nil && n == 0 {
			return 0, nil, err
		}
	}
}

// nextAsText is the next packet in words.
func (c *client) nextAsText() string {
	c.t.Helper()
	first, body, err := c.frame(20 * time.Second)
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) || strings.Contains(err.Error(), "reset") {
			return "closed"
		}
		return err.Error()
	}
	pk := packets.Packet{ProtocolVersion: c.version, FixedHeader: packets.FixedHeader{Type: first >> 4, Remaining: len(body)}}
	words := fmt.Sprintf("packet of type %d", first>>4)
	switch kind := first >> 4; kind {
	case wire.Connack:
		err = pk.ConnackDecode(body)
		words = fmt.Sprintf("CONNACK %x present %v", pk.ReasonCode, pk.SessionPresent)
	case wire.PublishType:
		words = c.message(first, body)
	case wire.Puback, wire.Pubrec, wire.Pubrel, wire.Pubcomp:
		var a wire.Ack
		a, err = wire.DecodeAck(kind, body, c.version)
		words = fmt.Sprintf("%s %d", map[byte]string{wire.Puback: "PUBACK", wire.Pubrec: "PUBREC", wire.Pubrel: "PUBREL", wire.Pubcomp: "PUBCOMP"}[kind], a.PacketID)
		if a.Code != 0 {
			words += fmt.Sprintf(" code %x", a.Code)
		}
	case wire.Suback:
		err = pk.SubackDecode(body)
		words = fmt.Sprintf("SUBACK %x", pk.ReasonCodes)
	case wire.Unsuback:
		words = "UNSUBACK"
	case wire.Pingresp:
		words = "PINGRESP"
	case wire.Disconnect:
		err = pk.DisconnectDecode(body)
		words = fmt.Sprintf("DISCONNECT %x", pk.ReasonCode)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return words
}

func (c *client) message(first byte, body []byte) string {
	// a subscription identifier is what our decoder refuses, for a client may
	// not send it: mochi reads it
	pk := packets.Packet{ProtocolVersion: c.version}
	_ = pk.FixedHeader.Decode(first)
	if err := pk.PublishDecode(slices.Clone(body)); err != nil {
		c.t.Fatal(err)
	}
	topic := pk.TopicName
	if a := pk.Properties.TopicAlias; a != 0 {
		if topic == "" {
			topic = c.aliases[a]
		}
		c.aliases[a] = topic
	}
	s := fmt.Sprintf("%s %s", topic, pk.Payload)
	if pk.FixedHeader.Qos > 0 {
		s += fmt.Sprintf(" qos %d id %d", pk.FixedHeader.Qos, pk.PacketID)
	}
	if pk.FixedHeader.Dup {
		s += " dup"
	}
	if pk.FixedHeader.Retain {
		s += " retained"
	}
	if ids := pk.Properties.SubscriptionIdentifier; len(ids) > 0 {
		slices.Sort(ids)
		s += fmt.Sprint(" ids ", ids)
	}
	return s
}

func (c *client) expect(want ...string) {
	c.t.Helper()
	for _, w := range want {
		if got := c.nextAsText(); got != w {
			c.t.Fatalf("got %q, want %q", got, w)
		}
	}
}

// expectNothing expects nothing. Only in a bubble, where waiting takes no time.
func (c *client) expectNothing() {
	c.t.Helper()
	synctest.Wait()
	if first, body, err := c.frame(time.Millisecond); err == nil {
		c.t.Fatalf("got a packet of type %d: % x", first>>4, body)
	}
}

// packet is an entry of a connection's queue: a PUBLISH of msg, an acknowledgement, or
// raw.
type packet = packets.Packet

// subscription is one filter of one session, or of the program itself. It is immutable
// but for index: a changed subscription replaces it.
func subscription(filter string, qos byte) packets.Subscription {
	return packets.Subscription{Filter: filter, Qos: qos}
}
