package conformance

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// A script is a random sequence of what clients do, the same for each seed. It
// is played to two servers and what its clients see is compared.
type script struct {
	seed  uint64
	steps []step
}

// step is one thing that one of the players does.
type step struct {
	player int
	act    string // connect, leave, drop, subscribe, unsubscribe, publish, hold, settle
	keep   bool
	wish   wish
	id     uint32 // subscription identifier, 0 for none
	m      message
	alias  bool // publish by a topic alias
}

func (s step) String() string {
	switch s.act {
	case "connect":
		return fmt.Sprintf("%d connects, keep %v, will QoS %d retain %v", s.player, s.keep, s.m.qos, s.m.retain)
	case "subscribe":
		return fmt.Sprintf("%d subscribes %q options %#x id %d", s.player, s.wish.filter, s.wish.options, s.id)
	case "unsubscribe":
		return fmt.Sprintf("%d unsubscribes %q", s.player, s.wish.filter)
	case "publish":
		return fmt.Sprintf("%d publishes %q to %q QoS %d retain %v %v alias %v", s.player, s.m.payload, s.m.topic, s.m.qos, s.m.retain, s.m.properties, s.alias)
	}
	return fmt.Sprintf("%d: %s", s.player, s.act)
}

const players = 4 // 0 and 1 speak MQTT 3.1.1, 2 and 3 MQTT 5

func versionOf(player int) byte { return byte(4 + player/2) }

// newScript makes up a script. It leaves out what the standard leaves open:
// which member of a shared subscription gets a message, and what comes when
// queues are full.
func newScript(seed uint64, length int) script {
	r := rand.New(rand.NewPCG(seed, 1))
	s := script{seed: seed}
	topics := []string{"a", "a/b", "a/b/c", "b", "b/", "/b"}
	filters := []string{"a", "a/b", "a/#", "+", "+/b", "#", "b/+", "a/+/c", "+/+/#"}
	apart := [2][]string{{"a/#", "/b", "b/+", "b"}, {"+", "a/+/c", "/b", "b/+"}}
	pick := func(from []string) string { return from[r.IntN(len(from))] }
	up := [players]bool{}
	for n := 0; len(s.steps) < length; n++ {
		p := r.IntN(players)
		st := step{player: p, keep: r.IntN(3) > 0}
		if !up[p] {
			st.act = "connect"
			st.m = message{qos: byte(r.IntN(3)), retain: r.IntN(4) == 0, payload: fmt.Sprint("will", n)}
			up[p] = true
			s.steps = append(s.steps, st)
			continue
		}
		switch k := r.IntN(20); {
		case k < 1:
			st.act, up[p] = "leave", false
		case k < 3:
			st.act, up[p] = "drop", false
		case k < 4:
			st.act = "connect" // takes its own session over
			st.m = message{qos: byte(r.IntN(3)), payload: fmt.Sprint("will", n)}
		case k < 8:
			st.act = "subscribe"
			st.wish = wish{pick(filters), byte(r.IntN(3))}
			if versionOf(p) == 5 {
				// no local and retain as published stay the same for a filter, see kept
				st.wish.options |= byte(r.IntN(3))<<4 | byte(len(st.wish.filter)+p)&3<<2
				if st.wish.options&noLocal != 0 {
					st.wish.options |= notRetained // see kept
					st.wish.options &^= ifNew
				}
				st.id = uint32(r.IntN(4))
			} else {
				st.wish.filter = pick(apart[p])
			}
		case k < 9:
			st.act = "unsubscribe"
			st.wish.filter = pick(filters)
		case k < 10:
			st.act = "hold"
		case k < 12:
			st.act = "settle"
		default:
			st.act = "publish"
			st.m = message{topic: pick(topics), payload: fmt.Sprint("m", n), qos: byte(r.IntN(3)), retain: r.IntN(4) == 0}
			if st.m.retain && r.IntN(4) == 0 {
				st.m.payload = ""
			}
			if versionOf(p) == 5 {
				st.alias = r.IntN(4) == 0
				for _, extra := range []property{
					number(propFormat, 1), number(propMessageExpiry, 100000), text(propContentType, "t"), text(propResponseTopic, "r/s"),
					text(propCorrelation, "\x00c"), user("k", "1"), user("k", "2"), user("j", "1"),
				} {
					if r.IntN(4) == 0 {
						st.m.properties = append(st.m.properties, extra)
					}
				}
			}
		}
		s.steps = append(s.steps, st)
	}
	return s
}

// scriptClient is one client of a script through its connections.
type scriptClient struct {
	*client
	id      string
	hold    bool
	held    []packet
	filters map[string]bool // that the session ever had, to know what may overlap
	aliases map[string]uint32
	will    string
	fresh   bool // connected in this step: what comes was kept for it
}

