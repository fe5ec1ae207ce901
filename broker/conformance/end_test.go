package conformance

import "fmt"

// endTests are of DISCONNECT and of errors.
func endTests() []test {
	return []test{
		{"DISCONNECT ends the connection in silence", "3.14.1-1 3.14.4-3", "3.14.1-1 3.14.4-3", func(p *probe) {
			c := p.connect()
			c.send(raw(DISCONNECT<<4, 0))
			p.check(c.closed() == nil, "answered")
		}},
		{"what comes after DISCONNECT is not processed", "3.14.4-3", "3.14.4-1", func(p *probe) {
			watch := p.connect()
			watch.subscribe(p.topic("a"), 0)
			c := p.connect()
			c.send(raw(DISCONNECT<<4, 0), c.publishPacket(message{topic: p.topic("a"), payload: "late"}))
			p.check(c.closed() == nil, "answered")
			watch.quiet()
		}},
		{"a DISCONNECT of the server is well made, and the last packet", "", "3.14.2-1 3.14.2-2 3.14.4-1 3.14.4-2 4.13.1-1 4.13.2-1", func(p *probe) {
			// the client reads strictly: codes, properties, nothing after it
			id := p.id()
			old := p.connectAs(id)
			p.connectAs(id)
			last := old.closed()
			p.check(last != nil && last.kind == DISCONNECT, "the last packet is %v", last)
		}},
		{"reason codes of DISCONNECT that a client cannot send", "", "3.14.2-1 4.13.1-1", func(p *probe) {
			watch := p.connect()
			watch.subscribe(p.topic("will"), 0)
			for _, reason := range []byte{0x01, 0x42, 0xff} {
				p.row(fmt.Sprintf("%#x", reason), func() {
					c := p.connect(will(p.topic("will"), "x", 0))
					c.send(raw(DISCONNECT<<4, 1, reason))
					c.closed()
					// it was no normal disconnection; what marks the end comes after
					p.connect(will(p.topic("will"), "end", 0)).drop()
					watch.gets("x", "end")
				})
			}
		}},
		{"no DISCONNECT before CONNACK", "", "3.14.0-1", func(p *probe) {
			for _, bad := range [][]byte{
				p.connectPacket(p.id(), flags(1)),
				p.connectPacket(p.id(), name("MQTX")),
				p.connectPacket(p.id(), with(number(propReceiveMaximum, 0))),
				raw(PINGREQ<<4, 0),
				raw(0, 0),
				raw(CONNECT<<4, 0),
			} {
				c := p.dial()
				c.send(bad)
				last := c.closed()
				p.check(last == nil || last.kind == CONNACK && last.reason >= 0x80, "answered %v", last)
			}
		}},
		{"a refusal is the last packet", "3.2.2-5", "3.2.2-7 4.13.2-1", func(p *probe) {
			c := p.dial()
			c.send(p.connectPacket("", dirty, flags(1)), raw(PINGREQ<<4, 0))
			last := c.closed()
			p.check(last == nil || last.kind == CONNACK && last.reason != 0, "answered %v", last)
		}},
		{"packets cut or too long end the connection", "4.8.0-1", "4.13.1-1", func(p *probe) {
			c := p.connect()
			p.ends("PUBLISH without id", frame(PUBLISH<<4|2, str(p.topic("a"))))
			p.ends("PUBLISH with half a topic", frame(PUBLISH<<4, short(9), []byte("half")))
			p.ends("empty PUBLISH", raw(PUBLISH<<4, 0))
			for _, kind := range []byte{PUBACK, PUBREC, PUBREL, PUBCOMP} {
				first := ack(kind, 1)[0]
				p.ends(kinds[kind]+" empty", frame(first))
				p.ends(kinds[kind]+" cut", frame(first, raw(0)))
				if p.version == 4 {
					p.ends(kinds[kind]+" too long", frame(first, raw(0, 1, 0)))
				}
			}
			p.ends("PINGREQ with a body", raw(PINGREQ<<4, 1, 0))
			p.ends("SUBSCRIBE", frame(SUBSCRIBE<<4|2, raw(0)))
			p.ends("UNSUBSCRIBE", frame(UNSUBSCRIBE<<4|2, short(1), encode(p.version), short(9), []byte("half")))
			c.quiet()
		}},
		{"acknowledgements of nothing do no harm", "4.8.0-1", "4.13.1-1", func(p *probe) {
			// no statement ends the connection for them; it does not break anything
			witness := p.connect()
			for _, kind := range []byte{PUBACK, PUBREC, PUBCOMP, PUBREL} {
				c := p.connect()
				c.send(ack(kind, 4711), raw(PINGREQ<<4, 0))
				_, _ = c.receive()
			}
			witness.quiet()
		}},
	}
}
