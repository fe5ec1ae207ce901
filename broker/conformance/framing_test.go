package conformance

import (
	"fmt"
	"strings"
)

// illFormed are strings that are not UTF-8 as MQTT has it.
var illFormed = map[string]string{
	"a lone continuation byte": "a\x80",
	"a surrogate":              "\xed\xa0\x80",
	"an overlong form":         "\xc0\xaf",
	"a cut sequence":           "\xe2\x82",
	"above U+10FFFF":           "\xf4\x90\x80\x80",
}

const null = "a\x00b"

// framingTests are of chapters 1 and 2: strings, numbers, flags, packet ids.
func framingTests() []test {
	return []test{
		{"ill-formed UTF-8 in a topic ends the connection", "1.5.3-1 3.3.2-1", "1.5.4-1 3.3.2-1", func(p *probe) {
			for what, s := range illFormed {
				p.ends(what, frame(PUBLISH<<4, str(s), encode(p.version)))
			}
		}},
		{"ill-formed UTF-8 in a filter ends the connection", "1.5.3-1 3.8.3-1 3.10.3-1", "1.5.4-1 3.8.3-1 3.10.3-1", func(p *probe) {
			for what, s := range illFormed {
				p.ends("SUBSCRIBE "+what, frame(SUBSCRIBE<<4|2, short(1), encode(p.version), str(s), raw(0)))
				p.ends("UNSUBSCRIBE "+what, frame(UNSUBSCRIBE<<4|2, short(1), encode(p.version), str(s)))
			}
		}},
		{"U+0000 in a topic or filter ends the connection", "1.5.3-2 4.7.3-2", "1.5.4-2 4.7.3-2", func(p *probe) {
			p.ends("PUBLISH", frame(PUBLISH<<4, str(null), encode(p.version)))
			p.ends("SUBSCRIBE", frame(SUBSCRIBE<<4|2, short(1), encode(p.version), str(null), raw(0)))
			p.ends("UNSUBSCRIBE", frame(UNSUBSCRIBE<<4|2, short(1), encode(p.version), str(null)))
		}},
		{"strings of a CONNECT are UTF-8", "1.5.3-1 1.5.3-2 3.1.3-4 3.1.3-10 3.1.3-11", "1.5.4-1 1.5.4-2 3.1.3-4 3.1.3-11 3.1.3-12", func(p *probe) {
			codes := p.codes(nil, []byte{0x81, 0x82, 0x85, 0x90, 0x80})
			for _, s := range []string{"\xed\xa0\x80", "a\x80", null} {
				p.refused(p.connectPacket(s), p.codes([]byte{2}, codes)...)
				p.refused(p.connectPacket(p.id(), will(s, "", 0)), codes...)
				p.refused(p.connectPacket(p.id(), func(o *opening) { o.user = &s }), codes...)
			}
		}},
		{"U+FEFF is a character like any other", "1.5.3-3", "1.5.4-3", func(p *probe) {
			c := p.connect()
			bom := p.topic("\ufeffx")
			c.subscribe(bom, 0)
			c.publish(p.topic("x"), "plain", 0)
			c.publish(bom, "marked", 0)
			m := c.gets("marked")[0]
			p.check(m.topic == bom, "topic %q became %q", bom, m.topic)
			c.quiet()
		}},
		{"a length takes no more bytes than needed", "", "1.5.5-1", func(p *probe) {
			// property length 0 in two bytes
			p.ends("property length", frame(PUBLISH<<4, str(p.topic("a")), raw(0x80, 0x00)))
			p.ends("subscription identifier", frame(SUBSCRIBE<<4|2, short(1), raw(3, propSubscriptionID, 0x81, 0x00), str(p.topic("a")), raw(0)))
		}},
		{"a remaining length of five bytes ends the connection", "4.8.0-1", "1.5.5-1 4.13.1-1", func(p *probe) {
			p.ends("remaining length", raw(PUBLISH<<4, 0xff, 0xff, 0xff, 0xff, 0x01))
		}},
		{"both strings of a user property are UTF-8", "", "1.5.7-1", func(p *probe) {
			for _, pair := range [][2]string{{"a\x80", "v"}, {"n", "a\x80"}, {null, "v"}, {"n", null}, {"\xed\xa0\x80", "v"}} {
				p.ends(fmt.Sprintf("%q", pair), frame(PUBLISH<<4, str(p.topic("a")), encode(5, user(pair[0], pair[1]))))
			}
			c := p.connect()
			c.subscribe(p.topic("a"), 0)
			c.publish(p.topic("a"), "x", 0, user("näme", "välue"))
			m := c.take()
			p.check(len(m.all(propUser)) == 1 && m.all(propUser)[0] == user("näme", "välue"), "got %v", m)
		}},
		{"reserved flags end the connection", "2.2.2-1 2.2.2-2 3.6.1-1 3.8.1-1 3.10.1-1 3.14.1-1", "2.1.3-1 3.6.1-1 3.8.1-1 3.10.1-1 3.14.1-1", func(p *probe) {
			c := p.connect()
			a := p.topic("a")
			for wrong, sent := range map[string][]byte{
				"PUBACK 1":      ack(PUBACK, 1),
				"PUBREC 2":      ack(PUBREC, 1),
				"PUBREL 0":      ack(PUBREL, 1),
				"PUBCOMP 8":     ack(PUBCOMP, 1),
				"SUBSCRIBE 0":   c.subscribePacket(1, nil, wish{a, 0}),
				"UNSUBSCRIBE 0": c.unsubscribePacket(1, a),
				"PINGREQ 1":     raw(PINGREQ<<4, 0),
				"PUBREL 3":      ack(PUBREL, 1),
				"SUBSCRIBE 3":   c.subscribePacket(1, nil, wish{a, 0}),
				"UNSUBSCRIBE 8": c.unsubscribePacket(1, a),
			} {
				_, flags, _ := strings.Cut(wrong, " ")
				sent[0] = sent[0]&0xf0 | (flags[0] - '0')
				p.ends(wrong, sent)
			}
			p.refused(append(raw(CONNECT<<4|1), p.connectPacket(p.id())[1:]...), p.codes(nil, []byte{0x80, 0x81, 0x82})...)
		}},
		{"DISCONNECT with reserved flags is no DISCONNECT: the will is published", "3.14.1-1 2.2.2-2", "3.14.1-1 2.1.3-1", func(p *probe) {
			watch := p.connect()
			watch.subscribe(p.topic("will"), 0)
			c := p.connect(will(p.topic("will"), "gone", 0))
			c.send(raw(DISCONNECT<<4|1, 0))
			c.closed()
			watch.gets("gone")
		}},
		{"packet types 0 and, before MQTT 5, 15 end the connection", "4.8.0-1", "4.13.1-1", func(p *probe) {
			p.ends("type 0", raw(0, 0))
			p.ends("type 15", raw(AUTH<<4, 0))
		}},
		{"packets that only a server sends end the connection", "4.8.0-1", "4.13.1-1", func(p *probe) {
			p.ends("CONNACK", frame(CONNACK<<4, raw(0, 0), encode(p.version)))
			p.ends("SUBACK", frame(SUBACK<<4, short(1), encode(p.version), raw(0)))
			p.ends("UNSUBACK", frame(UNSUBACK<<4, short(1), encode(p.version)))
			p.ends("PINGRESP", raw(PINGRESP<<4, 0))
		}},
		{"flags of AUTH are 0", "", "3.15.1-1", func(p *probe) {
			p.ends("AUTH", frame(AUTH<<4|1, raw(0x18), encode(5, text(propAuthMethod, "x"))))
		}},
		{"packet id 0 ends the connection", "2.3.1-1", "2.2.1-3", func(p *probe) {
			c := p.connect()
			a := p.topic("a")
			p.ends("SUBSCRIBE", c.subscribePacket(0, nil, wish{a, 0}))
			p.ends("UNSUBSCRIBE", c.unsubscribePacket(0, a))
			p.ends("PUBLISH 1", c.publishPacket(message{topic: a, qos: 1}))
			p.ends("PUBLISH 2", c.publishPacket(message{topic: a, qos: 2}))
		}},
		{"a packet id of QoS 0 would be payload", "2.3.1-5", "2.2.1-2", func(p *probe) {
			c := p.connect()
			c.subscribe(p.topic("a"), 2)
			c.publish(p.topic("a"), "\x00\x01", 0) // were it an id, the payload would be empty
			m := c.gets("\x00\x01")[0]
			p.check(m.qos() == 0, "got %v", m)
		}},
		{"no properties is a property length of 0", "", "2.2.2-1", func(p *probe) {
			// the client reads with the length; what follows would not fit without
			c := p.connect()
			c.subscribe(p.topic("a"), 1)
			c.publish(p.topic("a"), "x", 1)
			c.gets("x")
			// and it must be there when we send
			p.ends("SUBSCRIBE", frame(SUBSCRIBE<<4|2, short(1), str(p.topic("a")), raw(0)))
		}},
		{"packets may come in one piece or byte by byte", "7.1.1-1 7.0.0-2", "4.2.0-1", func(p *probe) {
			c := p.connect()
			a := p.topic("a")
			c.send(c.subscribePacket(1, nil, wish{a, 1}), c.publishPacket(message{topic: a, payload: "1"}), raw(PINGREQ<<4, 0))
			c.expect(SUBACK)
			c.gets("1")
			c.expect(PINGRESP)
			for _, b := range c.publishPacket(message{topic: a, payload: "2", qos: 1, id: 7}) {
				c.send(raw(b))
			}
			c.acked(PUBACK, 7)
			c.gets("2")
		}},
		{"topics of 65,535 bytes", "4.7.3-3", "4.7.3-3", func(p *probe) {
			c := p.connect()
			long := p.topic("")
			long += strings.Repeat("x", 65535-len(long))
			c.subscribe(long, 1)
			c.publish(long, "m", 1)
			m := c.gets("m")[0]
			p.check(m.topic == long, "the topic came with %d bytes", len(m.topic))
		}},
	}
}
