package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// torture is what publishers and subscribers share. Each connection holds the
// gate for reading as long as it lasts.
type torture struct {
	t           *testing.T
	from        *Host
	address     string
	gate        sync.RWMutex
	enough      chan struct{} // closed: nothing new is published, nobody leaves
	quit        chan struct{} // closed: it is over
	round       atomic.Int64
	connections atomic.Int64
	publishers  []*publisher
	subscribers []*subscriber
}

func over(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// pause waits a moment, less when it is over.
func (x *torture) pause(d time.Duration) {
	select {
	case <-x.quit:
	case <-time.After(d):
	}
}

// connection is one connection of a session that outlives it; known says that
// an earlier CONNACK spoke of it.
func (x *torture) connection(version byte, id string, known bool, use func(*line)) (connected bool) {
	x.gate.RLock()
	defer x.gate.RUnlock()
	if over(x.quit) {
		return false
	}
	l, err := x.from.connect(x.address, version, id, false)
	if err != nil {
		return false // between a kill and the next start
	}
	defer l.conn.Close()
	x.connections.Add(1)
	if known && !l.present {
		x.t.Errorf("after kill %d: the session of %s is gone", x.round.Load(), id)
	}
	use(l)
	return true
}

// publisher numbers its messages by topic and sends each until it is
// acknowledged.
type publisher struct {
	*torture
	name         string
	version, qos byte
	room         chan struct{} // holds one: the window may have room

	mu           sync.Mutex
	id           uint16
	total        int
	sent         map[string]int // the last number, by topic
	acknowledged map[string]int
	window       []*outgoing // not acknowledged, in the order sent
}

type outgoing struct {
	id      uint16
	number  int
	flags   byte
	topic   string
	payload string
	release bool // PUBREC came
	again   bool // PUBREL was sent on an earlier connection
}

// unknownID is what PUBCOMP says where the broker is through with a message and
// its first PUBCOMP was lost; no error then (MQTT 5.0, 3.7.2.1).
const unknownID = 0x92

func (p *publisher) topic(leaf string) string { return "torture/" + p.name + "/" + leaf }

func (p *publisher) run() {
	known := false
	for !over(p.quit) {
		if p.connection(p.version, p.name, known, p.use) {
			known = true
		}
		p.pause(5 * time.Millisecond)
	}
}

func (p *publisher) use(l *line) {
	ended := make(chan struct{})
	p.mu.Lock()
	again := slices.Clone(p.window)
	for _, m := range again {
		m.again = m.release
	}
	p.mu.Unlock()
	for _, m := range again { // [MQTT-4.4.0-1], in the order of before [MQTT-4.6.0-1]
		if m.release {
			l.answer(kindPubrel, m.id)
		} else {
			l.publish(m.flags|8, m.id, m.topic, m.payload)
		}
	}
	go func() {
		defer close(ended)
		p.listen(l)
	}()
	for {
		m := p.next()
		if m != nil {
			l.publish(m.flags, m.id, m.topic, m.payload)
			if rand.IntN(10) == 0 { // bursts
				p.pause(time.Duration(rand.IntN(20)) * time.Millisecond)
			}
			if !over(ended) && !over(p.quit) {
				continue
			}
		}
		select {
		case <-p.room:
		case <-ended:
			return
		case <-p.quit:
			l.leave()
			<-ended
			return
		}
	}
}

// next makes a message, when the window has room and there is not enough yet.
func (p *publisher) next() *outgoing {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.window) >= 20 || over(p.enough) {
		return nil
	}
	p.id++
	p.id = max(p.id, 1)
	p.total++
	m := &outgoing{id: p.id, flags: p.qos << 1, topic: p.topic("live")}
	if p.total%5 == 0 {
		m.topic, m.flags = p.topic("kept"), m.flags|1
	}
	p.sent[m.topic]++
	m.number = p.sent[m.topic]
	size := rand.IntN(100)
	if size == 0 {
		size = 5000
	}
	m.payload = fmt.Sprint(m.number, " ", strings.Repeat("x", size))
	p.window = append(p.window, m)
	return m
}

