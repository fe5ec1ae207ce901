package conformance

import "fmt"

// flowTests are of Receive Maximum.
func flowTests() []test {
	return []test{
		{"the server keeps to the client's receive maximum", "", "3.3.4-9 3.3.4-10 4.9.0-1 4.9.0-2 4.9.0-3", func(p *probe) {
			for _, max := range []int{1, 3} {
				c, other := p.connect(with(number(propReceiveMaximum, uint32(max)))), p.connect()
				c.subscribe(p.topic("a"), 2)
				const n = 12
				for i := range n {
					other.publish(p.topic("a"), fmt.Sprint(i), byte(1+i%2))
				}
				var flying []packet
				for range max {
					flying = append(flying, c.expect(PUBLISH))
				}
				c.quiet() // which shows too that PINGREQ is answered at quota 0
				other.publish(p.topic("a"), "now", 0)
				c.subscribe(p.topic("b"), 0)
				c.unsubscribed(p.topic("b"))
				c.deliver(message{topic: p.topic("c"), qos: 2})
				m := c.expect(PUBLISH) // QoS 0 needs no quota
				p.check(m.payload == "now", "got %v", m)
				for i := range n {
					c.check(flying[0].payload == fmt.Sprint(i), "got %v, not %d", flying[0], i)
					c.settle(flying[0])
					flying = flying[1:]
					c.ping()
					for len(c.aside) > 0 {
						flying = append(flying, c.expect(PUBLISH))
					}
					p.check(len(flying) == min(max, n-1-i), "%d in flight of %d allowed, %d to come", len(flying), max, n-1-i)
				}
			}
		}},
		{"PUBREC does not give quota back, PUBCOMP does", "", "3.3.4-9 4.9.0-2", func(p *probe) {
			c, other := p.connect(with(number(propReceiveMaximum, 1))), p.connect()
			c.subscribe(p.topic("a"), 2)
			other.publish(p.topic("a"), "1", 2)
			other.publish(p.topic("a"), "2", 2)
			m := c.expect(PUBLISH)
			c.send(ack(PUBREC, m.id))
			c.acked(PUBREL, m.id)
			c.quiet()
			c.send(ack(PUBCOMP, m.id))
			c.gets("2")
		}},
		{"the receive maximum holds for what is sent again", "", "4.9.0-1 3.3.4-9 4.4.0-1", func(p *probe) {
			id := p.id()
			c, other := p.connectAs(id, keep), p.connect()
			c.subscribe(p.topic("a"), 1)
			for i := range 4 {
				other.publish(p.topic("a"), fmt.Sprint(i), 1)
			}
			for range 4 {
				c.expect(PUBLISH)
			}
			c.drop()
			c = p.connectAs(id, resume, with(number(propReceiveMaximum, 2)))
			one, two := c.expect(PUBLISH), c.expect(PUBLISH)
			c.quiet()
			c.settle(one)
			c.settle(two)
			c.gets("2", "3")
			c.quiet()
		}},
		{"more than the server's receive maximum ends the connection", "", "3.3.4-7", func(p *probe) {
			c := p.connect()
			allowed := 65535
			if max, ok := c.connack.get(propReceiveMaximum); ok {
				allowed = int(max.n)
			}
			if allowed == 65535 {
				return // cannot be exceeded: there are no more packet ids
			}
			var burst []byte
			for i := range allowed {
				burst = append(burst, c.publishPacket(message{topic: p.topic("a"), qos: 2, id: uint16(i + 1)})...)
			}
			c.send(burst)
			for i := range allowed {
				c.acked(PUBREC, uint16(i+1))
			}
			c.quiet()
			c.send(c.publishPacket(message{topic: p.topic("a"), qos: 2, id: uint16(allowed + 1)}))
			last := c.closed()
			p.check(last == nil || last.kind == DISCONNECT && last.reason == 0x93, "answered %v", last)
		}},
		{"a client may have the announced number of messages in flight", "4.3.3-2", "3.3.4-7 4.3.3-8", func(p *probe) {
			c, other := p.connect(), p.connect()
			other.subscribe(p.topic("a"), 0)
			n := 15
			if max, ok := c.connack.get(propReceiveMaximum); ok {
				n = min(n, int(max.n))
			}
			for round := range 3 { // the quota comes back
				for i := range n {
					c.send(c.publishPacket(message{topic: p.topic("a"), payload: fmt.Sprint(round), qos: 2, id: uint16(i + 1)}))
				}
				for i := range n {
					c.acked(PUBREC, uint16(i+1))
				}
				for i := range n {
					c.send(ack(PUBREL, uint16(i+1)))
				}
				for i := range n {
					c.acked(PUBCOMP, uint16(i+1))
					other.gets(fmt.Sprint(round))
				}
			}
		}},
	}
}
