package simulation

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/agent"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/hub"
	"github.com/jmbarzee/dominion/topics"
)

// post is the network without a broker: messages are handed over directly, but
// late, in another order where MQTT allows that, and now and then once more. A
// week of a home is seconds.
//
// It keeps what MQTT promises and nothing else: what one client publishes on
// one topic arrives in its order (MQTT 3.1.1, 4.6), on two topics in any; a
// message of QoS 1 may come again, with those that followed it; what is under
// way when a connection ends is lost. A broker that restarts may have lost
// what it retained, or have an older copy of it.
type post struct {
	home     *home
	external bool // the broker is a program of its own

	mu           sync.Mutex
	parcels      parcels
	wake         chan struct{}
	quit         chan struct{}
	carrying     sync.WaitGroup
	up           bool // the broker
	runs         uint64
	retained     map[string]topics.Message
	older        map[string]topics.Message
	lastPayloads map[string]string
	callers      map[string]*clientConn // by client id
	calls        map[string]int         // how many of a machine there were
	hub          listener               // nil while none listens
	in, out      map[*machine]bool      // nothing gets in, out
	cuts         uint64
	stray        way // of users
	hubQuit      func()
	carried      int
}

// parcel is something that happens at a moment. Those of one moment happen in
// an order that does not depend on who was first to send.
type parcel struct {
	at  time.Time
	key string
	n   uint64
	do  func()
}

type parcels []parcel

func (p parcels) Len() int { return len(p) }
func (p parcels) Less(i, j int) bool {
	a, b := p[i], p[j]
	if !a.at.Equal(b.at) {
		return a.at.Before(b.at)
	}
	if a.key != b.key {
		return a.key < b.key
	}
	return a.n < b.n
}
func (p parcels) Swap(i, j int) { p[i], p[j] = p[j], p[i] }
func (p *parcels) Push(x any)   { *p = append(*p, x.(parcel)) }
func (p *parcels) Pop() any {
	last := len(*p) - 1
	x := (*p)[last]
	*p = (*p)[:last]
	return x
}

// With a seed that is divisible by three the broker is an external one.
func newPost(h *home) network {
	p := &post{
		home: h, external: h.seed%3 == 0, up: h.seed%3 == 0, wake: make(chan struct{}, 1), quit: make(chan struct{}),
		retained: make(map[string]topics.Message), older: make(map[string]topics.Message), lastPayloads: make(map[string]string),
		callers: make(map[string]*clientConn), calls: make(map[string]int), in: make(map[*machine]bool), out: make(map[*machine]bool), stray: way{name: "users"},
	}
	p.carrying.Go(p.carry)
	return p
}

// carry runs what is due.
func (p *post) carry() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		p.mu.Lock()
		var due *parcel
		next := now.Add(time.Hour)
		if len(p.parcels) > 0 {
			if next = p.parcels[0].at; !next.After(now) {
				x := heap.Pop(&p.parcels).(parcel)
				due = &x
			}
		}
		p.mu.Unlock()
		if due != nil {
			due.do()
			continue
		}
		timer.Reset(next.Sub(now))
		select {
		case <-p.quit:
			return
		case <-p.wake:
		case <-timer.C:
		}
	}
}