// listen takes acknowledgements, which come in the order of what they are for
// [MQTT-4.6.0-2, -3, -4].
func (p *publisher) listen(l *line) {
	defer l.conn.Close()
	for {
		a, err := l.read(30 * time.Second)
		if err != nil {
			return
		}
		p.mu.Lock()
		i := slices.IndexFunc(p.window, func(m *outgoing) bool { return !m.release || a.kind == kindPubcomp })
		switch {
		case i < 0 || p.window[i].id != a.id || a.code != 0 && (a.code != unknownID || !p.window[i].again):
			p.t.Errorf("after kill %d: %s is sent %+v, which is not the next acknowledgement", p.round.Load(), p.name, a)
		case a.kind == kindPubrec && p.qos == 2:
			p.window[i].release = true
			l.answer(kindPubrel, a.id)
		case a.kind == kindPuback && p.qos == 1, a.kind == kindPubcomp && p.window[i].release:
			m := p.window[i]
			p.acknowledged[m.topic] = max(m.number, p.acknowledged[m.topic])
			p.window = slices.Delete(p.window, i, i+1)
		default:
			p.t.Errorf("after kill %d: %s is sent %+v", p.round.Load(), p.name, a)
		}
		p.mu.Unlock()
		select {
		case p.room <- struct{}{}:
		default:
		}
	}
}

// subscriber has a persistent session and is away now and then.
type subscriber struct {
	*torture
	name         string
	version, qos byte

	mu      sync.Mutex
	last    map[string]int // the last number, by topic
	open    map[uint16]bool
	repeats int
	arrived int
}

// subscriber makes one that is subscribed.
func (x *torture) subscriber(name string, version, qos byte) *subscriber {
	x.t.Helper()
	s := &subscriber{torture: x, name: name, version: version, qos: qos, last: make(map[string]int), open: make(map[uint16]bool)}
	if !x.connection(version, name, false, func(l *line) {
		if err := l.subscribe("torture/#", qos); err != nil {
			x.t.Fatal(err)
		}
		l.leave()
	}) {
		x.t.Fatalf("%s cannot connect", name)
	}
	return s
}

func (s *subscriber) run() {
	for !over(s.quit) {
		s.connection(s.version, s.name, true, s.use)
		if !over(s.enough) {
			s.pause(time.Duration(rand.IntN(150)) * time.Millisecond)
		}
	}
}

func (s *subscriber) use(l *line) {
	leave := make(chan struct{})
	defer close(leave)
	go func() {
		stay := time.After(time.Duration(rand.IntN(400)) * time.Millisecond)
		if over(s.enough) {
			stay = nil
		}
		select {
		case <-leave:
		case <-s.quit:
			l.leave()
		case <-stay:
			if rand.IntN(2) == 0 {
				l.leave()
			}
			l.conn.Close() // with and without a word
		}
	}()
	for {
		p, err := l.read(30 * time.Second)
		if err != nil {
			return
		}
		switch {
		case p.kind == kindPubrel:
			s.mu.Lock()
			delete(s.open, p.id)
			s.mu.Unlock()
			l.answer(kindPubcomp, p.id)
		case p.kind != kindPublish:
			s.t.Errorf("after kill %d: %s is sent %+v", s.round.Load(), s.name, p)
		default:
			s.arrive(p)
			l.answer(kindPuback+p.qos()-1, p.id)
		}
	}
}

func (s *subscriber) arrive(p packet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.qos() == 2 {
		if s.open[p.id] {
			if !p.dup() {
				s.t.Errorf("after kill %d: %s is sent id %d of %s, which it has not released, without DUP", s.round.Load(), s.name, p.id, p.topic)
			}
			return
		}
		s.open[p.id] = true
	}
	s.arrived++
	n := number(p.payload)
	switch {
	case n == s.last[p.topic]+1:
		s.last[p.topic] = n
	case n > 0 && n <= s.last[p.topic] && p.qos() == 1:
		s.repeats++
	default:
		s.t.Errorf("after kill %d: %s gets %d of %s with QoS %d after %d (DUP %v, id %d)", s.round.Load(), s.name, n, p.topic, p.qos(), s.last[p.topic], p.dup(), p.id)
	}
}
