package client

import (
	"time"

	"github.com/jmbarzee/dominion/broker/wire"
)

// maxInflight bounds what is sent and not acknowledged; it also keeps the connection
// from running out of packet identifiers.
const maxInflight = 1 << 10

// inflightItem is a queueItem that was sent or refused, and whose turn to complete has
// not come.
type inflightItem struct {
	// id is the packet identifier; 0: the item needs no acknowledgement.
	id uint16
	// complete is set when it is acknowledged, refused or, without an identifier,
	// written.
	complete bool
	refused  *Refusal
	item     queueItem
}

// inflight holds the items that are not complete, oldest first: messages of QoS 1,
// those that somebody waits for, and barriers.
type inflight struct {
	items []inflightItem
	// removed counts the items that were removed.
	removed int
	// window is how many messages of QoS 1 may be unacknowledged, fullWindow the same
	// after EndSequential, and unacked how many are.
	window, fullWindow, unacked int
	// progressed is when the oldest message of QoS 1 began to wait.
	progressed time.Time
	// blocked is set when the writer waits for the window.
	blocked bool
	// completing is set while a goroutine completes items.
	completing bool
}

// setWindow limits the unacknowledged messages to what the options and the broker
// (Receive Maximum) allow.
func (f *inflight) setWindow(o Options, receiveMaximum int) {
	f.fullWindow = maxInflight
	for _, limit := range []int{o.Window, receiveMaximum} {
		if limit > 0 {
			f.fullWindow = min(f.fullWindow, limit)
		}
	}
	f.window = f.fullWindow
	if o.Sequential {
		f.window = 1
	}
}

// full reports whether an item must wait for acknowledgements.
func (f *inflight) full(qos byte) bool {
	f.blocked = len(f.items) >= maxInflight || qos > 0 && f.unacked >= f.window
	return f.blocked
}

// add appends an item.
func (f *inflight) add(it inflightItem, now time.Time) {
	if it.id != 0 {
		if f.unacked == 0 {
			f.progressed = now
		}
		f.unacked++
	}
	f.items = append(f.items, it)
}

// end returns the position behind the last item, for written.
func (f *inflight) end() int { return f.removed + len(f.items) }

// written completes the items from a position on that need no acknowledgement.
func (f *inflight) written(from int) {
	for i := max(0, from-f.removed); i < len(f.items); i++ {
		if it := &f.items[i]; it.id == 0 {
			it.complete = true
		}
	}
}

// acknowledge completes the message with a packet identifier. Brokers acknowledge in
// order, for the most part.
func (f *inflight) acknowledge(id uint16, refused *Refusal) {
	for i := range f.items {
		if it := &f.items[i]; it.id == id && !it.complete {
			it.complete, it.refused = true, refused
			return
		}
	}
}

// next removes and returns the oldest item, if it is complete.
func (f *inflight) next() (it inflightItem, ok bool) {
	if len(f.items) == 0 || !f.items[0].complete {
		return it, false
	}
	it = f.items[0]
	f.items[0] = inflightItem{}
	f.items = f.items[1:]
	f.removed++
	if it.id != 0 {
		f.unacked--
		f.progressed = time.Now()
	}
	return it, true
}

// nextID returns a packet identifier that is not in use: those of messages are the last
// maxInflight, or not much older. The caller holds mu.
func (c *Conn) nextID() uint16 {
	for {
		c.state.lastID++
		id := c.state.lastID
		if _, used := c.state.requests[id]; id != 0 && !used {
			return id
		}
	}
}

// acknowledged handles a PUBACK.
func (c *Conn) acknowledged(a wire.ServerAck) {
	var refused *Refusal
	if code := a.Codes[0]; code >= wire.Unspecified {
		refused = &Refusal{Reason: wire.DescribeReason(code, a.Reason), Code: code}
	}
	c.mu.Lock()
	c.state.inflight.acknowledge(a.PacketID, refused)
	c.mu.Unlock()
	c.complete()
}

// complete completes what can be, in the order of publishing. Two goroutines call it;
// what one finds while the other is at it is left to the other.
func (c *Conn) complete() {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := &c.state.inflight
	if f.completing {
		return
	}
	f.completing = true
	defer func() { f.completing = false }()
	for !c.hasFailed() {
		it, ok := f.next()
		if !ok {
			return
		}
		if f.blocked {
			f.blocked = false
			c.wakeWriter()
		}
		c.mu.Unlock()
		c.finish(it)
		c.mu.Lock()
	}
}

// finish reports the completion of an item to who waits for it.
func (c *Conn) finish(it inflightItem) {
	switch {
	case it.item.barrier != nil:
		close(it.item.barrier)
	case it.item.done != nil:
		it.item.done(it.refused)
	case it.refused != nil:
		c.reportRefused(it.item.message, it.refused)
	}
}

// EndSequential ends Options.Sequential.
func (c *Conn) EndSequential() {
	c.mu.Lock()
	c.state.inflight.window = c.state.inflight.fullWindow
	c.mu.Unlock()
	c.wakeWriter()
}

// Unacknowledged returns how many messages of QoS 1 were sent and are not
// acknowledged.
func (c *Conn) Unacknowledged() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.inflight.unacked
}
