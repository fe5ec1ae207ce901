package conformance

import (
	"errors"
	"fmt"
	"io"
	"syscall"
)

// sharedTests are of shared subscriptions.
func sharedTests() []test {
	return []test{
		{"a shared subscription shares", "", "4.8.2-1 4.8.2-3", func(p *probe) {
			share := "$share/" + p.name + "/" + p.topic("+")
			one, two, whole, other := p.connect(), p.connect(), p.connect(), p.connect()
			one.subscribe(share, 1)
			two.subscribe(share, 1)
			whole.subscribe(p.topic("+"), 1)
			const n = 20
			var all []string
			for i := range n {
				other.publish(p.topic("a"), fmt.Sprint(i), 1)
				all = append(all, fmt.Sprint(i))
			}
			whole.gets(all...)
			got := map[string]int{}
			for _, c := range []*client{one, two} {
				c.ping()
				p.check(len(c.aside) >= 1, "a member got nothing of %d", n)
				for len(c.aside) > 0 {
					got[c.take().payload]++
				}
			}
			p.check(len(got) == n, "%d of %d messages came", len(got), n)
			for payload, times := range got {
				p.check(times == 1, "%s came %d times", payload, times)
			}
		}},
		{"share names and filters that cannot be are refused", "", "4.8.2-1 4.8.2-2", func(p *probe) {
			for _, bad := range []string{"$share/", "$share//a", "$share/x", "$share/x/", "$share/x+/a", "$share/#/a", "$share/+/a", "$share/x#/a", "$share/x/a#"} {
				p.row(bad, func() {
					c := p.connect()
					c.send(c.subscribePacket(1, nil, wish{bad, 0}))
					got, err := c.receive()
					p.check(err == nil && got.kind == SUBACK && got.reasons[0] >= 0x80 || err == nil && got.kind == DISCONNECT || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET), "%v, %v", got, err)
				})
			}
		}},
		{"no local on a shared subscription ends the connection", "", "3.8.3-4", func(p *probe) {
			p.ends("SUBSCRIBE", p.connect().subscribePacket(1, nil, wish{"$share/" + p.name + "/" + p.topic("a"), noLocal}))
		}},
		{"the QoS granted to the member holds", "", "4.8.2-3", func(p *probe) {
			c, other := p.connect(), p.connect()
			c.subscribe("$share/"+p.name+"/"+p.topic("a"), 1)
			for qos := byte(0); qos < 3; qos++ {
				other.publish(p.topic("a"), "x", qos)
				m := c.gets("x")[0]
				p.check(m.qos() == min(qos, 1), "QoS %d came as %v", qos, m)
			}
		}},
		{"a member that is away gets nothing while another is there", "", "4.8.2-3", func(p *probe) {
			share := "$share/" + p.name + "/" + p.topic("a")
			id := p.id()
			p.connectAs(id, keep).subscribe(share, 1)
			p.connectAs(id, resume).leave()
			there, other := p.connect(), p.connect()
			there.subscribe(share, 1)
			for i := range 6 {
				other.publish(p.topic("a"), fmt.Sprint(i), 1)
				there.gets(fmt.Sprint(i))
			}
			there.leave()
			other.publish(p.topic("a"), "for the absent", 1) // nobody else is left
			back := p.connectAs(id, resume)
			back.gets("for the absent")
			back.quiet()
		}},
		{"groups are of their own", "", "4.8.2-1", func(p *probe) {
			other := p.connect()
			for _, group := range []string{"A", "B"} {
				c := p.connect()
				c.subscribe("$share/"+p.name+group+"/"+p.topic("a"), 1)
				defer c.gets("x")
			}
			other.publish(p.topic("a"), "x", 1)
		}},
		{"a shared subscription gets no retained messages", "", "4.8.2-1", func(p *probe) {
			c := p.connect()
			c.retain(p.topic("a"), "x", 1)
			c.subscribe("$share/"+p.name+"/"+p.topic("a"), 1)
			c.quiet()
		}},
		{"a member that leaves gets no more", "", "3.10.4-1 3.10.4-2", func(p *probe) {
			share := "$share/" + p.name + "/" + p.topic("a")
			one, two, other := p.connect(), p.connect(), p.connect()
			one.subscribe(share, 1)
			two.subscribe(share, 1)
			one.unsubscribed(p.topic("a")) // is not the shared one
			one.unsubscribed(share)
			for i := range 6 {
				other.publish(p.topic("a"), fmt.Sprint(i), 1)
				two.gets(fmt.Sprint(i))
			}
			one.quiet()
		}},
		{"a QoS 2 delivery to a member is finished with it", "", "4.8.2-4", func(p *probe) {
			share := "$share/" + p.name + "/" + p.topic("a")
			id := p.id()
			one, other := p.connectAs(id, keep), p.connect()
			one.subscribe(share, 2)
			other.publish(p.topic("a"), "x", 2)
			m := one.expect(PUBLISH)
			one.send(ack(PUBREC, m.id))
			one.acked(PUBREL, m.id)
			two := p.connect()
			two.subscribe(share, 2)
			one.drop()
			one = p.connectAs(id, resume)
			one.acked(PUBREL, m.id)
			one.send(ack(PUBCOMP, m.id))
			one.quiet()
			two.quiet()
		}},
		{"what a member began and left behind goes to no other", "", "4.8.2-5", func(p *probe) {
			share := "$share/" + p.name + "/" + p.topic("a")
			id := p.id()
			one, other := p.connectAs(id, keep), p.connect()
			one.subscribe(share, 2)
			other.publish(p.topic("a"), "x", 2)
			m := one.expect(PUBLISH)
			one.send(ack(PUBREC, m.id))
			one.acked(PUBREL, m.id)
			two := p.connect()
			two.subscribe(share, 2)
			one.drop()
			p.connectAs(id).leave() // ends the session
			two.quiet()
		}},
		{"what a member refuses goes to no other", "", "4.8.2-6 4.4.0-2", func(p *probe) {
			share := "$share/" + p.name + "/" + p.topic("a")
			id := p.id()
			one, other := p.connectAs(id, keep), p.connect()
			one.subscribe(share, 2)
			other.publish(p.topic("a"), "1", 1)
			other.publish(p.topic("a"), "2", 2)
			a, b := one.expect(PUBLISH), one.expect(PUBLISH)
			two := p.connect()
			two.subscribe(share, 2)
			one.send(ack(PUBACK, a.id, 0x80), ack(PUBREC, b.id, 0x83))
			one.quiet()
			two.quiet()
			one.drop()
			p.connectAs(id, resume).quiet()
		}},
	}
}