// matches reports whether a topic matches a filter.
func matches(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, level := range f {
		switch {
		case level == "#":
			return true
		case i >= len(t) || level != "+" && level != t[i]:
			return false
		}
	}
	return len(f) == len(t)
}

func (p *scriptClient) overlaps(topic string) bool {
	n := 0
	for f := range p.filters {
		if matches(f, topic) {
			n++
		}
	}
	return n > 1
}

// kept are the differences that are left as they are, each by its clause.
var kept = [][2]string{
	{"3.4.2.1", "PUBACK and PUBREC may say 0x10 (no matching subscribers), or 0x00"},
	{"3.3.4-4, 3.3.4-5", "overlapping subscriptions of a client may give it one copy or several: copies are put together, with the highest QoS and all subscription identifiers"},
	{"3.3.1-12, 3.3.1-13", "of overlapping subscriptions the standard does not say whose Retain As Published holds in a single copy: RETAIN is not compared there"},
	{"3.1.2-23", "the QoS 0 copy of overlapping subscriptions need not be kept for an absent client: identifiers are not compared there"},
	{"3.3.5-1", "mosquitto sends MQTT 3.1.1 clients one copy with the QoS of any overlapping subscription: such clients do not overlap theirs"},
	{"3.8.4-3", "mosquitto keeps No Local and Retain As Published of a subscription that is replaced: scripts do not change these"},
	{"3.8.3-3", "mosquitto sends a subscription with No Local the retained messages of its own client: in scripts such a subscription asks for none"},
	{"3.3.2.3.3", "the message expiry interval runs: that it is there is compared, its value is not"},
	{"3.1.2-8", "mosquitto drops the will when a kept session moves to another connection: wills are compared where connections are lost"},
	{"4.6.0-5", "the order between topics is not said: what comes in one step is compared as a set"},
}

// stage is a script being played to one server.
type stage struct {
	*probe
	players [players]*scriptClient
	witness *client
	seen    []string // what came, step by step
}

// play plays a script and tells what its clients saw.
func play(p *probe, s script) []string {
	st := &stage{probe: p}
	p.version = 5
	st.witness = p.connect()
	st.witness.subscribe(p.name+"bye/#", 2)
	for i := range st.players {
		st.players[i] = &scriptClient{id: p.id(), filters: map[string]bool{}}
	}
	for n, step := range s.steps {
		st.seen = append(st.seen, fmt.Sprintf("%3d %v", n, step))
		st.do(step)
		st.look()
	}
	return st.seen
}

func (s *stage) do(a step) {
	p := s.players[a.player]
	s.version = versionOf(a.player)
	switch a.act {
	case "connect":
		options := []option{will(fmt.Sprint(s.name, "bye/", a.player), a.m.payload, a.m.qos<<3|bit(a.m.retain, willRetain))}
		if a.keep {
			options = append(options, keep)
		}
		old := p.client
		p.client = s.open(p.id, options...)
		s.note(a.player, "CONNACK reason %#x present %v", p.connack.reason, p.connack.present)
		if old != nil {
			old.closed() // whether its will is sent is another matter, see the tests of wills
		}
		p.will, p.fresh = a.m.payload, true
		p.held, p.hold, p.aliases = nil, false, map[string]uint32{}
		if !p.connack.present {
			clear(p.filters)
		}
	case "leave":
		p.leave()
		p.client, p.held = nil, nil
	case "drop":
		p.drop()
		p.client, p.held = nil, nil
		s.obituary(p.will)
	case "subscribe":
		var ps []property
		if a.id > 0 {
			ps = append(ps, number(propSubscriptionID, a.id))
		}
		s.note(a.player, "SUBACK %#x", p.subscribed(ps, wish{s.topic(a.wish.filter), a.wish.options}))
		p.filters[a.wish.filter] = true
	case "unsubscribe":
		s.note(a.player, "UNSUBACK %#x", p.unsubscribed(s.topic(a.wish.filter)))
	case "publish":
		m := a.m
		m.topic = s.topic(m.topic)
		if a.alias {
			m = p.aliased(m)
		}
		s.note(a.player, "acknowledged %#x", p.deliver(m)&^0x10) // no matching subscribers: may be said [3.4.2.1]
	case "hold":
		p.hold = true
	case "settle":
		p.hold = false
		for _, m := range p.held {
			p.settle(m)
		}
		p.held = nil
	}
}

// aliased is a message by topic alias 1, which stands for one topic at a time.
func (p *scriptClient) aliased(m message) message {
	known := p.aliases[m.topic] == 1
	clear(p.aliases)
	p.aliases[m.topic] = 1
	m.properties = append(slices.Clone(m.properties), number(propTopicAlias, 1))
	if known {
		m.topic = ""
	}
	return m
}

