package conformance

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// patience is how long a server may take for anything; what it must not send
// is shown by a fence, never by waiting.
const patience = 15 * time.Second

// test shows normative statements of one version or of both: it runs once for
// each that it names statements of, as "3.1.0-2 4.8.0-1".
type test struct {
	name   string
	v3, v5 string
	run    func(p *probe)
}

func (t test) statements(version byte) []string {
	if version == 5 {
		return strings.Fields(t.v5)
	}
	return strings.Fields(t.v3)
}

// failure is what a probe panics with, so that a known deviation can be told
// from a fault.
type failure string

// skipped is what a probe panics with where the server lacks what it needs.
type skipped string

// probe is one run of a test against one server. Its methods end the run when
// the server does not do as it must; they are for the test's goroutine.
type probe struct {
	t       testing.TB
	target  *target
	version byte
	name    string // of this run alone: topics and client ids begin with it
	ids     int
	conns   []net.Conn
	key     string   // of this run, as in the target's deviations
	faults  []string // of rows
	rows    map[string]bool
	fence   *client // of a session that is stored
}

var runs atomic.Int64

// try runs what is to be shown and tells how it failed.
func try(t testing.TB, to *target, version byte, key string, run func(p *probe)) (failed string) {
	p := &probe{t: t, target: to, version: version, key: key, name: fmt.Sprintf("t%d", runs.Add(1)), rows: map[string]bool{}}
	defer func() {
		for _, c := range p.conns {
			_ = c.Close()
		}
		switch r := recover().(type) {
		case nil:
		case failure:
			failed = string(r)
		case skipped:
			t.Skip("skipped: " + string(r))
		default:
			panic(r)
		}
	}()
	run(p)
	for k := range p.target.deviations {
		if what, ok := strings.CutPrefix(k, key+": "); ok && !p.rows[what] {
			p.faults = append(p.faults, fmt.Sprintf("there is no row %q that could deviate", what))
		}
	}
	return strings.Join(p.faults, "; ")
}

// afterStore returns when all that was given to the store before is with it: a
// subscription of a session that is kept is acknowledged no earlier, unless the
// store has it as it is.
func (p *probe) afterStore() {
	was := p.version
	defer func() { p.version = was }()
	p.version = 5
	if p.fence == nil {
		c := p.dial()
		c.send(p.connectPacket("fence-"+p.name, keep, account("ann", "s3cret")))
		c.expect(CONNACK)
		p.fence = c
	}
	id := p.fence.next()
	p.fence.send(p.fence.subscribePacket(id, nil, wish{"fence/" + p.name, byte(id & 1)}))
	p.fence.acked(SUBACK, id)
}

// row is one of several things that a test shows, each of which may be a known
// deviation, as "5.0 name of the test: name of the row".
func (p *probe) row(what string, show func()) {
	p.rows[what] = true
	why, known := p.target.deviations[p.key+": "+what]
	defer func() {
		r := recover()
		failed, ok := r.(failure)
		switch {
		case r != nil && !ok:
			panic(r)
		case ok && known:
			p.t.Logf("known: %s: %s (%s)", what, why, failed)
		case ok:
			p.faults = append(p.faults, what+": "+string(failed))
		case known:
			p.faults = append(p.faults, fmt.Sprintf("%s is known to deviate (%s) and does not", what, why))
		}
	}()
	show()
}

func (p *probe) fail(format string, args ...any) {
	panic(failure(fmt.Sprintf(format, args...)))
}

func (p *probe) check(ok bool, format string, args ...any) {
	if !ok {
		p.fail(format, args...)
	}
}

// topic is a topic or filter below a level that only this run uses.
func (p *probe) topic(rest string) string { return p.name + "/" + rest }

// denied is a topic that nobody may publish or subscribe to.
func (p *probe) denied() string {
	if !p.target.denies {
		panic(skipped("who may do what is tested with it elsewhere"))
	}
	return "denied/" + p.name
}

// guarded has the run go on where names and passwords are asked for.
func (p *probe) guarded() (back func()) {
	open := p.target
	if open.guarded == "" {
		panic(skipped("who may come in is tested with it elsewhere"))
	}
	inside := *open
	inside.address = open.guarded
	p.target = &inside
	return func() { p.target = open }
}

// id is a new client id: digits and letters, 23 at most.
func (p *probe) id() string {
	p.ids++
	return fmt.Sprintf("%sc%d", p.name, p.ids)
}

// dial opens a connection that speaks the run's version.
func (p *probe) dial() *client {
	conn, err := net.DialTimeout("tcp", p.target.address, patience)
	p.check(err == nil, "cannot connect: %v", err)
	p.conns = append(p.conns, conn)
	return &client{probe: p, conn: conn, version: p.version}
}

// opening is a CONNECT in the making.
type opening struct {
	version        byte
	protocol       string
	id             string
	clean          bool
	flags          byte // further connect flags
	keepAlive      int
	properties     []property
	willTopic      string
	will           []byte
	willFlags      byte // QoS and retain as in the connect flags
	willProperties []property
	user, password *string
	hasWill        bool
	trailer        []byte
}

