package e2e

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// follower is an agent as the hub meets it: it joins, beats, tells its status
// and obeys at once, and has neither a machine nor a process. It comes by a TCP
// connection from an address of its own, as an agent on another machine does.
type follower struct {
	crowd                     *crowd
	name, id, session, source string
	traits                    []string
	catalog                   []topics.CatalogRow
	// adopted is what it has if it was adopted; nil: it has no key.
	adopted *followerKey

	mu                sync.Mutex
	line              *line // nil: not joined
	silent            bool  // its cable is out: it says nothing, and its connection stays
	seq               uint64
	packetID          uint16
	hub               string               // the word at hub/availability, of this connection
	hubEpoch          uint64               // of hub/status, of this connection
	epoch, generation uint64               // of the start command it took
	held              *topics.StartCommand // retained, of a hub that is not there
	runs              map[string]topics.Instance
}

// The times of an agent: how long it waits for an answer, how often it asks
// again, and the longest time between two tries.
const (
	followerPatience = 3 * time.Second
	followerAgain    = 500 * time.Millisecond
	followerRetry    = time.Second
	followerStay     = 5 * time.Second
)

// backoff is that of the agent: 100 ms, doubling, up to a half of it less.
func backoff(attempt int) time.Duration {
	d := min(followerRetry, 100*time.Millisecond<<min(attempt, 5))
	return d - rand.N(d/2)
}

func (f *follower) run(ctx context.Context) {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		if attempt > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(backoff(attempt - 1)):
			}
		}
		if f.ask() != nil {
			continue
		}
		joined := time.Now()
		f.stay()
		if time.Since(joined) > followerStay {
			attempt = -1
		}
	}
}

// dial connects; a will of no words is none.
func (f *follower) dial(clientID, will string) (*line, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(f.source)}, Timeout: followerPatience}
	conn, err := d.Dial("tcp", f.crowd.address)
	if err != nil {
		return nil, err
	}
	l := &line{conn: conn, in: bufio.NewReaderSize(conn, 2048), version: 4}
	flags, body := byte(0x02), []byte(nil)
	if will != "" {
		flags, body = 0x2E, append(text(will), text(topics.Offline)...) // retained, QoS 1
	}
	l.send(0x10, append(append(append(text("MQTT"), 4, flags, 0, 5), text(clientID)...), body...))
	p, err := l.read(followerPatience)
	if err == nil && (p.kind != kindConnack || p.code != 0) {
		err = fmt.Errorf("CONNECT of %s is answered by %+v", clientID, p)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return l, nil
}

// ask asks for admission, as an agent does before it connects with its will.
func (f *follower) ask() error {
	l, err := f.dial("domain-"+f.id+"-join", "")
	if err != nil {
		return err
	}
	defer l.leave()
	request, _ := f.crowd.tree.Request(topics.VerbJoin)
	response := f.crowd.tree.Topic(topics.Address{Kind: topics.ResponseTo, Verb: topics.VerbJoin, Domain: f.name})
	if err := l.subscribe(response, 1); err != nil {
		return err
	}
	transaction := f.transaction()
	question, err := f.question(topics.HubRequest{
		Transaction: transaction, Response: response, ID: f.id, Name: f.name, Session: f.session, Protocol: topics.Protocol, Address: f.source,
	})
	if err != nil {
		return err
	}
	deadline, again := time.Now().Add(followerPatience), time.Now()
	for id := uint16(2); time.Now().Before(deadline); {
		if !time.Now().Before(again) {
			l.publish(2, id, request, string(question))
			id, again = id+1, time.Now().Add(followerAgain)
		}
		p, err := l.read(max(time.Until(again), time.Millisecond))
		if timeout, is := err.(net.Error); is && timeout.Timeout() {
			continue
		}
		switch {
		case err != nil:
			return err
		case p.kind != kindPublish:
			continue
		case p.qos() == 1:
			l.answer(kindPuback, p.id)
		}
		f.crowd.answers.Add(1)
		if !strings.Contains(p.payload, transaction) {
			continue // another's
		}
		reply, err := topics.Decode[topics.Reply](p.topic, []byte(p.payload))
		if err != nil || reply.Status != topics.StatusOK {
			f.crowd.refused.Add(1)
			return fmt.Errorf("refused: %s: %w", reply.Error, err)
		}
		return f.granted(reply)
	}
	return fmt.Errorf("nobody answers %s", f.name)
}

// stay connects with the will and remains until the connection is over.
func (f *follower) stay() {
	t := f.crowd.tree
	l, err := f.dial("domain-"+f.id, t.Domain(topics.DomainAvailability, f.name))
	if err != nil {
		return
	}
	defer l.conn.Close()
	filters := t.AgentFilters(f.name)
	for i, filter := range filters {
		l.send(0x82, append(append([]byte{0, byte(i + 1)}, text(filter)...), 1))
	}
	f.mu.Lock()
	f.hub, f.hubEpoch, f.held = "", 0, nil
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.line = nil
	}()
	for subscribed := 0; ; {
		p, err := l.read(time.Hour)
		switch {
		case err != nil:
			return
		case p.kind == kindSuback:
			if subscribed++; subscribed == len(filters) {
				f.join(l)
			}
		case p.kind == kindPublish:
			if p.qos() == 1 {
				l.answer(kindPuback, p.id)
			}
			f.crowd.heard.Add(1)
			f.hear(p)
		}
	}
}