// obituary awaits the will of a connection that was lost: then it is over.
func (s *stage) obituary(will string) {
	m := s.witness.take()
	for m.payload != will {
		m = s.witness.take()
	}
	s.seen = append(s.seen, fmt.Sprintf("    the witness got %q QoS %d", m.payload, m.qos()))
}

func bit(is bool, b byte) byte {
	if is {
		return b
	}
	return 0
}

func (s *stage) note(player int, format string, args ...any) {
	s.seen = append(s.seen, fmt.Sprintf("    %d: ", player)+fmt.Sprintf(format, args...))
}

// look collects what came to each client in this step.
func (s *stage) look() {
	for i, p := range s.players {
		if p.client == nil {
			continue
		}
		p.ping()
		var came []packet
		for len(p.aside) > 0 {
			m := p.aside[0]
			p.aside = p.aside[1:]
			if m.kind == PUBREL { // of a session that is gone on with
				p.send(ack(PUBCOMP, m.id))
				continue
			}
			came = append(came, m)
			if p.hold {
				p.held = append(p.held, m)
			} else {
				p.settle(m)
			}
		}
		p.ping()
		s.seen = append(s.seen, s.normal(i, came)...)
		p.fresh = false
	}
}

// normal is what came to a client in one step without what the standard leaves
// to the server: see kept.
func (s *stage) normal(player int, came []packet) (lines []string) {
	type sight struct {
		qos   byte
		ids   []string
		line  string
		again bool
	}
	var all []sight
	for _, m := range came {
		topic := strings.TrimPrefix(m.topic, s.topic(""))
		v := sight{qos: m.qos(), again: m.dup()}
		var ps []string
		for _, q := range m.properties {
			switch q.id {
			case propSubscriptionID:
				v.ids = append(v.ids, fmt.Sprint(q.n))
			case propMessageExpiry:
				ps = append(ps, "expiry")
			case propUser:
				ps = append(ps, fmt.Sprintf("user %s=%s", q.s, q.v))
			default:
				ps = append(ps, q.String())
			}
		}
		// the order of user properties is theirs, that of others is nobody's
		slices.SortStableFunc(ps, func(a, b string) int { return strings.Compare(a[:4], b[:4]) })
		retain := fmt.Sprint(m.retain())
		overlaps := s.players[player].overlaps(topic)
		if overlaps {
			retain = "any"
			if s.players[player].fresh {
				v.ids = []string{"any"}
			}
		}
		v.line = fmt.Sprintf("    %d got %q at %q retain %s dup %v %v", player, m.payload, topic, retain, m.dup(), ps)
		if i := slices.IndexFunc(all, func(o sight) bool { return o.line == v.line }); i >= 0 && (overlaps || !v.again) {
			all[i].qos = max(all[i].qos, v.qos)
			all[i].ids = append(all[i].ids, v.ids...)
			continue
		}
		all = append(all, v)
	}
	for _, v := range all {
		slices.Sort(v.ids)
		ids := slices.Compact(v.ids)
		lines = append(lines, fmt.Sprintf("%s QoS %d ids %v", v.line, v.qos, ids))
	}
	slices.Sort(lines) // one step publishes one message, or replays retained ones in any order
	return lines
}

// diff plays a script to two servers.
func diff(t *testing.T, seed uint64, length int, a, b *target) {
	s := newScript(seed, length)
	var seen [2][]string
	for i, to := range []*target{a, b} {
		var broken string
		seen[i] = nil
		broken = try(t, to, 5, "", func(p *probe) { seen[i] = play(p, s) })
		if broken != "" {
			t.Errorf("seed %d: %s: %s", seed, to.name, broken)
			return
		}
	}
	for n := range max(len(seen[0]), len(seen[1])) {
		var x, y string
		if n < len(seen[0]) {
			x = seen[0][n]
		}
		if n < len(seen[1]) {
			y = seen[1][n]
		}
		if x != y {
			t.Errorf("seed %d differs:\n%s: %s\n%s: %s\nafter:\n%s", seed, a.name, x, b.name, y, strings.Join(seen[0][:n], "\n"))
			return
		}
	}
}

var scripts = flag.Uint64("scripts", 60, "how many random scripts to play; each is its number's")

// TestScripts plays random scripts to mosquitto and to our engine. What differs
// is a fault, of one or of the scripts, unless kept says why it may.
func TestScripts(t *testing.T) {
	a, b, c := mosquitto(t), embedded(t), stored(t)
	for seed := range *scripts {
		diff(t, seed, 60, a, []*target{b, c}[seed%2])
	}
}
