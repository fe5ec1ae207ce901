package engine

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/broker/store"
)

// paced holds the retained messages that are published and not persisted yet,
// because the account that pays for them is in debt: of each topic the newest
// alone, in the order in which the topics came. What was published of a topic
// before, and is not acknowledged, is acknowledged with it. The program's end
// persists all of them.
//
// Its mutex comes after the stripe of a topic and before the accounts' mutexes.
type paced struct {
	mu      sync.Mutex
	byTopic map[string]*heldTopic
	closed  bool
}

// heldTopic is a retained message that waits. Its fields are guarded by the
// mutex of paced.
type heldTopic struct {
	topic   string
	m       *message
	account *account
	gone    bool // it was persisted otherwise
	waiting []func(error)
}

// pacedEach is the time between two looks at what waits, at least.
const pacedEach = 10 * time.Second

// persist decides when a retained message is persisted: now, and returns what
// waits for that too, or later. Then it calls what later returns when it is. The
// caller holds the stripe of the topic.
func (p *paced) persist(a *account, m *message, later func() func(error)) (now bool, waiting []func(error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.byTopic[m.Topic]
	_, ok := a.spend(retainCost(m))
	if !ok && a.name == ownAccount && len(m.Payload) == 0 {
		// The program does not say again what it takes back: a kill must not bring
		// it back. What was never persisted costs the store nothing.
		a.charge(retainCost(m))
		ok = true
	}
	if ok || p.closed {
		if h == nil {
			return true, nil
		}
		p.remove(h)
		return true, h.waiting
	}
	if h == nil {
		h = &heldTopic{topic: m.Topic, account: a}
		p.byTopic[m.Topic] = h
		a.hold(h)
	}
	h.m = m
	if later != nil {
		h.waiting = append(h.waiting, later())
	}
	return false, nil
}

// remove takes out a message that need not wait any more. The caller holds the
// mutex.
func (p *paced) remove(h *heldTopic) {
	h.gone = true
	delete(p.byTopic, h.topic)
}

// drop forgets what waits of a topic. The caller holds its stripe.
func (p *paced) drop(topic string) (waiting []func(error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.byTopic[topic]
	if h == nil {
		return nil
	}
	p.remove(h)
	return h.waiting
}

// hold puts a message behind those that wait.
func (a *account) hold(h *heldTopic) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held = append(a.held, h)
	if a.timer == nil {
		a.timer = time.AfterFunc(pacedEach, a.persistHeld)
	}
}

// next takes the first of those that wait, if it can be paid for or all is
// persisted.
func (a *account) next(all bool) *heldTopic {
	p := &a.e.paced
	p.mu.Lock()
	defer p.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.held) > 0 && a.held[0].gone {
		a.held[0] = nil
		a.held = a.held[1:]
	}
	if len(a.held) == 0 {
		a.held = nil
		return nil
	}
	h := a.held[0]
	if _, ok := a.spendLocked(retainCost(h.m)); !ok && !all {
		return nil
	}
	a.held[0] = nil
	a.held = a.held[1:]
	return h
}

// persistHeld persists what can be paid for.
func (a *account) persistHeld() {
	a.persistSome(false)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.timer = nil
	if len(a.held) > 0 {
		a.timer = time.AfterFunc(pacedEach, a.persistHeld)
	}
}

func (a *account) persistSome(all bool) {
	e := a.e
	for h := a.next(all); h != nil; h = a.next(all) {
		topic := h.topic
		stripe := &e.stripes[maphash.String(seed, topic)%uint64(len(e.stripes))]
		stripe.Lock()
		e.paced.mu.Lock()
		m, waiting, gone := h.m, h.waiting, h.gone
		if !gone {
			e.paced.remove(h)
		}
		e.paced.mu.Unlock()
		if !gone {
			records := []store.Record{retainRecord(m)}
			e.store.Append(records, func(err error) {
				e.storeAnswered(records, err)
				for _, done := range waiting {
					done(err)
				}
			})
		}
		stripe.Unlock()
	}
}

// persistAll persists what waits, at the end.
func (e *Engine) persistAll() {
	e.paced.mu.Lock()
	e.paced.closed = true
	e.paced.mu.Unlock()
	e.accountsMu.Lock()
	defer e.accountsMu.Unlock()
	for _, a := range e.accounts {
		a.persistSome(true)
		a.mu.Lock()
		if a.timer != nil {
			a.timer.Stop()
		}
		a.mu.Unlock()
	}
}
