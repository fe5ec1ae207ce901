package conformance

import (
	"fmt"
	"slices"
)

// subscribeTests are of SUBSCRIBE and UNSUBSCRIBE.
func subscribeTests() []test {
	return []test{
		{"SUBSCRIBE is answered with what is granted, in order", "2.3.1-7 3.8.4-1 3.8.4-2 3.8.4-4 3.8.4-5 3.9.3-1 3.9.3-2", "2.2.1-6 3.8.4-1 3.8.4-2 3.8.4-5 3.8.4-6 3.8.4-7 3.9.3-1 3.9.3-2", func(p *probe) {
			c := p.connect()
			for _, id := range []uint16{1, 256, 65535} {
				c.send(c.subscribePacket(id, nil, wish{p.topic("a"), 2}, wish{p.topic("b"), 0}, wish{p.topic("c"), 1}))
				got := c.acked(SUBACK, id)
				p.check(slices.Equal(got.reasons, []byte{2, 0, 1}), "answered %v", got)
			}
			c.publish(p.topic("a"), "a", 2)
			c.publish(p.topic("b"), "b", 2)
			c.publish(p.topic("c"), "c", 2)
			for i, m := range c.gets("a", "b", "c") {
				p.check(m.qos() == []byte{2, 0, 1}[i], "got %v", m)
			}
		}},
		{"a filter that is not allowed is answered with failure", "3.8.4-5 3.9.3-1", "3.8.4-7 3.9.3-1", func(p *probe) {
			c := p.connect()
			got := c.subscribed(nil, wish{p.topic("a"), 2}, wish{p.denied(), 1}, wish{p.topic("b"), 0})
			failed := p.codes([]byte{0x80}, []byte{0x87})[0]
			p.check(slices.Equal(got, []byte{2, failed, 0}), "answered %#x", got)
		}},
		{"SUBSCRIBE holds at least one filter", "3.8.3-3", "3.8.3-2", func(p *probe) {
			p.ends("SUBSCRIBE", p.connect().subscribePacket(1, nil))
		}},
		{"a filter without options ends the connection", "4.8.0-1 3.8.3-3", "3.8.3-2 4.13.1-1", func(p *probe) {
			p.ends("SUBSCRIBE", frame(SUBSCRIBE<<4|2, short(1), encode(p.version), str(p.topic("a"))))
			p.ends("SUBSCRIBE", frame(SUBSCRIBE<<4|2, short(1), encode(p.version), str(p.topic("a")), raw(0), str(p.topic("b"))))
			p.ends("SUBSCRIBE", frame(SUBSCRIBE<<4|2, short(1), encode(p.version), short(50), []byte("cut")))
		}},
		{"reserved bits and QoS 3 end the connection", "3.8.3-4", "3.8.3-5 4.13.1-1", func(p *probe) {
			c := p.connect()
			for _, bad := range p.codes([]byte{3, 4, 0x80, 0x42}, []byte{3, 0x30, 0x40, 0x80}) { // 0x30 is retain handling 3
				p.ends(fmt.Sprintf("%#x", bad), c.subscribePacket(1, nil, wish{p.topic("a"), bad}))
			}
		}},
		{"delivery is with the lower QoS", "3.8.4-6 4.3.1-1", "3.8.4-8 4.3.1-1", func(p *probe) {
			for granted := byte(0); granted < 3; granted++ {
				c, other := p.connect(), p.connect()
				c.subscribe(p.topic("a"), granted)
				for published := byte(0); published < 3; published++ {
					other.publish(p.topic("a"), "x", published)
					m := c.gets("x")[0]
					p.check(m.qos() == min(granted, published) && !m.dup(), "QoS %d granted %d came as %v", published, granted, m)
				}
			}
		}},
		{"the same filter again replaces the subscription", "3.8.4-3", "3.8.4-3", func(p *probe) {
			c, other := p.connect(), p.connect()
			for _, qos := range []byte{0, 2, 1} {
				c.subscribe(p.topic("a"), qos)
				other.publish(p.topic("a"), "x", 2)
				m := c.gets("x")[0]
				p.check(m.qos() == qos, "granted %d came as %v", qos, m)
				c.quiet()
			}
			c.unsubscribed(p.topic("a"))
			other.publish(p.topic("a"), "x", 2)
			c.quiet()
		}},
		{"several filters are like several packets", "3.8.4-4", "3.8.4-5", func(p *probe) {
			c, other := p.connect(), p.connect()
			other.retain(p.topic("a"), "kept", 2)
			got := c.subscribed(nil, wish{p.topic("a"), 1}, wish{p.topic("a"), 0})
			p.check(slices.Equal(got, []byte{1, 0}), "granted %v", got)
			one, two := c.take(), c.take()
			p.check(one.payload == "kept" && two.payload == "kept" && one.qos()+two.qos() == 1, "got %v, %v", one, two)
			other.publish(p.topic("a"), "x", 2)
			m := c.gets("x")[0]
			p.check(m.qos() == 0, "the last one does not count: %v", m)
			c.quiet()
		}},
		{"overlapping subscriptions deliver with the highest QoS", "3.3.5-1", "3.3.4-2", func(p *probe) {
			c, other := p.connect(), p.connect()
			c.subscribe(p.topic("a"), 0)
			c.subscribe(p.topic("+"), 2)
			c.subscribe(p.topic("#"), 1)
			other.publish(p.topic("a"), "x", 2)
			other.publish(p.topic("end"), "end", 0)
			var highest byte
			copies := 0
			for {
				m := c.take()
				if m.payload == "end" {
					break
				}
				copies++
				highest = max(highest, m.qos())
			}
			p.check(copies > 0 && copies <= 3 && highest == 2, "%d copies, QoS %d at most", copies, highest)
		}},
		{"subscription identifiers come with what they asked for", "", "3.3.4-3 3.3.4-4 3.3.4-5", func(p *probe) {
			c, other := p.connect(), p.connect()
			c.subscribe(p.topic("a"), 1, number(propSubscriptionID, 1))
			c.subscribe(p.topic("+"), 1, number(propSubscriptionID, 268435455))
			c.subscribe(p.topic("#"), 1)
			c.subscribe(p.topic("b"), 0, number(propSubscriptionID, 1))
			other.publish(p.topic("a"), "x", 1)
			other.publish(p.topic("c/d"), "y", 1)
			other.publish(p.topic("end"), "end", 0)
			got := map[string][]uint32{}
			for {
				m := c.take()
				for _, id := range m.all(propSubscriptionID) {
					got[m.payload] = append(got[m.payload], id.n)
				}
				if m.payload == "end" {
					break
				}
			}
			slices.Sort(got["x"])
			p.check(slices.Equal(got["x"], []uint32{1, 268435455}) && len(got["y"]) == 0, "identifiers %v", got)
		}},
		{"a replaced subscription has its new identifier or none", "", "3.8.4-3 3.3.4-3", func(p *probe) {
			c, other := p.connect(), p.connect()
			other.retain(p.topic("a"), "x", 0)
			for _, id := range []uint32{7, 9, 0} {
				var ps, want []property
				if id > 0 {
					ps = []property{number(propSubscriptionID, id)}
					want = ps
				}
				c.subscribe(p.topic("a"), 0, ps...)
				p.check(slices.Equal(c.gets("x")[0].all(propSubscriptionID), want), "the retained message is not marked with %v", want)
				other.publish(p.topic("a"), "y", 0)
				p.check(slices.Equal(c.gets("y")[0].all(propSubscriptionID), want), "the message is not marked with %v", want)
			}
		}},
		{"a replaced subscription has its new options", "", "3.8.4-3 3.8.3-3 3.3.1-13", func(p *probe) {
			c := p.connect()
			for i, options := range []byte{0, asPublished, noLocal, 0, noLocal | asPublished, asPublished} {
				p.row(fmt.Sprintf("%d %#x", i, options), func() {
					c.subscribe(p.topic("a"), options|notRetained)
					c.retain(p.topic("a"), "x", 0)
					if options&noLocal == 0 {
						m := c.gets("x")[0]
						p.check(m.retain() == (options&asPublished != 0), "got %v", m)
					}
					left := c.aside
					c.aside = nil
					p.check(len(left) == 0, "came unasked: %v", left)
				})
			}
		}},
		{"subscription identifiers are kept with the session", "", "3.3.4-3 3.1.2-23", func(p *probe) {
			id := p.id()
			p.connectAs(id, keep).subscribe(p.topic("a"), 1, number(propSubscriptionID, 5))
			p.connectAs(id, resume).leave()
			p.connect().publish(p.topic("a"), "x", 1)
			m := p.connectAs(id, resume).gets("x")[0]
			p.check(slices.Equal(m.all(propSubscriptionID), []property{number(propSubscriptionID, 5)}), "got %v", m)
		}},
		{"subscription identifiers that cannot be end the connection", "", "4.13.1-1", func(p *probe) {
			c := p.connect()
			w := wish{p.topic("a"), 0}
			p.ends("0", c.subscribePacket(1, []property{number(propSubscriptionID, 0)}, w))
			p.ends("two", c.subscribePacket(1, []property{number(propSubscriptionID, 1), number(propSubscriptionID, 2)}, w))
			p.ends("too long", frame(SUBSCRIBE<<4|2, short(1), raw(6, propSubscriptionID, 0xff, 0xff, 0xff, 0xff, 1), str(p.topic("a")), raw(0)))
			p.ends("another property", c.subscribePacket(1, []property{number(propTopicAlias, 1)}, w))
		}},
		{"no local", "", "3.8.3-3", func(p *probe) {
			c, other := p.connect(), p.connect()
			c.subscribe(p.topic("a"), 1|noLocal)
			other.subscribe(p.topic("a"), 1)
			c.publish(p.topic("a"), "own", 1)
			other.gets("own")
			c.quiet()
			other.publish(p.topic("a"), "of another", 1)
			c.gets("of another")
			// it is the client id that counts, not the connection
			id := p.id()
			one := p.connectAs(id, keep)
			one.subscribe(p.topic("b"), 1|noLocal)
			one.publish(p.topic("b"), "own", 1)
			one.drop()
			two := p.connectAs(id, resume)
			two.publish(p.topic("b"), "own", 1)
			two.quiet()
		}},
		{"no local holds for retained messages", "", "3.8.3-3", func(p *probe) {
			c, other := p.connect(), p.connect()
			c.retain(p.topic("a"), "own", 1)
			other.retain(p.topic("b"), "of another", 1)
			c.subscribe(p.topic("+"), 1|noLocal)
			c.gets("of another")
			c.quiet()
		}},
		{"UNSUBSCRIBE deletes what is equal and is answered", "2.3.1-7 3.10.4-1 3.10.4-2 3.10.4-4 3.10.4-5", "2.2.1-6 3.10.4-1 3.10.4-2 3.10.4-4 3.10.4-5 3.11.3-2", func(p *probe) {
			c, other := p.connect(), p.connect()
			c.subscribe(p.topic("a/+"), 0)
			for _, others := range []string{"a/b", "a/#", "+/+", "a/", "A/+", "a/+/"} {
				got := c.unsubscribed(p.topic(others))
				p.check(p.version == 4 || got[0] == 0x11, "%q: %v", others, got)
			}
			other.publish(p.topic("a/b"), "still", 0)
			c.gets("still")
			for _, id := range []uint16{300, 65535} {
				c.send(c.unsubscribePacket(id, p.topic("a/+")))
				got := c.acked(UNSUBACK, id)
				p.check(p.version == 4 || len(got.reasons) == 1 && got.reasons[0] == map[uint16]byte{300: 0, 65535: 0x11}[id], "answered %v", got)
				other.publish(p.topic("a/b"), "no more", 0)
				c.quiet()
			}
		}},
		{"several filters are unsubscribed with one answer", "3.10.4-6", "3.10.4-6 3.11.3-1 3.11.3-2", func(p *probe) {
			c, other := p.connect(), p.connect()
			c.subscribe(p.topic("a"), 0)
			c.subscribe(p.topic("b"), 0)
			c.subscribe(p.topic("c"), 0)
			got := c.unsubscribed(p.topic("a"), p.topic("x"), p.topic("c"), p.topic("a"))
			p.check(p.version == 4 || slices.Equal(got, []byte{0, 0x11, 0, 0x11}), "answered %v", got)
			for _, s := range []string{"a", "b", "c"} {
				other.publish(p.topic(s), s, 0)
			}
			c.gets("b")
			c.quiet()
		}},
		{"UNSUBSCRIBE holds at least one filter", "3.10.3-2", "3.10.3-2", func(p *probe) {
			p.ends("UNSUBSCRIBE", p.connect().unsubscribePacket(1))
		}},
		{"deliveries that have begun are finished after UNSUBSCRIBE", "3.10.4-3", "3.10.4-3", func(p *probe) {
			c, other := p.connect(), p.connect()
			c.subscribe(p.topic("a"), 2)
			other.publish(p.topic("a"), "1", 1)
			other.publish(p.topic("a"), "2", 2)
			one, two := c.expect(PUBLISH), c.expect(PUBLISH)
			c.unsubscribed(p.topic("a"))
			c.settle(one)
			c.settle(two)
			c.quiet()
		}},
		{"PINGREQ is answered with PINGRESP", "3.12.4-1", "3.12.4-1", func(p *probe) {
			c := p.connect()
			c.send(raw(PINGREQ<<4, 0, PINGREQ<<4, 0, PINGREQ<<4, 0))
			for range 3 {
				c.expect(PINGRESP)
			}
			c.quiet()
		}},
	}
}
