package engine

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/broker/store"
)

// deferredMessages holds the retained messages that are published and not persisted
// yet, because the budget that pays for them is in debt: of each topic the newest
// only, in the order in which the topics were first deferred. Earlier messages of the
// topic that are not acknowledged are acknowledged with it. Engine.Close persists all
// of them.
//
// Its mutex is acquired after the stripe of a topic and before the budgets' mutexes.
type deferredMessages struct {
	mu      sync.Mutex
	byTopic map[string]*deferredMessage
	closed  bool
}

// deferredMessage is a retained message whose writing is deferred. It is guarded by
// the mutex of deferredMessages.
type deferredMessage struct {
	topic  string
	msg    *message
	budget *writeBudget
	// removed is set when the message was persisted otherwise.
	removed bool
	// done are called when it is persisted.
	done []func(error)
}

// deferInterval is the minimum time between two attempts to persist deferred messages.
const deferInterval = 10 * time.Second

// persist decides whether a retained message is persisted now. If so, it returns the
// callbacks that wait for an earlier message of the topic. If not, the message is
// deferred, and the callback that later returns is called when it is persisted. The
// caller holds the stripe of the topic.
func (p *deferredMessages) persist(b *writeBudget, m *message, later func() func(error)) (now bool, waiting []func(error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.byTopic[m.Topic]
	_, ok := b.trySpend(retainCost(m))
	if !ok && b.name == programBudget && len(m.Payload) == 0 {
		// The program clears a topic once only: after a kill the message must not
		// return. Clearing what was never persisted costs the store nothing.
		b.charge(retainCost(m))
		ok = true
	}
	if ok || p.closed {
		if d == nil {
			return true, nil
		}
		p.remove(d)
		return true, d.done
	}
	if d == nil {
		d = &deferredMessage{topic: m.Topic, budget: b}
		p.byTopic[m.Topic] = d
		b.deferMessage(d)
	}
	d.msg = m
	if later != nil {
		d.done = append(d.done, later())
	}
	return false, nil
}

// remove removes a message that need not wait any longer. The caller holds the mutex.
func (p *deferredMessages) remove(d *deferredMessage) {
	d.removed = true
	delete(p.byTopic, d.topic)
}

// drop discards the deferred message of a topic, and returns its callbacks. The caller
// holds the topic's stripe.
func (p *deferredMessages) drop(topic string) (waiting []func(error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.byTopic[topic]
	if d == nil {
		return nil
	}
	p.remove(d)
	return d.done
}

// deferMessage appends a message to the deferred ones.
func (b *writeBudget) deferMessage(d *deferredMessage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deferred = append(b.deferred, d)
	if b.timer == nil {
		b.timer = time.AfterFunc(deferInterval, b.persistDeferred)
	}
}

// nextDeferred removes and returns the oldest deferred message, if the budget covers
// it or all is set; nil: none.
func (b *writeBudget) nextDeferred(all bool) *deferredMessage {
	p := &b.e.deferred
	p.mu.Lock()
	defer p.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.deferred) > 0 && b.deferred[0].removed {
		b.deferred[0] = nil
		b.deferred = b.deferred[1:]
	}
	if len(b.deferred) == 0 {
		b.deferred = nil
		return nil
	}
	d := b.deferred[0]
	if _, ok := b.trySpendLocked(retainCost(d.msg)); !ok && !all {
		return nil
	}
	b.deferred[0] = nil
	b.deferred = b.deferred[1:]
	return d
}

// persistDeferred persists what the budget covers, and sets the timer for the rest.
func (b *writeBudget) persistDeferred() {
	b.persistQueue(false)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.timer = nil
	if len(b.deferred) > 0 {
		b.timer = time.AfterFunc(deferInterval, b.persistDeferred)
	}
}

// persistQueue persists deferred messages: those that the budget covers, or all of
// them.
func (b *writeBudget) persistQueue(all bool) {
	e := b.e
	for d := b.nextDeferred(all); d != nil; d = b.nextDeferred(all) {
		topic := d.topic
		stripe := &e.stripes[maphash.String(hashSeed, topic)%uint64(len(e.stripes))]
		stripe.Lock()
		e.deferred.mu.Lock()
		m, waiting, removed := d.msg, d.done, d.removed
		if !removed {
			e.deferred.remove(d)
		}
		e.deferred.mu.Unlock()
		if !removed {
			records := []store.Record{retainRecord(m)}
			e.store.Append(records, func(err error) {
				e.noteStoreResult(records, err)
				for _, done := range waiting {
					done(err)
				}
			})
		}
		stripe.Unlock()
	}
}

// persistAllDeferred persists all deferred messages, at the end of the engine.
func (e *Engine) persistAllDeferred() {
	e.deferred.mu.Lock()
	e.deferred.closed = true
	e.deferred.mu.Unlock()
	e.budgetsMu.Lock()
	defer e.budgetsMu.Unlock()
	for _, b := range e.budgets {
		b.persistQueue(true)
		b.mu.Lock()
		if b.timer != nil {
			b.timer.Stop()
		}
		b.mu.Unlock()
	}
}
