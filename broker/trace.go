package broker

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

// A trace is for a person who looks for what is wrong: as much of it as one can
// read, and no more than the broker does not feel.
const (
	traceTime    = time.Minute // without being asked again
	tracesMost   = 8           // at a time
	traceLines   = 100         // a second; of more it is told how many
	tracePayload = 80          // bytes of a payload
)

// traces are the traces that go on.
type traces struct {
	mu  sync.Mutex
	all map[string]*trace                 // by their topics
	now atomic.Pointer[map[string]*trace] // the same, not changed any more
}

type trace struct {
	what string
	wake chan struct{}

	mu    sync.Mutex
	until time.Time
	lines []topics.TraceLine
	said  int // in this second
	left  int // out, in this second
}

// Trace publishes at a topic what becomes of the packets of a client or an
// address, or of those with a topic that a filter matches, for a minute or until nobody hears
// it any more. Asked again it goes on.
func (b *Broker) Trace(what, at string) error {
	b.traces.mu.Lock()
	defer b.traces.mu.Unlock()
	if what == "" {
		return errors.New("a trace needs a client identifier or a topic filter")
	}
	if strings.ContainsAny(what, "+#") && !wire.ValidFilter(what) {
		return fmt.Errorf("%.80q matches no topic: + stands for one whole level, # for all that follows", what)
	}
	until := time.Now().Add(traceTime)
	if t := b.traces.all[at]; t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.what != what {
			return fmt.Errorf("another trace is told at %s", at)
		}
		t.until = until
		return nil
	}
	select {
	case <-b.quit:
		return errors.New("the broker stops")
	default:
	}
	if len(b.traces.all) >= tracesMost {
		return fmt.Errorf("%d traces go on already", tracesMost)
	}
	t := &trace{what: what, wake: make(chan struct{}, 1), until: until}
	if b.traces.all == nil {
		b.traces.all = make(map[string]*trace)
	}
	b.traces.all[at] = t
	b.tracesChanged()
	b.around.Go(func() { b.tell(t, at) })
	b.log.Info("trace begun", "of", short(what))
	return nil
}

// tracesChanged is called with the mutex held.
func (b *Broker) tracesChanged() {
	if len(b.traces.all) == 0 {
		b.engine.Trace(nil)
		return
	}
	now := make(map[string]*trace, len(b.traces.all))
	for at, t := range b.traces.all {
		now[at] = t
	}
	b.traces.now.Store(&now)
	b.engine.Trace(b.see)
}

// tell publishes the lines of a trace until it is over.
func (b *Broker) tell(t *trace, at string) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	defer func() {
		b.traces.mu.Lock()
		defer b.traces.mu.Unlock()
		delete(b.traces.all, at)
		b.tracesChanged()
	}()
	for {
		second := false
		select {
		case <-b.quit:
			return
		case <-t.wake:
		case <-tick.C:
			second = true
		}
		t.mu.Lock()
		lines := t.lines
		t.lines = nil
		over := time.Now().After(t.until)
		if second {
			if t.left > 0 {
				lines = append(lines, topics.TraceLine{At: topics.Time{Time: time.Now()}, LeftOut: t.left})
			}
			t.said, t.left = 0, 0
		}
		t.mu.Unlock()
		for _, l := range lines {
			b.engine.Publish(topics.Message{Topic: at, Payload: topics.Encode(l)})
		}
		if over || second && !b.engine.HasOnlineSubscriber(at) {
			return
		}
	}
}

// see hands a packet to the traces that want it. It is called by whoever
// handles the packet, and waits for nobody.
func (b *Broker) see(p engine.TraceEvent) {
	if b.tree.IsTrace(p.Topic) {
		return // of itself there would be no end
	}
	for _, t := range *b.traces.now.Load() {
		if !t.wants(&p) {
			continue
		}
		t.mu.Lock()
		full := t.said >= traceLines
		if full {
			t.left++
		} else {
			t.said++
			t.lines = append(t.lines, b.traceLine(&p))
		}
		t.mu.Unlock()
		if !full {
			select {
			case t.wake <- struct{}{}:
			default:
			}
		}
	}
}

// wants tells whether a packet is of the client or its address, or of the topic.
func (t *trace) wants(p *engine.TraceEvent) bool {
	if p.Client.ID == t.what || hostOf(p.Client.Remote) == t.what {
		return true
	}
	if p.Kind == wire.Connect && p.Refused && (p.Client.ID == "" || t.what == "#") {
		return true // of somebody whose identifier nobody can know
	}
	if p.Topic == "" || !wire.ValidFilter(t.what) {
		return false
	}
	if p.Kind != wire.Subscribe && p.Kind != wire.Unsubscribe {
		return wire.Matches(t.what, p.Topic)
	}
	_, filter := wire.Shared(p.Topic)
	return filter == t.what || wire.Matches(filter, t.what) || wire.Matches(t.what, filter)
}

var packetNames = [...]string{
	"", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
	"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
}

func (b *Broker) traceLine(p *engine.TraceEvent) topics.TraceLine {
	l := topics.TraceLine{
		At: topics.Time{Time: time.Now()}, Client: p.Client.ID, User: p.Client.User, Remote: p.Client.Remote,
		QoS: int(p.QoS), Dup: p.Dup, Retain: p.Retain, PacketID: int(p.ID), Topic: p.Topic,
		Size: p.Size, Code: int(p.Code), Note: p.Detail, Payload: start(p.Payload),
	}
	if int(p.Kind) < len(packetNames) {
		l.Packet = packetNames[p.Kind]
	}
	if p.Kind != 0 {
		l.Direction = "in"
		if p.Out {
			l.Direction = "out"
		}
	}
	switch {
	case p.Dropped:
		l.Result = "dropped"
	case p.Refused:
		l.Result = "refused"
		if p.Kind == wire.Connack || p.Kind == wire.Connect {
			break
		}
		if d := b.decide(p.Client, p.Action, p.Topic); !d.Allowed {
			l.By = d.By
		}
	}
	return l
}

// start is the beginning of a payload, with what is no text escaped.
func start(payload []byte) string {
	cut := len(payload) > tracePayload
	quoted := strconv.Quote(string(payload[:min(len(payload), tracePayload)]))
	quoted = strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
	if cut {
		quoted += "…"
	}
	return quoted
}