// join says all there is to say.
func (f *follower) join(l *line) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.line = l
	f.confirm()
	f.say(topics.DomainAvailability, []byte(topics.Online))
	f.sayStatus()
	f.beat()
	f.measure()
}

// say publishes at a topic of the domain. The mutex is held.
func (f *follower) say(k topics.Kind, payload []byte) {
	if f.line == nil || f.silent {
		return
	}
	m := f.crowd.tree.Message(topics.Address{Kind: k, Domain: f.name}, payload)
	flags := m.QoS << 1
	if m.Retain {
		flags |= 1
	}
	f.packetID = f.packetID%60_000 + 1
	f.line.publish(flags, f.packetID+100, m.Topic, string(m.Payload))
}

func (f *follower) sayStatus() {
	s := topics.Domain{
		ID: f.id, Name: f.name, Version: version, Protocol: topics.Protocol, OS: "linux", Arch: "arm64",
		Address: f.source, Addresses: []string{f.source}, Traits: f.traits, StartedAt: topics.At(f.crowd.began),
		Services: slices.SortedFunc(maps.Values(f.runs), func(a, b topics.Instance) int { return cmp.Compare(a.Service, b.Service) }),
		Catalog:  f.catalog,
	}
	if k := f.adopted; k != nil {
		k.statuses++
		s.Session, s.Seq = f.session, k.statuses
	}
	f.say(topics.DomainStatus, f.sign(topics.DomainStatus, topics.Encode(s)))
}

// beat is the heartbeat of each second.
func (f *follower) beat() {
	f.seq++
	now := time.Now()
	b := topics.Heartbeat{
		ID: f.id, Session: f.session, Seq: f.seq, At: topics.At(now),
		Uptime: topics.Seconds(now.Sub(f.crowd.began)), Epoch: f.epoch, Generation: f.generation,
	}
	if k := f.adopted; k != nil { // as an agent: the hub verifies the status beside its loop, after the heartbeat
		b.Status = k.statuses
	}
	f.say(topics.DomainHeartbeat, f.withMAC(topics.DomainHeartbeat, topics.Encode(b)))
}

// measure is the metrics of each half minute; they differ each time.
func (f *follower) measure() {
	warm := 40 + float64(f.seq%10)
	m := topics.Metrics{
		At: topics.At(time.Now()), Load1: float64(f.seq%100) / 100, MemoryUsed: 1<<30 + f.seq<<12, MemoryTotal: 4 << 30,
		Cores: 4, DiskFree: 8<<30 - f.seq<<12, Temperature: &warm, Services: map[string]topics.Usage{},
	}
	for name := range f.runs {
		m.Services[name] = topics.Usage{CPU: float64(f.seq%7) / 100, Memory: 20<<20 + f.seq<<12}
	}
	if k := f.adopted; k != nil {
		k.measured++
		m.Seq = k.measured
	}
	f.say(topics.DomainMetrics, f.withMAC(topics.DomainMetrics, topics.Encode(m)))
}

// hear takes a message of the broker.
func (f *follower) hear(p packet) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.silent {
		return
	}
	switch t := f.crowd.tree; p.topic {
	case t.Hub(topics.HubAvailability):
		f.hub = p.payload
		f.release()
	case t.Hub(topics.HubStatus):
		f.hubEpoch = f.crowd.epochOf(p.payload)
		f.release()
	case t.Domain(topics.DomainAvailability, f.name):
		if p.payload == topics.Offline && !p.retain() {
			f.say(topics.DomainAvailability, []byte(topics.Online))
		}
	case t.Domain(topics.DomainServicesSet, f.name):
		c, err := topics.Decode[topics.StartCommand](p.topic, []byte(p.payload))
		if err != nil || len(p.payload) == 0 {
			return
		}
		if f.held = nil; p.retain() {
			f.held = &c
			f.release()
			return
		}
		f.obey(c)
	}
}

// release obeys a retained start command once its hub is known to be there.
func (f *follower) release() {
	if c := f.held; c != nil && f.hub == topics.Online && f.hubEpoch == c.Epoch {
		f.held = nil
		f.obey(*c)
	}
}

// obey does what a start command says, at once.
func (f *follower) obey(c topics.StartCommand) {
	older := c.Epoch < f.epoch || c.Epoch == f.epoch && c.Generation < f.generation
	if c.Domain != f.id || older {
		f.crowd.ignored.Add(1)
		return
	}
	if c.Epoch == f.epoch && c.Generation == f.generation {
		return
	}
	f.crowd.orders.Add(1)
	f.epoch, f.generation = c.Epoch, c.Generation
	now := time.Now()
	changed := false
	for name := range f.runs {
		if _, stays := c.Services[name]; !stays {
			delete(f.runs, name)
			changed = true
			f.crowd.deeds.add(deed{now, "stop", name, f.name})
		}
	}
	for name, spec := range c.Services {
		i, runs := f.runs[name]
		if runs && i.Revision == spec.Revision {
			continue
		}
		changed = true
		f.runs[name] = topics.Instance{
			Service: name, State: topics.Running, Health: topics.Healthy, Version: "1.0.0", Revision: spec.Revision,
			Port: 20000 + len(f.runs), PID: 1000 + len(f.runs), Since: topics.At(now),
		}
		f.crowd.deeds.add(deed{now, "start", name, f.name})
	}
	if changed {
		f.sayStatus()
	}
	f.beat()
}