// at schedules something for later. The mutex is held.
func (p *post) at(at time.Time, key string, n uint64, do func()) {
	heap.Push(&p.parcels, parcel{at, key, n, do})
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// way is one direction of one client's messages.
type way struct {
	name string
	ways map[string]*lane
}

// lane is a topic on a way: nobody overtakes.
type lane struct {
	n      uint64
	last   time.Time
	recent []topics.Message
}

// delay is how long a message takes: most a moment, some long.
func (p *post) delay(n uint64, words ...string) time.Duration {
	lot := p.home.random(n, append(words, "delay")...)
	switch part := lot % 1000; {
	case part < 900:
		return time.Duration(lot>>10%3_000_000) + 100_000
	case part < 990:
		return time.Duration(lot >> 10 % 300_000_000)
	default:
		return time.Duration(lot >> 10 % uint64(4*time.Second))
	}
}

// send hands a message over later, perhaps once more after those that followed.
// The mutex is held.
func (p *post) send(w *way, m topics.Message, hand func(topics.Message)) {
	if w.ways == nil {
		w.ways = make(map[string]*lane)
	}
	l := w.ways[m.Topic]
	if l == nil {
		l = new(lane)
		w.ways[m.Topic] = l
	}
	l.recent = append(l.recent, m)
	if len(l.recent) > 3 {
		l.recent = l.recent[1:]
	}
	again := 0
	if m.QoS > 0 && p.home.random(l.n, w.name, m.Topic, "again")%150 == 0 {
		again = 1 + int(p.home.random(l.n, w.name, m.Topic, "how many")%uint64(len(l.recent)))
	}
	for i, each := range append([]topics.Message{m}, l.recent[len(l.recent)-again:]...) {
		l.n++
		at := time.Now().Add(p.delay(l.n, w.name, m.Topic))
		if i > 0 {
			at = at.Add(p.delay(l.n, w.name, m.Topic, "again"))
		}
		if !at.After(l.last) {
			at = l.last.Add(1)
		}
		l.last = at
		p.at(at, w.name+" "+m.Topic, l.n, func() { hand(each) })
	}
}

// accept is the broker, which has got a message.
func (p *post) accept(m topics.Message) {
	p.mu.Lock()
	if !p.up {
		p.mu.Unlock()
		return
	}
	p.carried++
	p.lastPayloads[m.Topic] = string(m.Payload)
	if m.Retain {
		if was, ok := p.retained[m.Topic]; ok && p.home.random(p.runs, m.Topic, fmt.Sprint(len(m.Payload)))%5 == 0 {
			p.older[m.Topic] = was
		}
		if len(m.Payload) == 0 {
			delete(p.retained, m.Topic)
		} else {
			p.retained[m.Topic] = m
		}
	}
	live := m
	live.Retain = false
	for _, id := range slices.Sorted(maps.Keys(p.callers)) {
		p.callers[id].offer(live)
	}
	if p.hub != nil && !p.external {
		deliver(p.hub, m)
	}
	p.mu.Unlock()
}

// deliver hands a message to a hub that is with its broker in one program. It
// sees the retain flag of an order.
func deliver(u listener, m topics.Message) {
	at, _ := topics.NewTree("").Parse(m.Topic)
	m.Retain = m.Retain && at.Kind.Imperative()
	for _, f := range u.Filters() {
		if wire.Matches(f, m.Topic) {
			u.Deliver(m)
			return
		}
	}
}

// The network as the home knows it.

func (p *post) open() (hub.Bus, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.external {
		return &hubLink{post: p}, false
	}
	p.begin()
	return own{p}, true
}

// own is the way of a hub whose broker is its own.
type own struct{ *post }

func (b own) Publish(m topics.Message) { b.accept(m) }

// begin begins a run of the broker. What it retained may be lost or older. The
// mutex is held.
func (p *post) begin() {
	p.up = true
	p.runs++
	how := p.home.random(p.runs, "broker") % 3
	for topic := range maps.Clone(p.retained) {
		older, has := p.older[topic]
		switch lot := p.home.random(p.runs, topic) % 10; {
		case how == 0, how == 1 && lot < 4, p.runs == 1:
		case how == 1 && lot < 8 && has:
			p.retained[topic] = older
		default:
			delete(p.retained, topic)
		}
	}
	at := p.home.tree.Hub(topics.HubAvailability)
	if m, ok := p.retained[at]; ok && !p.external {
		m.Payload = []byte(topics.Offline)
		p.retained[at] = m
	}
}

func (p *post) serve(u listener) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hub = u
	if p.external {
		ctx, cancel := context.WithCancel(context.Background())
		var calling sync.WaitGroup
		l := p.home.bus.(*hubLink)
		calling.Go(func() { l.reconnect(ctx, p, u) })
		p.hubQuit = func() { cancel(); calling.Wait() }
		return
	}
	for _, topic := range slices.Sorted(maps.Keys(p.retained)) {
		m := p.retained[topic]
		for _, f := range u.Filters() {
			if wire.Matches(f, topic) {
				u.Deliver(m)
				break
			}
		}
	}
	u.Connected()
}

