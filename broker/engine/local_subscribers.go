package engine

import (
	"fmt"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

// local is a subscriber within the program.
type local struct {
	handler func(m topics.Message, stored bool)
}

// localQueue passes messages to the subscribers within the program, in one order for
// all of them.
type localQueue struct {
	mu    sync.Mutex
	queue []localDelivery
	// delivering is set while a goroutine passes messages on.
	delivering bool
}

// localDelivery is a message for a local subscriber, or a barrier: a channel that is
// closed when everything before it was delivered.
type localDelivery struct {
	subscriber *local
	msg        *message
	stored     bool
	barrier    chan struct{}
}

// Publish publishes a message of the program, in the order of the calls. It does not
// wait for clients. The payload must not be changed afterwards.
func (e *Engine) Publish(m topics.Message) {
	if !wire.ValidTopic(m.Topic) {
		e.log.Error("cannot publish: the topic is not valid", "topic", m.Topic)
		return
	}
	b := e.beginBatch(nil)
	if !e.closed {
		b.publish(messageFromProgram(m), nil, nil)
	}
	b.end()
}

// Subscribe calls handler for each message that matches filter: before it returns for
// those that are retained, with stored set, and from then on for each that is
// published, with Retain as published. All handlers are called from one goroutine, one
// at a time, in the order of publishing. While a handler runs, messages accumulate in
// memory; it must not call Subscribe.
//
// stop ends the subscription. The handler may still be called for a message that was
// published before.
func (e *Engine) Subscribe(filter string, handler func(m topics.Message, stored bool)) (stop func(), err error) {
	if group, _ := wire.SplitShared(filter); !wire.ValidFilter(filter) || group != "" {
		return nil, fmt.Errorf("cannot subscribe to %q: it is not a valid topic filter", filter)
	}
	l := &local{handler: handler}
	s := &subscription{local: l, filter: filter}
	e.subscriptions.add(s)
	in := &e.locals
	for at := newCursor(filter); !at.done; {
		// A message is retained and pushed under its topic's stripe. So one that is
		// read here comes after the pushes of all earlier ones.
		in.mu.Lock()
		for _, m := range e.retained.next(&at, replayBatch, time.Now()) {
			in.queue = append(in.queue, localDelivery{subscriber: l, msg: m, stored: true})
		}
		barrier := make(chan struct{})
		in.queue = append(in.queue, localDelivery{barrier: barrier})
		in.start(&e.running)
		in.mu.Unlock()
		<-barrier
	}
	return sync.OnceFunc(func() { e.subscriptions.remove(s) }), nil
}

// push queues a message for the subscriber. It is delivered when the batch ends.
func (l *local) push(b *batch, m *message) {
	in := &b.e.locals
	in.mu.Lock()
	in.queue = append(in.queue, localDelivery{subscriber: l, msg: m})
	in.mu.Unlock()
	b.localsQueued = true
}

// wake has the queue delivered.
func (in *localQueue) wake(running *sync.WaitGroup) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.start(running)
}

// start starts the delivering goroutine if necessary. The caller holds the mutex.
func (in *localQueue) start(running *sync.WaitGroup) {
	if in.delivering || len(in.queue) == 0 {
		return
	}
	in.delivering = true
	running.Go(func() {
		for {
			in.mu.Lock()
			all := in.queue
			in.queue = nil
			in.delivering = len(all) > 0
			in.mu.Unlock()
			if len(all) == 0 {
				return
			}
			for _, h := range all {
				if h.barrier != nil {
					close(h.barrier)
					continue
				}
				h.subscriber.handler(h.msg.topics(), h.stored)
			}
		}
	})
}

// Retained calls each with every retained message in the order of their topics, until
// it returns false.
func (e *Engine) Retained(each func(topics.Message) bool) {
	for at := newCursor("#"); !at.done; {
		for _, m := range e.retained.next(&at, replayBatch, time.Now()) {
			if !each(m.topics()) {
				return
			}
		}
	}
}

// replayBatch is how many retained messages are looked up at a time.
const replayBatch = 256
