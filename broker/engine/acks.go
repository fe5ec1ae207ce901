package engine

import "sync"

// ackOrder keeps acknowledgements in the order of what they acknowledge
// [MQTT-4.6.0-2, -3, -4] where some wait longer than what comes after them. It is
// empty while nothing of the connection is paced.
type ackOrder struct {
	mu    sync.Mutex
	slots []*ackSlot
	busy  bool // somebody takes out what is done
}

// ackSlot is the place of some acknowledgements.
type ackSlot struct {
	acks []ack
	err  error
	done bool
}

func (o *ackOrder) empty() bool {
	if o == nil {
		return true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.slots) == 0
}

// place takes the next place in the order of the connection's acknowledgements. The
// goroutine that reads calls it.
func (c *conn) place(acks []ack) *ackSlot {
	if c.order == nil {
		c.order = new(ackOrder)
	}
	return c.order.add(acks)
}

// add takes the next place.
func (o *ackOrder) add(acks []ack) *ackSlot {
	s := &ackSlot{acks: acks}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.slots = append(o.slots, s)
	return s
}

// finish notes that acknowledgements may be sent, and sends those that wait for
// none before them.
func (o *ackOrder) finish(c *conn, s *ackSlot, err error) {
	o.mu.Lock()
	s.done, s.err = true, err
	if o.busy {
		o.mu.Unlock()
		return
	}
	o.busy = true
	for len(o.slots) > 0 && o.slots[0].done {
		first := o.slots[0]
		o.mu.Unlock()
		c.acknowledge(first.acks, first.err)
		o.mu.Lock()
		o.slots[0] = nil
		o.slots = o.slots[1:] // after it: what comes meanwhile must not overtake it
	}
	if len(o.slots) == 0 {
		o.slots = nil
	}
	o.busy = false
	o.mu.Unlock()
}
