package conformance

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// malformed and unsupported are the codes that MQTT 5 lets a server refuse
// such a CONNECT with; MQTT 3.1.1 has none.
var malformed = []byte{0x80, 0x81, 0x82}

// connectTests are of chapters 3.1 and 3.2 without sessions and wills.
func connectTests() []test {
	return []test{
		{"the first packet is CONNECT", "3.1.0-1", "3.1.0-1", func(p *probe) {
			helper := p.connect()
			for _, first := range [][]byte{
				raw(PINGREQ<<4, 0),
				helper.publishPacket(message{topic: p.topic("a"), payload: "x"}),
				helper.subscribePacket(1, nil, wish{p.topic("a"), 0}),
				raw(DISCONNECT<<4, 0),
				ack(PUBACK, 1),
			} {
				c := p.dial()
				c.send(first)
				p.check(c.closed() == nil, "answered though there was no CONNECT")
			}
			helper.quiet()
		}},
		{"a second CONNECT ends the connection", "3.1.0-2 4.8.0-1", "3.1.0-2 3.2.0-2 4.13.1-1", func(p *probe) {
			c := p.connectAs(p.id())
			c.send(p.connectPacket(p.id()))
			last := c.closed()
			p.check(last == nil || last.kind == DISCONNECT, "answered with %v", last)
		}},
		{"another protocol name is refused", "3.1.2-1", "3.1.2-1", func(p *probe) {
			for _, s := range []string{"MQTTX", "mqtt", "HTTP", ""} {
				p.refused(p.connectPacket(p.id(), name(s)), p.codes([]byte{1}, append([]byte{0x84, 1}, malformed...))...)
			}
		}},
		{"an unknown version is refused with code 1", "3.1.2-2 3.2.2-4 3.2.2-5", "", func(p *probe) {
			for _, v := range []byte{2, 7, 99, 0} {
				c := p.dial()
				c.send(p.connectPacket(p.id(), version(v)))
				if v > 5 { // perhaps answered as MQTT 5 has it
					c.version = anyVersion
				}
				p.row(fmt.Sprint("version ", v), func() {
					a, err := c.receive()
					p.check(err == nil && a.kind == CONNACK && !a.present && (a.reason == 1 || v > 5 && a.reason == 0x84), "answered %v, %v", a, err)
					c.closed()
				})
			}
		}},
		{"an unknown version is refused", "", "3.1.2-2", func(p *probe) {
			for _, v := range []byte{2, 6, 99} {
				c := p.dial()
				c.version = 4 // how it would be answered is not said; see to the end alone
				c.send(p.connectPacket(p.id(), version(v)))
				p.closes(c)
			}
		}},
		{"the reserved connect flag is 0", "3.1.2-3 3.1.4-1", "3.1.2-3 3.1.4-1", func(p *probe) {
			p.refused(p.connectPacket(p.id(), flags(1)), p.codes(nil, malformed)...)
		}},
		{"flags and fields for user name and password agree", "3.1.2-18 3.1.2-19 3.1.2-20 3.1.2-21 3.1.3-1 3.1.4-1", "3.1.2-16 3.1.2-17 3.1.2-18 3.1.2-19 3.1.3-1 3.1.4-1", func(p *probe) {
			codes := p.codes(nil, malformed)
			p.refused(p.connectPacket(p.id(), trailing(str("ann")...)), codes...)                                               // a user name without its flag
			p.refused(p.connectPacket(p.id(), flags(0x80)), codes...)                                                           // a flag without user name
			p.refused(p.connectPacket(p.id(), flags(0x80), trailing(cat(str("ann"), str("s3cret"))...)), codes...)              // a password without its flag
			p.refused(p.connectPacket(p.id(), flags(0xC0), trailing(str("ann")...)), codes...)                                  // a flag without password
			p.refused(p.connectPacket(p.id(), flags(0xC0), trailing(cat(str("ann"), short(9), []byte("s3cret"))...)), codes...) // a password cut short
		}},
		{"no password without a user name", "3.1.2-22", "", func(p *probe) {
			password := "s3cret"
			p.refused(p.connectPacket(p.id(), func(o *opening) { o.password = &password }))
		}},
		{"a password without a user name is well made", "", "3.1.4-5 3.1.3-1", func(p *probe) {
			password := "s3cret"
			p.connect(func(o *opening) { o.password = &password }).quiet()
		}},
		{"name and password count where they are asked for", "3.1.4-5 3.1.3-1 3.2.2-4 3.2.2-5", "3.1.4-2 3.1.3-1 3.2.2-6 3.2.2-7 4.13.2-1", func(p *probe) {
			defer p.guarded()()
			p.connect(account("ann", "s3cret")).quiet()
			for _, wrong := range []option{account("ann", "wrong"), account("bob", "s3cret"), account("ann", ""), func(*opening) {}} {
				c := p.open(p.id(), wrong)
				codes := p.codes([]byte{4, 5}, []byte{0x86, 0x87, 0x8a, 0x8c})
				p.check(has(string(codes), c.connack.reason) && !c.connack.present, "answered %v", c.connack)
				p.check(c.closed() == nil, "something came after %v", c.connack)
			}
		}},
		{"what follows a refused CONNECT is not processed", "3.1.4-5", "3.1.4-6", func(p *probe) {
			watch := p.connect()
			watch.subscribe(p.topic("a"), 0)
			back := p.guarded()
			see := p.connect(account("ann", "s3cret"))
			see.subscribe(p.topic("a"), 0)
			c := p.dial()
			c.send(p.connectPacket(p.id(), account("ann", "wrong")), c.publishPacket(message{topic: p.topic("a"), payload: "x", retain: true}))
			back()
			last := c.closed()
			p.check(last == nil || last.kind == CONNACK && last.reason != 0, "answered %v", last)
			see.quiet()
			watch.quiet()
		}},
		{"a payload follows the order of its flags", "3.1.3-1 3.1.3-3", "3.1.3-1 3.1.3-3", func(p *probe) {
			watch := p.connect()
			watch.subscribe(p.topic("will"), 0)
			c := p.connect(will(p.topic("will"), "client id, will, name, password", 0), account("ann", "s3cret"))
			c.drop()
			watch.gets("client id, will, name, password")
			// no client id at all
			p.refused(frame(CONNECT<<4, str("MQTT"), raw(p.version, 2), short(60), encode(p.version)), p.codes([]byte{2}, append([]byte{0x85}, malformed...))...)
		}},
		{"client ids of 1 to 23 letters and digits", "3.1.3-5", "3.1.3-5", func(p *probe) {
			const letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			mark := "Z" + p.name
			for _, id := range []string{mark, mark + letters[:23-len(mark)], mark + letters[len(letters)-23+len(mark):], mark + letters[23:46-len(mark)]} {
				p.check(len(id) <= 23, "%q is too long", id)
				p.connectAs(id).quiet()
			}
			p.connectAs(letters[p.version : p.version+1]) // the other version runs beside this one
		}},
		{"empty client ids are given different ones", "3.1.3-6 3.1.3-7", "3.1.3-6", func(p *probe) {
			one, two := p.connectAs(""), p.connectAs("")
			one.subscribe(p.topic("a"), 0)
			two.subscribe(p.topic("a"), 0)
			two.publish(p.topic("a"), "x", 0)
			one.gets("x")
			two.gets("x")
		}},
		{"an empty client id with a lasting session is refused", "3.1.3-8 3.1.3-9 3.2.2-4 3.2.2-5", "", func(p *probe) {
			c := p.open("", dirty)
			p.check(c.connack.reason == 2 && !c.connack.present, "answered %v", c.connack)
			p.check(c.closed() == nil, "something came after the refusal")
		}},
		{"the client id given is told and is the session's", "", "3.1.3-7 3.2.2-16", func(p *probe) {
			one, two := p.connectAs("", keep), p.connectAs("")
			id, ok := one.connack.get(propAssignedClientID)
			other, _ := two.connack.get(propAssignedClientID)
			p.check(ok && id.s != "" && id.s != other.s, "assigned %v and %v", id, other)
			one.subscribe(p.topic("a"), 1)
			one.drop()
			again := p.connectAs(id.s, resume)
			p.check(again.connack.present, "the session of %q is not found", id.s)
			_, told := again.connack.get(propAssignedClientID)
			p.check(!told, "an id was assigned though one was sent: %v", again.connack)
		}},
		{"a client id that the server rejects", "3.1.3-9", "3.1.3-8", func(p *probe) {
			// which ids are rejected is the server's to say; at least ill-formed ones
			c := p.dial()
			c.send(p.connectPacket("a\xff"))
			p.refusal(c, p.codes([]byte{2}, []byte{0x85, 0x80, 0x81, 0x82})...)
		}},
		{"long client ids that are accepted are whole", "3.1.3-2", "3.1.3-2", func(p *probe) {
			long := p.name + strings.Repeat("é", 40)
			one := p.connectAs(long+"1", keep)
			two := p.connectAs(long + "2")
			one.quiet()
			two.quiet()
		}},
		{"a CONNECT that is not well made is not answered with success", "3.1.4-1 3.2.2-6", "3.1.4-1 3.14.0-1", func(p *probe) {
			codes := p.codes(nil, malformed)
			body := p.connectPacket(p.id(), will("w", "m", 8), account("ann", "s3cret"))[2:]
			for n := range body { // cut anywhere
				p.refused(frame(CONNECT<<4, body[:n]), p.codes([]byte{1}, append([]byte{0x84, 0x85}, malformed...))...)
			}
			p.refused(p.connectPacket(p.id(), trailing(1, 2, 3)), codes...)
		}},
		{"CONNACK comes first and says success", "3.1.4-4 3.2.0-1", "3.1.4-5 3.2.0-1 3.2.0-2 3.2.2-1 3.2.2-8", func(p *probe) {
			id := p.id()
			c := p.connectAs(id, keep)
			c.subscribe(p.topic("a"), 1)
			c.drop()
			other := p.connect()
			other.publish(p.topic("a"), "waiting", 1)
			c = p.dial()
			c.send(p.connectPacket(id, resume))
			a := c.expect(CONNACK) // the waiting message comes after it
			p.check(a.present && a.reason == 0, "answered %v", a)
			max, ok := a.get(propMaximumQoS)
			p.check(!ok || max.n < 2, "Maximum QoS %d is not for announcing", max.n)
			c.gets("waiting")
			c.quiet()
		}},
		{"what is sent with CONNECT in one piece is processed after it", "3.2.0-1", "3.2.0-1", func(p *probe) {
			c := p.dial()
			c.send(p.connectPacket(p.id()), c.subscribePacket(1, nil, wish{p.topic("a"), 0}), raw(PINGREQ<<4, 0))
			c.expect(CONNACK)
			c.expect(SUBACK)
			c.expect(PINGRESP)
		}},
		{"a client id in use moves to the new connection", "3.1.4-2", "3.1.4-3", func(p *probe) {
			id := p.id()
			old := p.connectAs(id)
			young := p.connectAs(id)
			last := old.closed()
			if p.version == 5 {
				p.check(last != nil && last.kind == DISCONNECT && last.reason == 0x8E, "the old connection got %v", last)
			} else {
				p.check(last == nil, "the old connection got %v", last)
			}
			young.quiet()
		}},
		{"an authentication method that is not there", "", "4.12.0-1 4.13.2-1", func(p *probe) {
			p.row("an unknown method", func() { p.refused(p.connectPacket(p.id(), with(text(propAuthMethod, "none-such"))), 0x8C, 0x87) })
			p.row("data without a method", func() { p.refused(p.connectPacket(p.id(), with(text(propAuthData, "x"))), malformed...) })
		}},
		{"without a method there is no AUTH", "", "4.12.0-6 4.12.0-7", func(p *probe) {
			c := p.connect()
			_, ok := c.connack.get(propAuthMethod)
			p.check(!ok, "CONNACK has a method: %v", c.connack)
			p.ends("AUTH", frame(AUTH<<4, raw(0x19), encode(5, text(propAuthMethod, "x"))))
			p.ends("AUTH", raw(AUTH<<4, 0))
		}},
		{"response information only when asked for", "", "3.1.2-28", func(p *probe) {
			for _, o := range []option{with(), with(number(propRequestResponse, 0))} {
				_, ok := p.connect(o).connack.get(propResponseInfo)
				p.check(!ok, "it is sent")
			}
			p.connect(with(number(propRequestResponse, 1))).quiet()
		}},
		{"properties of CONNECT have their values", "", "3.1.4-1 4.13.1-1", func(p *probe) {
			for _, bad := range [][]property{
				{number(propReceiveMaximum, 0)},
				{number(propMaximumPacket, 0)},
				{number(propRequestProblem, 2)},
				{number(propRequestResponse, 2)},
				{number(propSessionExpiry, 1), number(propSessionExpiry, 1)},
				{number(propTopicAliasMaximum, 1), number(propTopicAliasMaximum, 1)},
				{number(propTopicAlias, 1)},
				{number(propMessageExpiry, 1)},
				{text(propAssignedClientID, "x")},
				{text(propReasonString, "x")},
			} {
				p.row(fmt.Sprint(bad), func() { p.refused(p.connectPacket(p.id(), with(bad...)), malformed...) })
			}
			for _, bad := range [][]property{
				{number(propWillDelay, 1), number(propWillDelay, 1)},
				{number(propFormat, 2)},
				{number(propTopicAlias, 2)},
				{text(propResponseTopic, "a/+")},
			} {
				p.row(fmt.Sprint("will ", bad), func() { p.refused(p.connectPacket(p.id(), will(p.topic("w"), "", 0, bad...)), malformed...) })
			}
		}},
		{"CONNACK keeps to the maximum packet size", "", "3.1.2-24 3.2.2-19 3.2.2-20", func(p *probe) {
			for size := uint32(2); size < 40; size += 4 {
				c := p.dial()
				c.send(p.connectPacket(p.id(), with(number(propMaximumPacket, size))))
				got, err := c.receive()
				p.check(err != nil || got.size <= int(size), "%d bytes for %d: %v", got.size, size, got)
			}
		}},
		{"a packet above the announced maximum ends the connection", "", "3.2.2-15", func(p *probe) {
			c := p.connect()
			max, ok := c.connack.get(propMaximumPacket)
			p.check(ok, "no maximum packet size is announced: %v", c.connack)
			p.ends("PUBLISH", c.publishPacket(message{topic: p.topic("a"), payload: strings.Repeat("x", int(max.n))}))
		}},
		{"keep alive ends a silent connection", "3.1.2-24", "3.1.2-22 3.2.2-22", func(p *probe) {
			watch := p.connect()
			watch.subscribe(p.topic("will"), 0)
			c := p.connect(keepAlive(1), will(p.topic("will"), "silent", 0))
			busy := p.connect(keepAlive(0))
			_, told := c.connack.get(propServerKeepAlive)
			p.check(!told, "the server does not take keep alive 1: %v", c.connack)
			c.closed()
			watch.gets("silent")
			busy.quiet()
		}},
		{"keep alive counts all packets", "3.1.2-24", "3.1.2-22", func(p *probe) {
			c := p.connect(keepAlive(2))
			for range 3 { // 6 s: beyond 1.5 × 2, also with a generous clock
				p.wait(2)
				c.send(c.publishPacket(message{topic: p.topic("a"), qos: 1, id: 1}))
				c.acked(PUBACK, 1)
			}
			c.quiet()
		}},
	}
}

// closes tells that the connection ends, whatever comes before.
func (p *probe) closes(c *client) {
	for {
		if _, err := c.receive(); err != nil {
			p.check(!errors.Is(err, os.ErrDeadlineExceeded), "the connection goes on")
			return
		}
	}
}
