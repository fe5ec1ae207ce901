package simulation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/agent"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

// clientConn is a connection of a client: an agent's, or the hub's to a broker that
// is not its own.
type clientConn struct {
	*post
	id, name  string
	m         *machine // nil: no cable of it is ever out
	will      *topics.Message
	onMessage func(topics.Message)
	up, down  way

	torn    int // times that the cable was cut and mended
	filters []string
	held    []func() // what waits for the cable, in order
	gone    bool     // for the broker
	over    bool     // for the client
	err     error
	done    chan struct{}
}

var errRefused = errors.New("connection refused")

// connect begins a connection of a machine.
func (p *post) connect(ctx context.Context, m *machine, o client.Options) (agent.Conn, error) {
	handshake := time.NewTimer(p.delay(uint64(time.Now().UnixNano()), m.name, "connect"))
	defer handshake.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-handshake.C:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// Of a hub that is down nobody answers, for the most part: weeks of refusals
	// by the second would tell no more and take as long as all the rest.
	if p.in[m] || p.out[m] || !p.up && p.home.random(uint64(time.Now().UnixNano()), m.name, "refused")%8 > 0 {
		p.mu.Unlock()
		timeout := time.NewTimer(client.DefaultTimeout)
		defer timeout.Stop()
		select {
		case <-ctx.Done():
		case <-timeout.C:
		}
		p.mu.Lock()
		return nil, context.DeadlineExceeded
	}
	if !p.up {
		return nil, errRefused
	}
	return p.take(o.ClientID, m, o.Will, o.OnMessage), nil
}

// take lets a client in, in place of the one that had its id. The mutex is held.
func (p *post) take(id string, m *machine, will *topics.Message, onMessage func(topics.Message)) *clientConn {
	if was := p.callers[id]; was != nil {
		was.disconnect(true) // [MQTT-3.1.4-2]
		was.lose(errors.New("taken over"))
	}
	c := &clientConn{post: p, id: id, name: "hub", m: m, will: will, onMessage: onMessage, done: make(chan struct{})}
	if m != nil {
		c.name = m.name // ids are random
	}
	p.calls[c.name]++ // another connection has other luck
	c.name = fmt.Sprint(c.name, " ", p.calls[c.name])
	c.up.name, c.down.name = c.name+" up", c.name+" down"
	p.callers[id] = c
	return c
}

// pass lets something through the cable, now or when it is back. The mutex is
// not held.
func (c *clientConn) pass(blocked func() bool, do func()) {
	c.mu.Lock()
	if c.m != nil && blocked() && !c.gone && !c.over {
		c.held = append(c.held, do)
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	do()
}

func (c *clientConn) Publish(m topics.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	c.send(&c.up, c.machineClock(m), func(m topics.Message) {
		c.pass(func() bool { return c.out[c.m] }, func() {
			if !c.ended() {
				c.accept(m)
			}
		})
	})
}

// ended reports whether it is over for either end. The mutex is not held.
func (c *clientConn) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over || c.gone
}

// machineClock makes the times in a message those of the machine's clock, which
// may be anything: no decision may rest on it.
func (c *clientConn) machineClock(m topics.Message) topics.Message {
	if c.m != nil {
		m.Payload = shifted(m.Payload, time.Duration(c.m.clock.Load()))
	}
	return m
}

// offer is the broker, which has a message for who subscribed to it. The mutex
// is held.
func (c *clientConn) offer(m topics.Message) {
	for _, f := range c.filters {
		if wire.Matches(f, m.Topic) {
			c.hand(m)
			return
		}
	}
}

func (c *clientConn) hand(m topics.Message) {
	c.send(&c.down, m, func(m topics.Message) {
		c.pass(func() bool { return c.in[c.m] }, func() {
			if !c.ended() {
				c.onMessage(m)
			}
		})
	})
}

func (c *clientConn) Subscribe(ctx context.Context, filters ...string) error {
	c.mu.Lock()
	if c.over {
		c.mu.Unlock()
		return errors.New("the connection is over")
	}
	for _, f := range filters {
		if slices.Contains(c.filters, f) {
			continue
		}
		c.filters = append(c.filters, f)
		for _, topic := range slices.Sorted(maps.Keys(c.retained)) {
			if m := c.retained[topic]; wire.Matches(f, topic) {
				c.hand(m)
			}
		}
	}
	c.mu.Unlock()
	return c.Flush(ctx)
}

func (c *clientConn) Unsubscribe(filters ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.filters = slices.DeleteFunc(c.filters, func(f string) bool { return slices.Contains(filters, f) })
}

// Flush waits until the broker has got all.
func (c *clientConn) Flush(ctx context.Context) error {
	c.mu.Lock()
	last := time.Now()
	for _, l := range c.up.ways {
		if l.last.After(last) {
			last = l.last
		}
	}
	mark := make(chan struct{})
	c.at(last.Add(time.Millisecond), c.up.name+" flush", 0, func() {
		c.pass(func() bool { return c.in[c.m] || c.out[c.m] }, func() { close(mark) })
	})
	c.mu.Unlock()
	select {
	case <-mark:
		return nil
	case <-c.done:
		return errors.New("the connection is over")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *clientConn) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), client.DefaultTimeout)
	defer cancel()
	_ = c.Flush(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.out[c.m] {
		c.disconnect(false)
	} else {
		c.later(keepAlive*3/2, func() { c.disconnect(true) })
	}
	c.lose(nil)
}

func (c *clientConn) Done() <-chan struct{} { return c.done }

func (c *clientConn) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

const keepAlive = client.DefaultKeepAlive

// later lets something happen with the mutex held.
func (c *clientConn) later(d time.Duration, do func()) {
	c.cuts++
	c.at(time.Now().Add(d), c.up.name+" later", c.cuts, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		do()
	})
}

// disconnect ends the connection for the broker, with its will or without. The mutex
// is held.
func (c *clientConn) disconnect(willed bool) {
	if c.gone {
		return
	}
	c.gone = true
	if c.callers[c.id] == c {
		delete(c.callers, c.id)
	}
	if willed && c.will != nil && c.post.up {
		c.send(&way{name: c.name + " will"}, *c.will, c.accept)
	}
}

// lose ends the connection for the client. The mutex is held.
func (c *clientConn) lose(err error) {
	if !c.over {
		c.over, c.err = true, err
		close(c.done)
	}
}

var moments = regexp.MustCompile(`"\d{4}-\d\d-\d\dT[0-9:.]+Z"`)

// shifted moves each moment in a payload.
func shifted(payload []byte, by time.Duration) []byte {
	if by == 0 {
		return payload
	}
	return moments.ReplaceAllFunc(payload, func(b []byte) []byte {
		at, err := time.Parse(`"`+time.RFC3339Nano+`"`, string(b))
		if err != nil {
			return b
		}
		return at.Add(by).AppendFormat(nil, `"2006-01-02T15:04:05.000Z"`)
	})
}
