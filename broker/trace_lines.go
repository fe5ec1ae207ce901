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

// A trace is for a person: as much as one can read, and no more than has no effect on
// the broker.
const (
	// traceDuration is how long a trace runs unless it is requested again.
	traceDuration = time.Minute
	// maxTraces run at a time.
	maxTraces = 8
	// maxTraceLines a second; the number of omitted ones is published.
	maxTraceLines = 100
	// maxTracePayload is the number of bytes that are shown of a payload.
	maxTracePayload = 80
)

// traceSet holds the running traces.
type traceSet struct {
	mu sync.Mutex
	// all is keyed by the topics of the traces.
	all map[string]*trace
	// active is an immutable copy of all.
	active atomic.Pointer[map[string]*trace]
}

// trace is a running trace of a client, an address or a filter.
type trace struct {
	subject string
	wake    chan struct{}

	mu    sync.Mutex
	until time.Time
	lines []topics.TraceLine
	// linesSent and linesOmitted count within the current second.
	linesSent    int
	linesOmitted int
}

// Trace publishes at a topic what happens to the packets of a client or an address, or
// to those whose topic matches a filter, for traceDuration or until the topic has no
// subscriber. Another request extends it.
func (b *Broker) Trace(what, at string) error {
	b.traces.mu.Lock()
	defer b.traces.mu.Unlock()
	if what == "" {
		return errors.New("a trace needs a client identifier or a topic filter")
	}
	if strings.ContainsAny(what, "+#") && !wire.ValidFilter(what) {
		return fmt.Errorf("%.80q is not a valid topic filter: + matches one whole level, # all that follow", what)
	}
	until := time.Now().Add(traceDuration)
	if t := b.traces.all[at]; t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.subject != what {
			return fmt.Errorf("another trace is published at %s", at)
		}
		t.until = until
		return nil
	}
	select {
	case <-b.quit:
		return errors.New("the broker is stopping")
	default:
	}
	if len(b.traces.all) >= maxTraces {
		return fmt.Errorf("%d traces are running already", maxTraces)
	}
	t := &trace{subject: what, wake: make(chan struct{}, 1), until: until}
	if b.traces.all == nil {
		b.traces.all = make(map[string]*trace)
	}
	b.traces.all[at] = t
	b.tracesChanged()
	b.background.Go(func() { b.publishTrace(t, at) })
	b.log.Info("trace started", "of", truncate(what))
	return nil
}

// tracesChanged updates the copy of the traces, and whether the engine traces. The
// caller holds the mutex.
func (b *Broker) tracesChanged() {
	if len(b.traces.all) == 0 {
		b.engine.Trace(nil)
		return
	}
	now := make(map[string]*trace, len(b.traces.all))
	for at, t := range b.traces.all {
		now[at] = t
	}
	b.traces.active.Store(&now)
	b.engine.Trace(b.traceEvent)
}

// publishTrace publishes the lines of a trace until it ends.
func (b *Broker) publishTrace(t *trace, at string) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	defer func() {
		b.traces.mu.Lock()
		defer b.traces.mu.Unlock()
		delete(b.traces.all, at)
		b.tracesChanged()
	}()
	for {
		newSecond := false
		select {
		case <-b.quit:
			return
		case <-t.wake:
		case <-tick.C:
			newSecond = true
		}
		t.mu.Lock()
		lines := t.lines
		t.lines = nil
		over := time.Now().After(t.until)
		if newSecond {
			if t.linesOmitted > 0 {
				lines = append(lines, topics.TraceLine{At: topics.Time{Time: time.Now()}, LeftOut: t.linesOmitted})
			}
			t.linesSent, t.linesOmitted = 0, 0
		}
		t.mu.Unlock()
		for _, l := range lines {
			b.engine.Publish(topics.Message{Topic: at, Payload: topics.Encode(l)})
		}
		if over || newSecond && !b.engine.HasOnlineSubscriber(at) {
			return
		}
	}
}

// traceEvent passes a packet to the traces that match. It is called on the goroutine
// that handles the packet, and does not block.
func (b *Broker) traceEvent(p engine.TraceEvent) {
	if b.tree.IsTrace(p.Topic) {
		return // a trace of a trace would not end
	}
	for _, t := range *b.traces.active.Load() {
		if !t.matches(&p) {
			continue
		}
		t.mu.Lock()
		full := t.linesSent >= maxTraceLines
		if full {
			t.linesOmitted++
		} else {
			t.linesSent++
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

// matches reports whether a packet belongs to the client or its address, or to the
// topic.
func (t *trace) matches(p *engine.TraceEvent) bool {
	if p.Client.ID == t.subject || hostOf(p.Client.Remote) == t.subject {
		return true
	}
	if p.Kind == wire.Connect && p.Refused && (p.Client.ID == "" || t.subject == "#") {
		return true // its identifier is not known
	}
	if p.Topic == "" || !wire.ValidFilter(t.subject) {
		return false
	}
	if p.Kind != wire.Subscribe && p.Kind != wire.Unsubscribe {
		return wire.Matches(t.subject, p.Topic)
	}
	_, filter := wire.SplitShared(p.Topic)
	return filter == t.subject || wire.Matches(filter, t.subject) || wire.Matches(t.subject, filter)
}

// packetNames are indexed by packet type.
var packetNames = [...]string{
	"", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
	"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
}

// traceLine returns a packet as a line of a trace.
func (b *Broker) traceLine(p *engine.TraceEvent) topics.TraceLine {
	l := topics.TraceLine{
		At: topics.Time{Time: time.Now()}, Client: p.Client.ID, User: p.Client.User, Remote: p.Client.Remote,
		QoS: int(p.QoS), Dup: p.Dup, Retain: p.Retain, PacketID: int(p.ID), Topic: p.Topic,
		Size: p.Size, Code: int(p.Code), Note: p.Detail, Payload: excerpt(p.Payload),
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
	if p.Dropped {
		l.Result = "dropped"
	} else if p.Refused {
		l.Result = "refused"
		if p.Kind != wire.Connack && p.Kind != wire.Connect {
			if d := b.decide(p.Client, p.Action, p.Topic); !d.Allowed {
				l.By = d.By
			}
		}
	}
	return l
}

// excerpt returns the beginning of a payload, with everything that is not text
// escaped.
func excerpt(payload []byte) string {
	cut := len(payload) > maxTracePayload
	quoted := strconv.Quote(string(payload[:min(len(payload), maxTracePayload)]))
	quoted = strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
	if cut {
		quoted += "…"
	}
	return quoted
}
