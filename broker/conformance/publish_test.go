package conformance

import (
	"fmt"
	"strings"
)

// publishTests are of PUBLISH as it is received, and of topics.
func publishTests() []test {
	return []test{
		{"QoS 3 ends the connection", "3.3.1-4", "3.3.1-4", func(p *probe) {
			p.ends("PUBLISH", frame(PUBLISH<<4|6, str(p.topic("a")), short(1), encode(p.version)))
		}},
		{"DUP with QoS 0 ends the connection", "3.3.1-2", "3.3.1-2", func(p *probe) {
			p.ends("PUBLISH", frame(PUBLISH<<4|8, str(p.topic("a")), encode(p.version)))
		}},
		{"wildcards in a topic name end the connection", "3.3.2-2 4.7.1-1", "3.3.2-2 4.7.0-1", func(p *probe) {
			c := p.connect()
			for _, wrong := range []string{"#", "+", p.topic("#"), p.topic("+/b"), p.topic("a#"), p.topic("a+b")} {
				p.ends(wrong, c.publishPacket(message{topic: wrong}))
			}
		}},
		{"an empty topic name ends the connection", "4.7.3-1", "4.7.3-1", func(p *probe) {
			p.ends("PUBLISH", frame(PUBLISH<<4, str(""), encode(p.version)))
			p.ends("SUBSCRIBE", frame(SUBSCRIBE<<4|2, short(1), encode(p.version), str(""), raw(0)))
			p.ends("UNSUBSCRIBE", frame(UNSUBSCRIBE<<4|2, short(1), encode(p.version), str("")))
		}},
		{"a PUBLISH is answered as its QoS says", "3.3.4-1 2.3.1-6 4.3.2-2 4.3.3-2", "3.3.4-1 2.2.1-5 3.4.2-1 3.5.2-1 3.7.2-1 4.3.2-4 4.3.3-8 4.3.3-11", func(p *probe) {
			c := p.connect()
			c.send(c.publishPacket(message{topic: p.topic("a")}))
			c.quiet()
			for _, id := range []uint16{1, 256, 65535} {
				c.send(c.publishPacket(message{topic: p.topic("a"), qos: 1, id: id}))
				c.acked(PUBACK, id)
				c.send(c.publishPacket(message{topic: p.topic("a"), qos: 2, id: id}))
				c.acked(PUBREC, id)
				c.quiet()
				c.send(ack(PUBREL, id))
				c.acked(PUBCOMP, id)
				c.quiet()
			}
		}},
		{"acknowledgements come in the order of PUBLISH", "4.6.0-2 4.6.0-3", "4.3.2-4 4.3.3-8", func(p *probe) {
			c := p.connect()
			for qos, kind := range map[byte]byte{1: PUBACK, 2: PUBREC} {
				var burst []byte
				for _, id := range []uint16{9, 3, 7, 1, 8} {
					burst = append(burst, c.publishPacket(message{topic: p.topic("a"), qos: qos, id: id + uint16(qos)*100})...)
				}
				c.send(burst)
				for _, id := range []uint16{9, 3, 7, 1, 8} {
					c.acked(kind, id+uint16(qos)*100)
				}
			}
		}},
		{"a packet id after PUBACK is a new message", "4.3.2-2", "4.3.2-5", func(p *probe) {
			c, other := p.connect(), p.connect()
			other.subscribe(p.topic("a"), 0)
			c.deliver(message{topic: p.topic("a"), payload: "1", qos: 1, id: 5})
			c.deliver(message{topic: p.topic("a"), payload: "2", qos: 1, id: 5, dup: true})
			other.gets("1", "2")
		}},
		{"QoS 2 is delivered once", "4.3.3-2", "4.3.3-8 4.3.3-10 4.3.3-11 4.3.3-12", func(p *probe) {
			c, other := p.connect(), p.connect()
			other.subscribe(p.topic("a"), 0)
			m := message{topic: p.topic("a"), payload: "1", qos: 2, id: 5}
			c.send(c.publishPacket(m))
			c.acked(PUBREC, 5)
			m.dup = true
			c.send(c.publishPacket(m))
			c.acked(PUBREC, 5)
			c.send(ack(PUBREL, 5))
			c.acked(PUBCOMP, 5)
			c.deliver(message{topic: p.topic("a"), payload: "2", qos: 2, id: 5})
			other.gets("1", "2")
			other.quiet()
		}},
		{"QoS 2 is delivered once however often it is sent", "4.3.3-2", "4.3.3-10", func(p *probe) {
			c, other := p.connect(), p.connect()
			other.subscribe(p.topic("a"), 0)
			for i := range 4 {
				c.send(c.publishPacket(message{topic: p.topic("a"), payload: "1", qos: 2, id: 5, dup: i > 0}))
				c.acked(PUBREC, 5)
			}
			c.send(ack(PUBREL, 5))
			c.acked(PUBCOMP, 5)
			other.gets("1")
			other.quiet()
		}},
		{"QoS 2 is delivered once over reconnection", "4.3.3-2 4.4.0-1", "4.3.3-10 4.4.0-1", func(p *probe) {
			other := p.connect()
			other.subscribe(p.topic("a"), 2)
			id := p.id()
			c := p.connectAs(id, keep)
			m := message{topic: p.topic("a"), payload: "1", qos: 2, id: 5}
			c.send(c.publishPacket(m))
			c.acked(PUBREC, 5)
			c.drop()
			c = p.connectAs(id, resume)
			m.dup = true
			c.send(c.publishPacket(m))
			c.acked(PUBREC, 5)
			c.drop()
			c = p.connectAs(id, resume)
			c.send(ack(PUBREL, 5))
			c.acked(PUBCOMP, 5)
			other.gets("1")
			other.quiet()
		}},
		{"PUBREL is answered with PUBCOMP in any case", "4.3.3-2 2.3.1-6", "4.3.3-11 3.7.2-1", func(p *probe) {
			c := p.connect()
			c.deliver(message{topic: p.topic("a"), qos: 2, id: 5})
			c.send(ack(PUBREL, 5)) // once more: the first PUBCOMP could have been lost
			got := c.acked(PUBCOMP, 5)
			p.check(got.reason == 0 || got.reason == 0x92, "answered %v", got)
			c.quiet()
		}},
		{"packet ids of the two directions have nothing to do with each other", "2.3.1-4 4.3.2-1 4.3.3-1", "2.2.1-4 4.3.2-1 4.3.3-1", func(p *probe) {
			c, other := p.connect(), p.connect()
			c.subscribe(p.topic("a"), 2)
			other.publish(p.topic("a"), "1", 1)
			other.publish(p.topic("a"), "2", 2)
			one, two := c.expect(PUBLISH), c.expect(PUBLISH)
			c.deliver(message{topic: p.topic("b"), qos: 2, id: one.id})
			c.deliver(message{topic: p.topic("b"), qos: 1, id: two.id})
			c.send(ack(PUBACK, one.id), ack(PUBREC, two.id))
			c.acked(PUBREL, two.id)
			c.send(ack(PUBCOMP, two.id))
			other.publish(p.topic("a"), "3", 1)
			c.gets("3")
		}},
		{"what is not allowed is acknowledged or ends the connection, and goes nowhere", "3.3.5-2", "3.4.2-1 3.5.2-1", func(p *probe) {
			denied := p.denied()
			watch := p.connect()
			watch.subscribe(p.topic("#"), 0)
			for qos := byte(0); qos < 3; qos++ {
				c := p.connect()
				p.row(fmt.Sprint("QoS ", qos), func() {
					if c.send(c.publishPacket(message{topic: denied, payload: "x", qos: qos, retain: true, id: 1})); qos > 0 && p.version == 5 {
						got := c.acked([]byte{PUBACK, PUBREC}[qos-1], 1)
						p.check(got.reason == 0x87, "answered %v", got)
					}
					c.send(raw(PINGREQ<<4, 0)) // to know that it was dealt with, if it goes on
					_, _ = c.receive()
				})
			}
			watch.quiet()
		}},
		{"after PUBREC 0x87 the same id is a new message", "", "4.3.3-9", func(p *probe) {
			c, other := p.connect(), p.connect()
			other.subscribe(p.topic("a"), 2)
			reason := c.deliver(message{topic: p.denied(), qos: 2, id: 5})
			p.check(reason == 0x87, "answered %#x", reason)
			c.deliver(message{topic: p.topic("a"), payload: "new", qos: 2, id: 5})
			other.gets("new")
		}},
		{"the topic comes as it was published and matches the filter", "3.3.2-3 3.3.2-1", "3.3.2-3 3.3.2-1", func(p *probe) {
			c := p.connect()
			c.subscribe(p.topic("+/b/#"), 0)
			for _, rest := range []string{"a/b", "a/b/c", "/b", "a/b/", "a/b//"} {
				c.publish(p.topic(rest), rest, 0)
				m := c.gets(rest)[0]
				p.check(m.topic == p.topic(rest), "%q came as %q", rest, m.topic)
			}
		}},
		{"filters match what they must and nothing else", "4.7.1-2 4.7.1-3 3.8.3-2", "4.7.1-1 4.7.1-2", func(p *probe) {
			topics := []string{"a", "a/b", "a/b/c", "a/", "/a", "/", "//", "b", "a/c", "A", "a/b/", "a//b", "aa", "a b/ü"}
			for filter, matches := range map[string]string{
				"a": "a", "a/b": "a/b", "A": "A", "+": "a b A aa", "a/+": "a/b a/c a/", "+/+": "a/b a/c a/ /a / a_b/ü",
				"/+": "/a /", "+/": "a/ /", "a/+/c": "a/b/c", "a/b/+": "a/b/c a/b/", "a/#": "a a/b a/b/c a/ a/c a/b/ a//b",
				"a/b/#": "a/b a/b/c a/b/", "a/+/#": "a/b a/b/c a/ a/c a/b/ a//b", "+/b/#": "a/b a/b/c a/b/", "/#": "/a / //", "//": "//",
				"a//b": "a//b", "+/+/+": "a/b/c // a/b/ a//b", "a//#": "a/ a//b", "#": strings.Join(topics, " "),
			} {
				var want []string
				for _, m := range strings.Fields(matches) {
					want = append(want, strings.ReplaceAll(m, "_", " "))
				}
				if filter == "#" {
					want = topics
				}
				c := p.connect()
				c.subscribe(p.topic(filter), 0)
				for _, topic := range topics {
					c.send(c.publishPacket(message{topic: p.topic(topic), payload: topic}))
				}
				c.ping()
				got := map[string]bool{}
				for _, m := range c.aside {
					got[m.payload] = true
				}
				for _, w := range want {
					p.check(got[w], "%q does not match %q", filter, w)
					delete(got, w)
				}
				p.check(len(got) == 0, "%q matches %v", filter, got)
				c.drop()
			}
		}},
		{"wildcards stand where they may", "4.7.1-2 4.7.1-3 3.8.3-2", "4.7.1-1 4.7.1-2", func(p *probe) {
			for _, wrong := range []string{"a#", "#/a", "a/#/b", "a+", "+a", "a/b+/c", "##", "++", "a/##", "#a"} {
				c := p.connect()
				c.send(c.subscribePacket(1, nil, wish{p.topic(wrong), 0}))
				got, err := c.receive()
				p.row(wrong, func() {
					p.check(err != nil || got.kind != SUBACK || got.reasons[0] >= 0x80, "it is granted")
				})
			}
		}},
		{"filters that begin with a wildcard do not match $ topics", "4.7.2-1", "4.7.2-1", func(p *probe) {
			c := p.connect()
			hidden := "$conformance/" + p.name
			c.only = hidden
			c.subscribe("#", 0)
			c.subscribe("+/x", 0)
			c.subscribe("+/x/#", 0)
			c.subscribe("+/"+p.name+"/x", 0)
			c.publish(hidden+"/x", "hidden", 0)
			c.quiet()
			c.subscribe(hidden+"/#", 0)
			c.publish(hidden+"/x", "asked for", 0)
			c.gets("asked for")
			c.unsubscribed("#", "+/x", "+/x/#")
		}},
		{"names are compared as they are", "4.7.3-4 4.7.2-1", "4.7.3-4", func(p *probe) {
			c := p.connect()
			c.subscribe(p.topic("é"), 0)    // one code point
			c.subscribe(p.topic("Ａ"), 0)    // fullwidth A
			c.subscribe(p.topic("a//b"), 0) // an empty level
			for _, other := range []string{"e\u0301", "É", "A", "a", "a/b", "/a//b", "a//b/"} {
				c.publish(p.topic(other), other, 0)
			}
			c.quiet()
			for _, same := range []string{"é", "Ａ", "a//b"} {
				c.publish(p.topic(same), same, 0)
				m := c.gets(same)[0]
				p.check(m.topic == p.topic(same), "%q became %q", same, m.topic)
			}
		}},
		{"the order of PUBREL answers is that of PUBREC", "4.6.0-4", "4.3.3-4", func(p *probe) {
			c, other := p.connect(), p.connect()
			c.subscribe(p.topic("a"), 2)
			for _, s := range []string{"1", "2", "3"} {
				other.publish(p.topic("a"), s, 2)
			}
			a, b, d := c.expect(PUBLISH), c.expect(PUBLISH), c.expect(PUBLISH)
			for _, m := range []packet{b, d, a} {
				c.send(ack(PUBREC, m.id))
			}
			for _, m := range []packet{b, d, a} {
				c.acked(PUBREL, m.id)
			}
			for _, m := range []packet{d, a, b} {
				c.send(ack(PUBCOMP, m.id))
			}
			c.quiet()
		}},
	}
}
