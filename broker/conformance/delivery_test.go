package conformance

import "fmt"

// deliveryTests are of what the server sends again, and in which order.
func deliveryTests() []test {
	return []test{
		{"unacknowledged messages are sent again with DUP and their ids, in order", "3.3.1-1 4.3.2-1 4.3.3-1 4.4.0-1 2.3.1-6", "3.3.1-1 4.3.2-1 4.3.2-3 4.3.3-3 4.4.0-1 2.2.1-5", func(p *probe) {
			id := p.id()
			c, other := p.connectAs(id, keep), p.connect()
			c.subscribe(p.topic("a"), 2)
			var first []packet
			for i := range 6 {
				other.publish(p.topic("a"), fmt.Sprint(i), byte(1+i%2))
				m := c.expect(PUBLISH)
				p.check(!m.dup() && m.qos() == byte(1+i%2), "the first time: %v", m)
				first = append(first, m)
			}
			seen := map[uint16]bool{}
			for _, m := range first {
				p.check(!seen[m.id], "packet id %d is used twice", m.id)
				seen[m.id] = true
			}
			c.send(ack(PUBACK, first[2].id))
			c.quiet()
			for range 2 {
				c.drop()
				c = p.connectAs(id, resume)
				for i, was := range first {
					if i == 2 {
						continue
					}
					m := c.expect(PUBLISH)
					p.check(m.dup() && m.id == was.id && m.payload == was.payload && m.qos() == was.qos(), "again: %v was %v", m, was)
				}
				c.quiet()
			}
		}},
		{"what was never sent comes without DUP", "3.3.1-1 3.3.1-3 4.3.2-1", "3.3.1-1 3.3.1-3 4.3.2-2 4.3.3-2", func(p *probe) {
			id := p.id()
			p.connectAs(id, keep).subscribe(p.topic("a"), 2)
			p.connectAs(id, resume).leave()
			other := p.connect()
			for i := range 4 {
				other.publish(p.topic("a"), fmt.Sprint(i), byte(1+i%2))
			}
			for _, m := range p.connectAs(id, resume).gets("0", "1", "2", "3") {
				p.check(!m.dup(), "it was not sent before: %v", m)
			}
		}},
		{"DUP of the publisher is not passed on", "3.3.1-3", "3.3.1-3", func(p *probe) {
			c, other := p.connect(), p.connect()
			c.subscribe(p.topic("a"), 2)
			for qos := byte(1); qos < 3; qos++ {
				other.deliver(message{topic: p.topic("a"), payload: "x", qos: qos, dup: true})
				m := c.gets("x")[0]
				p.check(!m.dup(), "got %v", m)
			}
		}},
		{"PUBREL is sent again and PUBLISH is not", "4.3.3-1 4.4.0-1", "4.3.3-4 4.3.3-5 4.3.3-6 3.6.2-1 4.4.0-1", func(p *probe) {
			id := p.id()
			c, other := p.connectAs(id, keep), p.connect()
			c.subscribe(p.topic("a"), 2)
			other.publish(p.topic("a"), "1", 2)
			other.publish(p.topic("a"), "2", 2)
			one, two := c.expect(PUBLISH), c.expect(PUBLISH)
			c.send(ack(PUBREC, one.id))
			c.acked(PUBREL, one.id)
			for range 2 {
				c.drop()
				c = p.connectAs(id, resume)
				p.eachOnce(c, func(got packet) bool { return got.kind == PUBREL && got.id == one.id },
					func(got packet) bool { return got.kind == PUBLISH && got.id == two.id && got.dup() })
				c.quiet()
			}
			c.send(ack(PUBCOMP, one.id))
			c.settle(two)
			c.quiet()
			c.drop()
			p.connectAs(id, resume).quiet()
		}},
		{"a second PUBREC is answered like the first", "4.3.3-1", "4.3.3-4", func(p *probe) {
			c, other := p.connect(), p.connect()
			c.subscribe(p.topic("a"), 2)
			for _, s := range []string{"1", "2"} {
				other.publish(p.topic("a"), s, 2)
				m := c.expect(PUBLISH)
				for range 2 {
					c.send(ack(PUBREC, m.id))
					got := c.acked(PUBREL, m.id)
					p.check(got.reason == 0, "answered %v", got)
				}
				c.send(ack(PUBCOMP, m.id))
			}
			c.quiet()
		}},
		{"nothing is sent again while the connection lasts", "4.4.0-1", "4.4.0-1", func(p *probe) {
			c, other := p.connect(), p.connect()
			c.subscribe(p.topic("a"), 2)
			other.publish(p.topic("a"), "1", 1)
			other.publish(p.topic("a"), "2", 2)
			c.expect(PUBLISH)
			c.expect(PUBLISH)
			p.wait(2)
			c.quiet()
		}},
		{"an acknowledged message is not sent again", "4.3.2-1 4.4.0-1", "4.3.2-3 4.4.0-1", func(p *probe) {
			id := p.id()
			c, other := p.connectAs(id, keep), p.connect()
			c.subscribe(p.topic("a"), 2)
			other.publish(p.topic("a"), "1", 1)
			other.publish(p.topic("a"), "2", 2)
			c.gets("1", "2")
			c.ping()
			c.drop()
			p.connectAs(id, resume).quiet()
		}},
		{"a refused delivery is finished", "", "4.4.0-2", func(p *probe) {
			id := p.id()
			c, other := p.connectAs(id, keep, with(number(propReceiveMaximum, 1))), p.connect()
			c.subscribe(p.topic("a"), 2)
			other.publish(p.topic("a"), "1", 1)
			c.send(ack(PUBACK, c.expect(PUBLISH).id, 0x87))
			other.publish(p.topic("a"), "2", 2)
			c.send(ack(PUBREC, c.expect(PUBLISH).id, 0x87))
			c.quiet()
			other.publish(p.topic("a"), "3", 1)
			c.gets("3") // the quota came back
			c.ping()    // the acknowledgement is there
			c.drop()
			p.connectAs(id, resume).quiet()
		}},
		{"messages of a topic and QoS keep their order", "4.6.0-5 4.6.0-6", "4.6.0-5 4.6.0-6", func(p *probe) {
			c, other := p.connect(), p.connect()
			c.subscribe(p.topic("#"), 2)
			const n = 60
			var burst []byte
			for i := range n {
				m := message{topic: p.topic(fmt.Sprint(i % 2)), payload: fmt.Sprint(i), qos: byte(i % 3), id: uint16(i + 1)}
				burst = append(burst, other.publishPacket(m)...)
			}
			other.send(burst)
			for i := range n {
				if i%3 == 2 {
					other.send(ack(PUBREL, uint16(i+1)))
				}
			}
			last := map[string]int{}
			for range n {
				m := c.take()
				var i int
				_, _ = fmt.Sscan(m.payload, &i)
				line := fmt.Sprint(m.topic, m.qos())
				p.check(i >= last[line], "%s: %d came after %d", line, i, last[line])
				last[line] = i
			}
		}},
		{"queued messages keep their order and are no duplicates", "4.6.0-6 4.5.0-1 3.1.2-5", "4.6.0-5 4.5.0-1 3.1.2-23", func(p *probe) {
			id := p.id()
			p.connectAs(id, keep).subscribe(p.topic("a"), 2)
			p.connectAs(id, resume).leave()
			other := p.connect()
			const n = 300
			var burst []byte
			for i := range n {
				burst = append(burst, other.publishPacket(message{topic: p.topic("a"), payload: fmt.Sprint(i), qos: 1, id: uint16(i + 1)})...)
			}
			other.send(burst)
			for i := range n {
				other.acked(PUBACK, uint16(i+1))
			}
			c := p.connectAs(id, resume)
			for i := range n {
				m := c.gets(fmt.Sprint(i))[0]
				p.check(!m.dup(), "not sent before: %v", m)
			}
			c.quiet()
		}},
		{"order over reconnection", "4.6.0-6 4.4.0-1", "4.6.0-5 4.4.0-1", func(p *probe) {
			id := p.id()
			c, other := p.connectAs(id, keep), p.connect()
			c.subscribe(p.topic("a"), 1)
			for i := range 5 {
				other.publish(p.topic("a"), fmt.Sprint(i), 1)
			}
			for range 5 {
				c.expect(PUBLISH)
			}
			c.leave()
			for i := 5; i < 10; i++ {
				other.publish(p.topic("a"), fmt.Sprint(i), 1)
			}
			c = p.connectAs(id, resume)
			for i := range 10 {
				m := c.gets(fmt.Sprint(i))[0]
				p.check(m.dup() == (i < 5), "DUP is wrong: %v", m)
			}
		}},
		{"a message goes to every session that matches", "4.5.0-1", "4.5.0-1", func(p *probe) {
			away := p.id()
			p.connectAs(away, keep).subscribe(p.topic("a"), 1)
			p.connectAs(away, resume).leave()
			one, two, other := p.connect(), p.connect(), p.connect()
			one.subscribe(p.topic("a"), 1)
			two.subscribe(p.topic("#"), 0)
			other.publish(p.topic("a"), "x", 1)
			one.gets("x")
			two.gets("x")
			p.connectAs(away, resume).gets("x")
		}},
		{"a message that was sent does not expire", "", "4.3.3-7 4.3.3-13", func(p *probe) {
			id := p.id()
			c, other := p.connectAs(id, keep), p.connect()
			c.subscribe(p.topic("a"), 2)
			other.publish(p.topic("a"), "x", 2, number(propMessageExpiry, 1))
			m := c.expect(PUBLISH)
			// a QoS 2 message that expires on its way in is finished as well
			other.send(other.publishPacket(message{topic: p.topic("b"), qos: 2, id: 77, properties: []property{number(propMessageExpiry, 1)}}))
			other.acked(PUBREC, 77)
			p.wait(3)
			other.send(ack(PUBREL, 77))
			other.acked(PUBCOMP, 77)
			c.settle(m)
			c.quiet()
		}},
		{"a message that was sent comes again though its expiry has passed", "", "4.3.3-7", func(p *probe) {
			id := p.id()
			c, other := p.connectAs(id, keep), p.connect()
			c.subscribe(p.topic("a"), 2)
			other.publish(p.topic("a"), "x", 2, number(propMessageExpiry, 1))
			m := c.expect(PUBLISH)
			c.drop()
			p.wait(3)
			c = p.connectAs(id, resume)
			again := c.gets("x")[0]
			p.check(again.id == m.id && again.dup(), "%v was %v", again, m)
		}},
	}
}

// eachOnce expects packets of each description once, in any order.
func (p *probe) eachOnce(c *client, wanted ...func(packet) bool) {
	for len(wanted) > 0 {
		got, err := c.read()
		p.check(err == nil, "awaiting %d more: %v", len(wanted), err)
		found := false
		for i, is := range wanted {
			if is(got) {
				wanted = append(wanted[:i:i], wanted[i+1:]...)
				found = true
				break
			}
		}
		p.check(found, "unasked: %v", got)
	}
}
