package conformance

// sessionTests are of what outlives a connection.
func sessionTests() []test {
	return []test{
		{"a session is kept and gone on with", "3.1.2-4 3.1.2-5 3.1.3-2 3.2.2-2 3.2.2-3 4.1.0-1 4.5.0-1", "3.1.2-5 3.1.2-6 3.1.2-23 3.1.3-2 3.2.2-3 4.5.0-1", func(p *probe) {
			id := p.id()
			c := p.connectAs(id, keep)
			p.check(!c.connack.present, "a session that cannot be is present")
			c.subscribe(p.topic("+"), 2)
			c.leave()
			other := p.connect()
			other.publish(p.topic("a"), "1", 1)
			other.publish(p.topic("b"), "2", 2)
			other.publish(p.topic("a"), "3", 1)
			c = p.connectAs(id, resume)
			p.check(c.connack.present, "the session is not present")
			c.getsAll("1", "2", "3")
			other.publish(p.topic("a"), "4", 1)
			c.gets("4")
			c.quiet()
		}},
		{"a dropped connection keeps the session as well", "3.1.2-4 4.1.0-1", "3.1.2-5 3.1.2-23", func(p *probe) {
			id := p.id()
			c := p.connectAs(id, keep)
			c.subscribe(p.topic("a"), 1)
			c.drop()
			p.connect().publish(p.topic("a"), "1", 1)
			c = p.connectAs(id, resume)
			p.check(c.connack.present, "the session is not present")
			c.gets("1")
		}},
		{"a clean start discards the session", "3.1.2-6 3.1.4-3 3.2.2-1", "3.1.2-4 3.1.4-4 3.2.2-2", func(p *probe) {
			id := p.id()
			c := p.connectAs(id, keep)
			c.subscribe(p.topic("a"), 1)
			c.drop()
			other := p.connect()
			other.publish(p.topic("a"), "1", 1)
			c = p.connectAs(id)
			p.check(!c.connack.present, "a session is present")
			other.publish(p.topic("a"), "2", 1)
			c.quiet()
			c.leave()
			c = p.connectAs(id, resume)
			p.check(!c.connack.present, "the session of a clean start outlived its connection")
			c.quiet()
		}},
		{"a clean start discards what is in flight", "3.1.2-6", "3.1.2-4", func(p *probe) {
			id := p.id()
			c := p.connectAs(id, keep)
			c.subscribe(p.topic("a"), 2)
			other := p.connect()
			other.publish(p.topic("a"), "1", 1)
			other.publish(p.topic("a"), "2", 2)
			c.expect(PUBLISH)
			c.expect(PUBLISH)
			c.send(c.publishPacket(message{topic: p.topic("b"), qos: 2, id: 9}))
			c.acked(PUBREC, 9)
			c.drop()
			c = p.connectAs(id)
			c.quiet()
			other.subscribe(p.topic("b"), 0)
			c.deliver(message{topic: p.topic("b"), payload: "new", qos: 2, id: 9})
			other.gets("new")
		}},
		{"retained messages outlive the session", "3.1.2-7", "3.1.2-4", func(p *probe) {
			c := p.connect()
			c.retain(p.topic("a"), "stays", 1)
			c.leave()
			c = p.connect()
			c.subscribe(p.topic("a"), 0)
			c.gets("stays")
		}},
		{"a session lasts at least as long as its connection", "4.1.0-2", "4.1.0-1", func(p *probe) {
			c := p.connect() // expiry 0, clean session 1
			c.subscribe(p.topic("a"), 1)
			p.wait(2)
			p.connect().publish(p.topic("a"), "1", 1)
			c.gets("1")
		}},
		{"a session without expiry ends with its connection", "", "4.1.0-2", func(p *probe) {
			id := p.id()
			c := p.connectAs(id, dirty)
			c.subscribe(p.topic("a"), 1)
			c.leave()
			c = p.connectAs(id, dirty)
			p.check(!c.connack.present, "the session is present")
			p.connect().publish(p.topic("a"), "1", 1)
			c.quiet()
		}},
		{"a session is gone when its expiry has passed", "", "4.1.0-2", func(p *probe) {
			id := p.id()
			c := p.connectAs(id, dirty, with(number(propSessionExpiry, 1)))
			c.subscribe(p.topic("a"), 1)
			c.leave()
			p.wait(3)
			c = p.connectAs(id, dirty, with(number(propSessionExpiry, 1)))
			p.check(!c.connack.present, "the session is present after three seconds")
			p.connect().publish(p.topic("a"), "1", 1)
			c.quiet()
		}},
		{"a session is there while its expiry has not passed", "", "3.1.2-23", func(p *probe) {
			id := p.id()
			c := p.connectAs(id, dirty, with(number(propSessionExpiry, 60)))
			c.leave()
			p.wait(2)
			p.check(p.connectAs(id, dirty).connack.present, "the session is gone")
		}},
		{"DISCONNECT changes the session expiry", "", "3.1.2-23 4.1.0-2", func(p *probe) {
			id := p.id()
			c := p.connectAs(id, keep)
			c.leave(cat(raw(0), encode(5, number(propSessionExpiry, 0)))...)
			c = p.connectAs(id, keep)
			p.check(!c.connack.present, "the session is present after expiry 0 in DISCONNECT")
			c.leave(cat(raw(0), encode(5, number(propSessionExpiry, 600)))...)
			p.check(p.connectAs(id, keep).connack.present, "the session is not present after expiry 600 in DISCONNECT")
		}},
		{"DISCONNECT cannot make a session last", "", "4.13.1-1", func(p *probe) {
			c := p.connect()
			c.send(frame(DISCONNECT<<4, raw(0), encode(5, number(propSessionExpiry, 60))))
			last := c.closed()
			p.check(last == nil || last.kind == DISCONNECT && last.reason == 0x82, "answered %v", last)
		}},
		{"a takeover goes on with the session", "3.1.2-4 3.1.4-2", "3.1.2-5 3.1.4-3", func(p *probe) {
			id := p.id()
			old := p.connectAs(id, keep)
			old.subscribe(p.topic("a"), 1)
			other := p.connect()
			other.publish(p.topic("a"), "1", 1)
			first := old.expect(PUBLISH)
			young := p.connectAs(id, resume)
			p.check(young.connack.present, "the session is not present")
			again := young.take()
			p.check(again.payload == "1" && again.id == first.id && again.dup(), "got %v after %v", again, first)
			old.closed()
			other.publish(p.topic("a"), "2", 1)
			young.gets("2")
			young.quiet()
		}},
		{"a session goes on in another version of the protocol", "3.1.2-4", "3.1.2-5", func(p *probe) {
			id := p.id()
			was := byte(9) - p.version // the other one
			c := p.connectAs(id, keep, version(was))
			c.subscribe(p.topic("a"), 2)
			c.leave()
			p.connect().publish(p.topic("a"), "1", 2)
			c = p.connectAs(id, resume)
			p.check(c.connack.present, "the session is not present")
			c.gets("1")
			c.quiet()
		}},
		{"subscriptions of an absent client are kept whole", "3.1.2-4 3.1.2-5", "3.1.2-5", func(p *probe) {
			id := p.id()
			c := p.connectAs(id, keep)
			c.subscribe(p.topic("one"), 1)
			c.subscribe(p.topic("two"), 2)
			c.unsubscribed(p.topic("one"))
			c.leave()
			other := p.connect()
			other.publish(p.topic("one"), "not this", 2)
			other.publish(p.topic("two"), "this", 2)
			c = p.connectAs(id, resume)
			m := c.gets("this")[0]
			p.check(m.qos() == 2, "got %v", m)
			c.quiet()
		}},
	}
}
