package conformance

import "fmt"

// propertyTests are of what MQTT 5 adds to PUBLISH.
func propertyTests() []test {
	return []test{
		{"properties of a message are passed on as they are", "", "3.3.2-4 3.3.2-15 3.3.2-16 3.3.2-17 3.3.2-18 3.3.2-20", func(p *probe) {
			c, direct := p.connect(), p.connect()
			direct.subscribe(p.topic("#"), 2)
			id := p.id()
			p.connectAs(id, keep).subscribe(p.topic("#"), 2)
			p.connectAs(id, resume).leave()
			sets := [][]property{
				nil,
				{number(propFormat, 0)},
				{number(propFormat, 1)},
				{text(propContentType, "application/json"), text(propResponseTopic, "answer/here"), text(propCorrelation, "\x00\x01\xff")},
				{text(propContentType, ""), text(propCorrelation, "")},
				{user("z", "1"), user("a", "2"), user("z", "1"), user("", ""), user("a", "1")},
			}
			for i, set := range sets {
				c.publish(p.topic("a"), fmt.Sprint(i), byte(1+i%2), set...)
				c.retain(p.topic(fmt.Sprint("kept/", i)), fmt.Sprint(i), 1, set...)
			}
			late, stored := p.connect(), p.connectAs(id, resume)
			late.subscribe(p.topic("kept/#"), 1)
			check := func(c *client, n int) {
				for range n {
					m := c.take()
					var i int
					_, _ = fmt.Sscan(m.payload, &i)
					// "no format" and format 0 mean the same
					set := sets[i]
					p.same(m, set)
				}
			}
			check(direct, 2*len(sets))
			check(late, len(sets))
			check(stored, 2*len(sets))
		}},
		{"response topic and content type are strings without wildcards", "", "3.3.2-13 3.3.2-14 3.3.2-19", func(p *probe) {
			c := p.connect()
			for _, bad := range []property{
				text(propResponseTopic, "a/+"), text(propResponseTopic, "#"), text(propResponseTopic, "a\x80"), text(propResponseTopic, null),
				text(propContentType, "a\x80"), text(propContentType, null),
			} {
				p.ends(bad.String(), c.publishPacket(message{topic: p.topic("a"), properties: []property{bad}}))
			}
		}},
		{"properties that PUBLISH cannot have end the connection", "", "3.3.4-6 4.13.1-1", func(p *probe) {
			c := p.connect()
			for _, bad := range [][]property{
				{number(propSubscriptionID, 1)},
				{number(propSessionExpiry, 1)},
				{text(propReasonString, "x")},
				{number(propWillDelay, 1)},
				{number(propReceiveMaximum, 1)},
				{number(propFormat, 2)},
				{number(propFormat, 1), number(propFormat, 1)},
				{text(propContentType, "a"), text(propContentType, "a")},
				{text(propResponseTopic, "a"), text(propResponseTopic, "a")},
				{text(propCorrelation, "a"), text(propCorrelation, "a")},
				{number(propMessageExpiry, 1), number(propMessageExpiry, 1)},
			} {
				p.ends(fmt.Sprint(bad), c.publishPacket(message{topic: p.topic("a"), properties: bad}))
			}
			p.ends("an unknown property", frame(PUBLISH<<4, str(p.topic("a")), raw(2, 0x7e, 0)))
			p.ends("properties longer than the packet", frame(PUBLISH<<4, str(p.topic("a")), raw(200, propFormat, 0)))
			p.ends("a property cut short", frame(PUBLISH<<4, str(p.topic("a")), raw(3, propMessageExpiry, 0, 0)))
		}},
		{"a message that has expired is not delivered", "", "3.3.2-5", func(p *probe) {
			id := p.id()
			p.connectAs(id, keep).subscribe(p.topic("a"), 1)
			p.connectAs(id, resume).leave()
			c := p.connect()
			c.publish(p.topic("a"), "gone", 1, number(propMessageExpiry, 1))
			c.publish(p.topic("a"), "stays", 1)
			c.retain(p.topic("r"), "gone too", 1, number(propMessageExpiry, 1))
			p.wait(3)
			stored := p.connectAs(id, resume)
			stored.gets("stays")
			stored.quiet()
			late := p.connect()
			late.subscribe(p.topic("r"), 1)
			late.quiet()
		}},
		{"the expiry interval is passed on less the time waited", "", "3.3.2-6", func(p *probe) {
			id := p.id()
			p.connectAs(id, keep).subscribe(p.topic("a"), 1)
			p.connectAs(id, resume).leave()
			c, direct := p.connect(), p.connect()
			direct.subscribe(p.topic("+"), 1)
			c.publish(p.topic("a"), "x", 1, number(propMessageExpiry, 100))
			c.retain(p.topic("r"), "y", 1, number(propMessageExpiry, 100))
			for _, m := range direct.gets("x", "y") {
				left, ok := m.get(propMessageExpiry)
				p.check(ok && left.n >= 99 && left.n <= 100, "at once: %v", m)
			}
			p.wait(3)
			late := p.connect()
			late.subscribe(p.topic("r"), 1)
			for _, m := range append(p.connectAs(id, resume).gets("x"), late.gets("y")...) {
				left, ok := m.get(propMessageExpiry)
				p.check(ok && left.n >= 90 && left.n <= 98, "after 3 s: %v", m)
			}
		}},
		{"topic aliases of a client", "", "3.3.2-12 3.3.2-7", func(p *probe) {
			c, other := p.connect(), p.connect()
			other.subscribe(p.topic("#"), 0)
			max, ok := c.connack.get(propTopicAliasMaximum)
			if !ok || max.n == 0 {
				return // none are taken
			}
			for _, alias := range []uint32{1, max.n} {
				rest := fmt.Sprint("a", alias)
				c.publish(p.topic(rest), "set", 0, number(propTopicAlias, alias))
				c.publish("", "used", 1, number(propTopicAlias, alias))
				c.publish(p.topic("new"+rest), "set anew", 2, number(propTopicAlias, alias))
				c.publish("", "used again", 0, number(propTopicAlias, alias))
				for i, m := range other.gets("set", "used", "set anew", "used again") {
					want := p.topic([]string{rest, "new" + rest}[i/2])
					p.check(m.topic == want && len(m.all(propTopicAlias)) == 0, "alias %d, not %q: %v", alias, want, m)
				}
			}
			// they end with the connection
			id := p.id()
			one := p.connectAs(id, keep)
			one.publish(p.topic("a"), "x", 0, number(propTopicAlias, 1))
			other.gets("x")
			one.leave()
			two := p.connectAs(id, resume)
			two.send(two.publishPacket(message{payload: "y", properties: []property{number(propTopicAlias, 1)}}))
			two.closed()
			other.quiet()
		}},
		{"topic aliases that cannot be end the connection", "", "3.3.2-8 3.3.2-9 3.2.2-17 4.13.1-1", func(p *probe) {
			c := p.connect()
			max, _ := c.connack.get(propTopicAliasMaximum)
			alias := func(topic string, n uint32) []byte {
				return c.publishPacket(message{topic: topic, properties: []property{number(propTopicAlias, n)}})
			}
			p.ends("alias 0", alias(p.topic("a"), 0))
			if max.n < 65535 {
				p.ends("above the maximum", alias(p.topic("a"), max.n+1))
			}
			p.ends("never set", alias("", 1))
			p.ends("neither topic nor alias", c.publishPacket(message{}))
			p.ends("twice", c.publishPacket(message{topic: p.topic("a"), properties: []property{number(propTopicAlias, 1), number(propTopicAlias, 1)}}))
		}},
		{"the server's topic aliases keep to the client's maximum", "", "3.1.2-26 3.1.2-27 3.3.2-11", func(p *probe) {
			for _, max := range []int{-1, 0, 1, 3} {
				var o option = with(number(propTopicAliasMaximum, uint32(max)))
				if max < 0 {
					o, max = with(), 0
				}
				c, other := p.connect(o), p.connect()
				c.subscribe(p.topic("#"), 1)
				names := map[uint32]string{}
				for i := range 12 {
					topic := p.topic(fmt.Sprint("t", i%6))
					other.publish(topic, "x", byte(i%2))
					m := c.take()
					alias, ok := m.get(propTopicAlias)
					p.check(!ok && m.topic != "" || ok && alias.n > 0 && alias.n <= uint32(max), "maximum %d: %v", max, m)
					if ok && m.topic != "" {
						names[alias.n] = m.topic
					} else if ok {
						m.topic = names[alias.n]
					}
					p.check(m.topic == topic, "%q came as %q by %v", topic, m.topic, m)
				}
			}
		}},
		{"the server's topic aliases end with the connection", "", "3.3.2-7", func(p *probe) {
			id := p.id()
			aliases := with(number(propTopicAliasMaximum, 5))
			other := p.connect()
			for range 2 {
				c := p.connectAs(id, keep, aliases)
				c.subscribe(p.topic("a"), 1)
				other.publish(p.topic("a"), "x", 1)
				m := c.gets("x")[0]
				p.check(m.topic == p.topic("a"), "the first message of a connection has no topic: %v", m)
				c.drop()
			}
		}},
		{"what is too large for a client is not sent, and counts as sent", "", "3.1.2-24 3.1.2-25", func(p *probe) {
			c, other := p.connect(with(number(propMaximumPacket, 200))), p.connect()
			c.subscribe(p.topic("a"), 2)
			large := fmt.Sprintf("%200d", 1)
			for qos := byte(0); qos < 3; qos++ {
				for range 30 { // more than may be in flight
					other.publish(p.topic("a"), large, qos)
				}
				other.publish(p.topic("a"), "small", qos)
				m := c.gets("small")[0]
				p.check(m.size <= 200, "%d bytes", m.size)
			}
			other.retain(p.topic("r"), large, 1)
			c.subscribe(p.topic("r"), 2)
			c.quiet()
		}},
		{"what is too large is not sent from the queue either", "", "3.1.2-24 3.1.2-25 4.4.0-1", func(p *probe) {
			id := p.id()
			c, other := p.connectAs(id, keep), p.connect()
			c.subscribe(p.topic("#"), 2)
			large := fmt.Sprintf("%200d", 1)
			other.publish(p.topic("sent before"), large, 1)
			c.expect(PUBLISH)
			c.leave()
			for qos := byte(1); qos < 3; qos++ {
				other.publish(p.topic("a"), large, qos)
				other.publish(p.topic("a"), "small", qos)
			}
			c = p.connectAs(id, resume, with(number(propMaximumPacket, 150), number(propReceiveMaximum, 1)))
			c.gets("small", "small")
			c.quiet()
			c.leave()
			p.connectAs(id, resume).quiet() // they are done with
		}},
		{"answers keep to the maximum packet size", "", "3.4.2-2 3.4.2-3 3.5.2-2 3.5.2-3 3.6.2-2 3.6.2-3 3.7.2-2 3.7.2-3 3.9.2-1 3.9.2-2 3.11.2-1 3.11.2-2 3.14.2-3 3.14.2-4 3.1.2-24", func(p *probe) {
			limit := with(number(propMaximumPacket, 20)) // CONNACK needs a few
			c := p.open(p.id(), limit)
			if c.connack.reason != 0 {
				return
			}
			small := func(kind byte) packet {
				got := c.await(kind)
				p.check(got.size <= 20, "%d bytes: %v", got.size, got)
				return got
			}
			other := p.connect()
			denied := p.denied()
			for qos, kind := range map[byte]byte{1: PUBACK, 2: PUBREC} {
				p.row(kinds[kind]+" that refuses", func() {
					c := p.connect(limit)
					c.send(c.publishPacket(message{topic: denied, qos: qos, id: 1}))
					got := c.acked(kind, 1)
					p.check(got.size <= 20 && got.reason == 0x87, "%d bytes: %v", got.size, got)
				})
			}
			c.send(ack(PUBREL, 77))
			small(PUBCOMP)
			c.send(ack(PUBREC, 88))
			small(PUBREL)
			c.send(c.subscribePacket(3, nil, wish{denied, 0}, wish{p.name, 2}))
			small(SUBACK)
			c.send(c.unsubscribePacket(4, p.name, "never/subscribed"))
			small(UNSUBACK)
			c.send(raw(PUBLISH<<4|6, 0))
			if last := c.closed(); last != nil {
				p.check(last.size <= 20, "%d bytes: %v", last.size, last)
			}
			other.quiet()
		}},
		{"without problem information there are no reason strings", "", "3.1.2-29", func(p *probe) {
			c := p.connect(with(number(propRequestProblem, 0)))
			bare := func(kind byte) {
				got := c.await(kind)
				p.check(len(got.all(propReasonString))+len(got.all(propUser)) == 0, "%v", got)
			}
			for qos, kind := range map[byte]byte{1: PUBACK, 2: PUBREC} {
				p.row(kinds[kind]+" that refuses", func() {
					c := p.connect(with(number(propRequestProblem, 0)))
					c.send(c.publishPacket(message{topic: p.denied(), qos: qos, id: 1}))
					got := c.acked(kind, 1)
					p.check(len(got.properties) == 0, "%v", got)
				})
			}
			c.send(ack(PUBREL, 77))
			bare(PUBCOMP)
			c.send(ack(PUBREC, 88))
			bare(PUBREL)
			c.send(c.subscribePacket(3, nil, wish{p.denied(), 0}, wish{"a#", 2}))
			if got, err := c.receive(); err == nil && got.kind == SUBACK {
				p.check(len(got.properties) == 0, "%v", got)
			}
		}},
	}
}