// option changes a CONNECT.
type option func(*opening)

// keep is a session that outlives its connection.
func keep(o *opening) {
	o.clean = false
	o.properties = append(o.properties, number(propSessionExpiry, 600))
}

// resume goes on with a session and keeps it: what keep does, by another name.
func resume(o *opening) { keep(o) }

func dirty(o *opening)          { o.clean = false }
func keepAlive(n int) option    { return func(o *opening) { o.keepAlive = n } }
func flags(b byte) option       { return func(o *opening) { o.flags |= b } }
func version(v byte) option     { return func(o *opening) { o.version = v } }
func name(s string) option      { return func(o *opening) { o.protocol = s } }
func trailing(b ...byte) option { return func(o *opening) { o.trailer = b } }
func with(ps ...property) option {
	return func(o *opening) { o.properties = append(o.properties, ps...) }
}
func account(u, pw string) option { return func(o *opening) { o.user, o.password = &u, &pw } }

func will(topic, payload string, flags byte, ps ...property) option {
	return func(o *opening) {
		o.hasWill, o.willTopic, o.will, o.willFlags, o.willProperties = true, topic, []byte(payload), flags, ps
	}
}

func (p *probe) connectPacket(id string, options ...option) []byte {
	o := opening{version: p.version, protocol: "MQTT", id: id, clean: true, keepAlive: 60}
	for _, set := range options {
		set(&o)
	}
	f := o.flags
	if o.clean {
		f |= 2
	}
	payload := str(o.id)
	if o.hasWill {
		f |= 4 | o.willFlags
		payload = cat(payload, encode(o.version, o.willProperties...), str(o.willTopic), short(len(o.will)), o.will)
	}
	if o.user != nil {
		f |= 0x80
		payload = cat(payload, str(*o.user))
	}
	if o.password != nil {
		f |= 0x40
		payload = cat(payload, str(*o.password))
	}
	return frame(CONNECT<<4, str(o.protocol), raw(o.version, f), short(o.keepAlive),
		encode(o.version, o.properties...), payload, o.trailer)
}

// open connects and gives the client with its CONNACK, whatever that says.
func (p *probe) open(id string, options ...option) *client {
	c := p.dial()
	c.name = id
	o := opening{version: p.version}
	for _, set := range options {
		set(&o)
	}
	c.version = o.version
	c.send(p.connectPacket(id, options...))
	c.connack = c.expect(CONNACK)
	return c
}

// connect is open that must succeed.
func (p *probe) connect(options ...option) *client { return p.connectAs(p.id(), options...) }

func (p *probe) connectAs(id string, options ...option) *client {
	c := p.open(id, options...)
	p.check(c.connack.reason == 0, "refused: %v", c.connack)
	return c
}

// refused tells that a CONNECT is answered with one of the codes, or with
// nothing where none is given, and that the connection ends.
func (p *probe) refused(connect []byte, codes ...byte) {
	c := p.dial()
	c.send(connect, raw(PINGREQ<<4, 0))
	p.refusal(c, codes...)
}

func (p *probe) refusal(c *client, codes ...byte) {
	last := c.closed()
	if last == nil {
		return
	}
	p.check(last.kind == CONNACK && !last.present && slices.Contains(codes, last.reason), "refused with %v, not with %#x", last, codes)
}

// codes picks the reason codes of the run's version.
func (p *probe) codes(v3, v5 []byte) []byte {
	if p.version == 5 {
		return v5
	}
	return v3
}

// ends tells that bytes end the connection that they come by, and no other.
func (p *probe) ends(what string, sent ...[]byte) {
	p.row(what, func() {
		witness := p.connect()
		c := p.connect()
		c.send(joined(sent), raw(PINGREQ<<4, 0))
		last, err := c.end()
		p.check(err == nil, "%v", err)
		p.check(last == nil || last.kind == DISCONNECT && last.reason >= 0x80, "%v", last)
		witness.quiet()
		_ = witness.conn.Close()
	})
}

// wait lets the server's clock run. It is for what must have come to pass
// after a time and shows by nothing else; it never orders events.
func (p *probe) wait(seconds int) {
	time.Sleep(time.Duration(seconds) * time.Second)
}

// same tells that a message has the properties that it was published with.
func (p *probe) same(m packet, published []property) {
	for _, want := range published {
		if want.id == propUser || want.id == propMessageExpiry {
			continue
		}
		got, ok := m.get(want.id)
		p.check(ok && got == want, "%v became %v", want, m)
	}
	var users []property
	for _, want := range published {
		if want.id == propUser {
			users = append(users, want)
		}
	}
	p.check(slices.Equal(m.all(propUser), users), "user properties %v became %v", users, m.all(propUser))
	for _, got := range m.properties {
		known := slices.ContainsFunc(published, func(q property) bool { return q.id == got.id })
		p.check(known || got.id == propTopicAlias || got.id == propSubscriptionID, "%v was added to %v", got, published)
	}
}
