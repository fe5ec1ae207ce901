package conformance

// The will's flags in CONNECT.
const (
	willQoS1   byte = 1 << 3
	willQoS2   byte = 2 << 3
	willRetain byte = 1 << 5
)

// willTests are of the will message.
func willTests() []test {
	return []test{
		{"the will is published when the connection is lost", "3.1.2-8 3.1.2-9 3.1.2-16", "3.1.2-7 3.1.2-8 3.1.2-9 3.1.2-14", func(p *probe) {
			watch := p.connect()
			watch.subscribe(p.topic("will"), 2)
			for qos := byte(0); qos < 3; qos++ {
				c := p.connect(will(p.topic("will"), "lost", qos<<3))
				watch.quiet() // not before
				c.drop()
				m := watch.gets("lost")[0]
				p.check(m.qos() == qos && !m.retain(), "a will of QoS %d came as %v", qos, m)
			}
			late := p.connect()
			late.subscribe(p.topic("will"), 0)
			late.quiet() // it was not retained
		}},
		{"the will is published after a protocol error", "3.1.2-8", "3.1.2-8", func(p *probe) {
			watch := p.connect()
			watch.subscribe(p.topic("will"), 0)
			c := p.connect(will(p.topic("will"), "error", 0))
			c.send(raw(PUBLISH<<4|6, 0))
			c.closed()
			watch.gets("error")
		}},
		{"the will is published when another takes the client id", "3.1.2-8", "3.1.2-8", func(p *probe) {
			watch := p.connect()
			watch.subscribe(p.topic("will"), 0)
			id := p.id()
			p.connectAs(id, will(p.topic("will"), "taken over", 0))
			p.connectAs(id)
			watch.gets("taken over")
		}},
		{"the will is published when the session moves to another connection", "3.1.2-8", "3.1.2-8", func(p *probe) {
			watch := p.connect()
			watch.subscribe(p.topic("will"), 0)
			id := p.id()
			p.connectAs(id, keep, will(p.topic("will"), "taken over", 0))
			p.connectAs(id, resume)
			watch.gets("taken over")
		}},
		{"the will is discarded on DISCONNECT", "3.1.2-8 3.1.2-10 3.14.4-3", "3.1.2-8 3.1.2-10 3.14.4-3", func(p *probe) {
			watch := p.connect()
			watch.subscribe(p.topic("will"), 0)
			id := p.id()
			p.connectAs(id, will(p.topic("will"), "x", 0)).leave()
			watch.quiet()
			p.connectAs(id).drop() // the session has no will left
			p.connectAs(id).leave()
			watch.quiet()
		}},
		{"the will is published once", "3.1.2-10", "3.1.2-10", func(p *probe) {
			watch := p.connect()
			watch.subscribe(p.topic("will"), 0)
			id := p.id()
			p.connectAs(id, keep, will(p.topic("will"), "once", 0)).drop()
			watch.gets("once")
			p.connectAs(id, resume).drop()
			p.connectAs(id, resume).leave()
			watch.quiet()
		}},
		{"DISCONNECT 0x04 publishes the will", "", "3.1.2-8 3.14.4-3", func(p *probe) {
			watch := p.connect()
			watch.subscribe(p.topic("will"), 0)
			p.connect(will(p.topic("will"), "with will", 0)).leave(0x04)
			watch.gets("with will")
		}},
		{"a retained will is retained", "3.1.2-17", "3.1.2-15", func(p *probe) {
			watch := p.connect()
			watch.subscribe(p.topic("will"), 1)
			p.connect(will(p.topic("will"), "kept", willRetain|willQoS1)).drop()
			m := watch.gets("kept")[0]
			p.check(!m.retain(), "an existing subscription got %v", m)
			late := p.connect()
			late.subscribe(p.topic("will"), 2)
			m = late.gets("kept")[0]
			p.check(m.retain() && m.qos() == 1, "a new subscription got %v", m)
		}},
		{"an empty retained will deletes what is retained", "3.1.2-17 3.3.1-10", "3.1.2-15 3.3.1-6", func(p *probe) {
			watch := p.connect()
			watch.retain(p.topic("will"), "old", 1)
			watch.subscribe(p.topic("will"), 1)
			watch.gets("old")
			p.connect(will(p.topic("will"), "", willRetain)).drop()
			watch.gets("")
			late := p.connect()
			late.subscribe(p.topic("will"), 0)
			late.quiet()
		}},
		{"without a will nothing is published", "3.1.2-12", "3.1.2-8", func(p *probe) {
			watch := p.connect()
			watch.subscribe(p.topic("#"), 0)
			c := p.connect()
			marked := p.connect(will(p.topic("will"), "of another", 0))
			c.drop()
			marked.drop()
			watch.gets("of another")
			watch.quiet()
		}},
		{"without the will flag there is no will", "3.1.2-11 3.1.2-13 3.1.2-15 3.1.4-1", "3.1.2-11 3.1.2-13 3.1.4-1", func(p *probe) {
			codes := p.codes(nil, malformed)
			p.refused(p.connectPacket(p.id(), flags(willQoS1)), codes...)
			p.refused(p.connectPacket(p.id(), flags(willQoS2)), codes...)
			p.refused(p.connectPacket(p.id(), flags(willRetain)), codes...)
			p.refused(p.connectPacket(p.id(), trailing(cat(encode(p.version), str(p.topic("w")), str("x"))...)), codes...)
		}},
		{"with the will flag there is a will", "3.1.2-9 3.1.4-1", "3.1.2-9 3.1.4-1", func(p *probe) {
			codes := p.codes(nil, malformed)
			p.refused(p.connectPacket(p.id(), flags(4)), codes...)
			p.refused(p.connectPacket(p.id(), flags(4), trailing(cat(encode(p.version), str(p.topic("w")))...)), codes...)
		}},
		{"will QoS 3 is refused", "3.1.2-14 3.1.4-1", "3.1.2-12 3.1.4-1", func(p *probe) {
			p.refused(p.connectPacket(p.id(), will(p.topic("w"), "x", 3<<3)), p.codes(nil, malformed)...)
		}},
		{"a will topic has no wildcards and is not empty", "4.7.1-1 4.7.3-1", "4.7.0-1 4.7.3-1", func(p *probe) {
			codes := p.codes(nil, append([]byte{0x90}, malformed...))
			for _, topic := range []string{p.topic("+"), p.topic("#"), ""} {
				p.refused(p.connectPacket(p.id(), will(topic, "x", 0)), codes...)
			}
		}},
		{"the will waits for its delay", "", "3.1.2-8 3.1.2-7", func(p *probe) {
			watch := p.connect()
			watch.subscribe(p.topic("will"), 0)
			p.connect(keep, will(p.topic("will"), "late", 0, number(propWillDelay, 2))).drop()
			p.connect(will(p.topic("will"), "at once", 0)).drop()
			watch.gets("at once", "late")
		}},
		{"the end of the session ends the will delay", "", "3.1.2-8", func(p *probe) {
			watch := p.connect()
			watch.subscribe(p.topic("will"), 0)
			p.connect(will(p.topic("will"), "session ended", 0, number(propWillDelay, 600))).drop()
			watch.gets("session ended")
			p.connect(dirty, with(number(propSessionExpiry, 1)), will(p.topic("will"), "session expired", 0, number(propWillDelay, 600))).drop()
			watch.gets("session expired")
		}},
		{"a clean start ends the session and its will delay", "", "3.1.2-8 3.1.2-4", func(p *probe) {
			watch := p.connect()
			watch.subscribe(p.topic("will"), 0)
			id := p.id()
			p.connectAs(id, keep, will(p.topic("will"), "clean start", 0, number(propWillDelay, 600))).drop()
			p.connectAs(id)
			watch.gets("clean start")
		}},
		{"a new connection within the delay cancels the will", "", "3.1.3-9 3.1.2-8", func(p *probe) {
			watch := p.connect()
			watch.subscribe(p.topic("will"), 0)
			id := p.id()
			p.connectAs(id, keep, will(p.topic("will"), "cancelled", 0, number(propWillDelay, 1))).drop()
			c := p.connectAs(id, resume)
			p.wait(3)
			watch.quiet()
			c.drop()
			watch.quiet()
		}},
		{"a takeover within the delay cancels the will", "", "3.1.3-9", func(p *probe) {
			watch := p.connect()
			watch.subscribe(p.topic("will"), 0)
			id := p.id()
			old := p.connectAs(id, keep, will(p.topic("will"), "cancelled", 0, number(propWillDelay, 1)))
			p.connectAs(id, resume)
			old.closed()
			p.wait(3)
			watch.quiet()
		}},
		{"properties of the will are passed on in order", "", "3.1.3-10 3.1.2-9", func(p *probe) {
			watch := p.connect()
			watch.subscribe(p.topic("will"), 1)
			properties := []property{
				number(propFormat, 1), number(propMessageExpiry, 100), text(propContentType, "text/plain"),
				text(propResponseTopic, p.topic("answer")), text(propCorrelation, "\x00\xff"),
				user("b", "1"), user("a", "2"), user("b", "1"), user("a", ""),
			}
			p.connect(will(p.topic("will"), "x", willQoS1, properties...)).drop()
			m := watch.gets("x")[0]
			p.same(m, properties)
		}},
	}
}