func (p *post) close(end func(), how ending) {
	if p.external {
		p.closeExternal(end, how)
		return
	}
	if how == stopped {
		end()
	}
	p.mu.Lock()
	p.hub, p.up = nil, false
	p.hangUp(how)
	p.mu.Unlock()
	if how != stopped {
		end()
	}
}

// hangUp ends all connections as a broker does that ends. The mutex is held.
func (p *post) hangUp(how ending) {
	for _, id := range slices.Sorted(maps.Keys(p.callers)) {
		c := p.callers[id]
		delete(p.callers, id)
		notice := time.Millisecond
		switch {
		case how == unplugged || c.m != nil && p.in[c.m]:
			notice = keepAlive + client.DefaultTimeout
		case how == stopped: // they have what was on its way to them
			for _, l := range c.down.ways {
				notice = max(notice, time.Until(l.last)+time.Millisecond)
			}
		}
		if how != stopped {
			c.gone = true
		}
		c.later(notice, func() {
			c.gone = true
			c.lose(errors.New("the broker ended the connection"))
		})
	}
}

func (p *post) closeExternal(end func(), how ending) {
	l := p.home.bus.(*hubLink)
	if how != stopped {
		p.mu.Lock()
		if c := l.now; c != nil {
			if how == killed {
				c.disconnect(true)
			} else {
				c.later(keepAlive*3/2, func() { c.disconnect(true) })
			}
			c.lose(errors.New("killed"))
		}
		p.mu.Unlock()
	}
	end()
	p.mu.Lock()
	c := l.now
	p.hub = nil
	p.mu.Unlock()
	if how == stopped && c != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_ = c.Flush(ctx)
		cancel()
	}
	p.hubQuit()
}

// fail ends an external broker and restarts it.
func (p *post) fail() bool {
	if !p.external {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.up {
		return false
	}
	p.up = false
	p.hangUp([]ending{stopped, killed, unplugged}[p.home.random(p.runs, "fails")%3])
	p.cuts++
	p.at(time.Now().Add(time.Duration(p.home.random(p.runs, "fails for")%uint64(20*time.Second))), "broker", p.cuts, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.begin()
	})
	return true
}

func (p *post) stop() {
	close(p.quit)
	p.carrying.Wait()
}

func (p *post) publish(m topics.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.send(&p.stray, m, p.accept)
}

func (p *post) last(topic string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lastPayloads[topic]
}

func (p *post) reach(m *machine, o *agent.Options) {
	o.Connect = func(ctx context.Context, o client.Options) (agent.Conn, error) { return p.connect(ctx, m, o) }
}

// of are the connections of a machine. The mutex is held.
func (p *post) of(m *machine) []*clientConn {
	var all []*clientConn
	for _, id := range slices.Sorted(maps.Keys(p.callers)) {
		if c := p.callers[id]; c.m == m {
			all = append(all, c)
		}
	}
	return all
}

func (p *post) cut(m *machine, in, out bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.in[m], p.out[m] = p.in[m] || in, p.out[m] || out
	for _, c := range p.of(m) {
		c.torn++
		torn := c.torn
		notices := keepAlive + time.Duration(p.home.random(uint64(time.Now().UnixNano()), m.name, "notices")%uint64(client.DefaultTimeout))
		c.later(notices, func() {
			if c.torn != torn {
				return
			}
			c.lose(errors.New("nobody answers"))
			if !p.out[m] {
				c.disconnect(true)
			}
		})
		if out {
			c.later(keepAlive*3/2, func() {
				if c.torn == torn {
					c.disconnect(true)
				}
			})
		}
	}
}

func (p *post) restore(m *machine) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.in[m], p.out[m] = false, false
	for _, c := range p.of(m) {
		c.torn++
		if c.over { // its end was not reported
			c.later(time.Millisecond, func() { c.disconnect(true) })
		}
		for i, do := range c.held {
			p.at(time.Now(), c.name+" held", uint64(i), do)
		}
		c.held = nil
	}
}

func (p *post) reset(m *machine) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.of(m) {
		if p.out[m] {
			c.later(keepAlive*3/2, func() { c.disconnect(true) })
		} else {
			c.disconnect(true)
		}
		c.lose(errors.New("killed"))
	}
}
