package conformance

// retainTests are of retained messages.
func retainTests() []test {
	return []test{
		{"a retained message goes to new subscriptions with its QoS", "3.3.1-5 3.3.1-6 3.3.1-8", "3.3.1-5 3.3.1-9", func(p *probe) {
			c := p.connect()
			for qos := byte(0); qos < 3; qos++ {
				c.retain(p.topic("a"), "old", qos)
				c.retain(p.topic("a"), "new", qos)
				late := p.connect()
				late.subscribe(p.topic("+"), 2)
				m := late.gets("new")[0]
				p.check(m.retain() && m.qos() == qos && !m.dup(), "QoS %d came as %v", qos, m)
				late.quiet()
			}
		}},
		{"the granted QoS limits retained messages", "3.3.1-6 3.8.4-6", "3.8.4-8", func(p *probe) {
			c := p.connect()
			c.retain(p.topic("a"), "x", 2)
			for qos := byte(0); qos < 3; qos++ {
				late := p.connect()
				late.subscribe(p.topic("a"), qos)
				m := late.gets("x")[0]
				p.check(m.qos() == qos && m.retain(), "granted %d came as %v", qos, m)
			}
		}},
		{"a QoS 0 retained message replaces the one before", "3.3.1-7", "3.3.1-5", func(p *probe) {
			c := p.connect()
			c.retain(p.topic("a"), "old", 2)
			c.retain(p.topic("a"), "new", 0)
			c.subscribe(p.topic("a"), 2)
			c.gets("new")
			c.quiet()
		}},
		{"each matching topic has its retained message", "3.3.1-6", "3.3.1-9", func(p *probe) {
			c := p.connect()
			for _, rest := range []string{"a", "a/b", "a/b/c", "b", "/", "a/"} {
				c.retain(p.topic(rest), rest, 1)
			}
			for filter, n := range map[string][]string{
				"a/#": {"a", "a/b", "a/b/c", "a/"}, "+": {"a", "b"}, "a/+/#": {"a/b", "a/b/c", "a/"}, "+/+": {"a/b", "/", "a/"}, "a/b/+": {"a/b/c"}, "c/#": nil,
			} {
				late := p.connect()
				late.subscribe(p.topic(filter), 1)
				late.getsAll(n...)
				late.quiet()
			}
		}},
		{"RETAIN is 0 on what goes to an existing subscription", "3.3.1-9", "3.3.1-12", func(p *probe) {
			c := p.connect()
			c.subscribe(p.topic("a"), 2)
			for qos := byte(0); qos < 3; qos++ {
				c.retain(p.topic("a"), "x", qos)
				m := c.gets("x")[0]
				p.check(!m.retain() && m.qos() == qos, "QoS %d: %v", qos, m)
			}
		}},
		{"RETAIN is as published where that is asked for", "", "3.3.1-13", func(p *probe) {
			c := p.connect()
			c.subscribe(p.topic("a"), 2|asPublished)
			c.retain(p.topic("a"), "retained", 1)
			c.publish(p.topic("a"), "plain", 1)
			got := c.gets("retained", "plain")
			p.check(got[0].retain() && !got[1].retain(), "got %v", got)
			late := p.connect()
			late.subscribe(p.topic("a"), 2|asPublished)
			p.check(late.gets("retained")[0].retain(), "not marked as retained")
		}},
		{"an empty message deletes the retained one and is delivered", "3.3.1-10 3.3.1-11", "3.3.1-6 3.3.1-7", func(p *probe) {
			c := p.connect()
			for qos := byte(0); qos < 3; qos++ {
				c.retain(p.topic("a"), "x", 1)
				watch := p.connect()
				watch.subscribe(p.topic("a"), 2|notRetained&p.mask())
				if p.version == 4 {
					watch.gets("x")
				}
				c.retain(p.topic("a"), "", qos)
				m := watch.gets("")[0]
				p.check(!m.retain(), "an existing subscription got %v", m)
				late := p.connect()
				late.subscribe(p.topic("a"), 2)
				late.quiet()
			}
		}},
		{"a message without RETAIN leaves the retained one", "3.3.1-12", "3.3.1-8", func(p *probe) {
			c := p.connect()
			c.publish(p.topic("b"), "never kept", 1)
			c.retain(p.topic("a"), "kept", 1)
			c.publish(p.topic("a"), "passing", 2)
			c.publish(p.topic("a"), "", 1)
			late := p.connect()
			late.subscribe(p.topic("#"), 1)
			late.gets("kept")
			late.quiet()
		}},
		{"subscribing again sends retained messages again", "3.8.4-3", "3.8.4-3 3.8.4-4 3.3.1-9", func(p *probe) {
			c := p.connect()
			c.retain(p.topic("a"), "x", 1)
			for range 3 {
				c.subscribe(p.topic("a"), 1)
				p.check(c.gets("x")[0].retain(), "not marked as retained")
			}
			c.publish(p.topic("a"), "y", 1)
			c.gets("y")
			c.quiet() // once, not three times
		}},
		{"retain handling", "", "3.3.1-9 3.3.1-10 3.3.1-11", func(p *probe) {
			c := p.connect()
			c.retain(p.topic("a"), "x", 1)
			c.subscribe(p.topic("a"), 1|notRetained)
			c.quiet()
			c.subscribe(p.topic("a"), 1|ifNew) // it exists
			c.quiet()
			c.unsubscribed(p.topic("a"))
			c.subscribe(p.topic("a"), 1|ifNew)
			c.gets("x")
			c.subscribe(p.topic("a"), 1|ifNew)
			c.subscribe(p.topic("a"), 2|ifNew)
			c.quiet()
			c.subscribe(p.topic("a"), 1)
			c.gets("x")
			c.subscribe(p.topic("+"), 1|ifNew) // another filter
			c.gets("x")
		}},
		{"retain handling knows subscriptions of a resumed session", "", "3.3.1-10", func(p *probe) {
			id := p.id()
			c := p.connectAs(id, keep)
			c.retain(p.topic("a"), "x", 1)
			c.subscribe(p.topic("a"), 1|ifNew)
			c.gets("x")
			c.leave()
			c = p.connectAs(id, resume)
			c.subscribe(p.topic("a"), 1|ifNew)
			c.quiet()
		}},
		{"a retained message that is not allowed is not stored", "3.3.5-2", "3.4.2-1", func(p *probe) {
			c := p.connect()
			c.send(c.publishPacket(message{topic: p.denied(), payload: "x", qos: 1, retain: true, id: 1}), raw(PINGREQ<<4, 0))
			_, _ = c.receive() // acknowledged, refused or closed
			late := p.connect()
			late.only = p.denied()
			late.subscribe("#", 0)
			late.quiet()
			late.unsubscribed("#")
		}},
	}
}

// mask is all bits of a subscription option in MQTT 5 and the QoS before.
func (p *probe) mask() byte {
	if p.version == 5 {
		return 0xff
	}
	return 3
}
