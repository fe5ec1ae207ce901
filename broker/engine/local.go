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

// inside hands messages to the subscribers within the program, in one order
// for all of them.
type inside struct {
	mu    sync.Mutex
	queue []heard
	busy  bool // a goroutine hands them over
}

// heard is a message for a subscriber, or a mark whose channel is closed when
// everything before it was handed over.
type heard struct {
	l      *local
	m      *message
	stored bool
	mark   chan struct{}
}

// Publish publishes a message of the program after all that it published
// before. It waits for no client. The payload must not be changed afterwards.
func (e *Engine) Publish(m topics.Message) {
	if !wire.ValidTopic(m.Topic) {
		e.log.Error("cannot publish: this is no topic", "topic", m.Topic)
		return
	}
	t := e.begin(nil)
	if !e.closed {
		t.publish(own(m), nil, nil)
	}
	t.end()
}

// Subscribe calls handler for each message that a filter matches: before it
// returns for those retained, with stored set, and from then on for each as it
// is published, with Retain as it was published. All handlers are called from
// one goroutine, one at a time, in the order of what is published. Until a
// handler returns messages gather in memory; it must not call Subscribe.
//
// stop ends the subscription. The handler may be called once more for what was
// published before.
func (e *Engine) Subscribe(filter string, handler func(m topics.Message, stored bool)) (stop func(), err error) {
	if group, _ := wire.Shared(filter); !wire.ValidFilter(filter) || group != "" {
		return nil, fmt.Errorf("cannot subscribe to %q: it is no topic filter", filter)
	}
	l := &local{handler: handler}
	s := &subscription{local: l, filter: filter}
	e.subscriptions.add(s)
	in := &e.inside
	for at := newCursor(filter); !at.done; {
		// A message is set and pushed under its topic's stripe, so one that is
		// read here comes after all pushes of those before it.
		in.mu.Lock()
		for _, m := range e.retained.next(&at, replayed, time.Now()) {
			in.queue = append(in.queue, heard{l: l, m: m, stored: true})
		}
		mark := make(chan struct{})
		in.queue = append(in.queue, heard{mark: mark})
		in.start(&e.running)
		in.mu.Unlock()
		<-mark
	}
	return sync.OnceFunc(func() { e.subscriptions.remove(s) }), nil
}

func (l *local) push(t *turn, m *message) {
	in := &t.e.inside
	in.mu.Lock()
	in.queue = append(in.queue, heard{l: l, m: m})
	in.mu.Unlock()
	t.inside = true
}

// wake has what is queued handed over.
func (in *inside) wake(running *sync.WaitGroup) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.start(running)
}

// start is called with the mutex held.
func (in *inside) start(running *sync.WaitGroup) {
	if in.busy || len(in.queue) == 0 {
		return
	}
	in.busy = true
	running.Go(func() {
		for {
			in.mu.Lock()
			all := in.queue
			in.queue = nil
			in.busy = len(all) > 0
			in.mu.Unlock()
			if len(all) == 0 {
				return
			}
			for _, h := range all {
				if h.mark != nil {
					close(h.mark)
					continue
				}
				h.l.handler(h.m.topics(), h.stored)
			}
		}
	})
}

// Retained calls each with every retained message, in the order of the topics,
// until it returns false.
func (e *Engine) Retained(each func(topics.Message) bool) {
	for at := newCursor("#"); !at.done; {
		for _, m := range e.retained.next(&at, replayed, time.Now()) {
			if !each(m.topics()) {
				return
			}
		}
	}
}

// replayed is how many retained messages are looked up at a time.
const replayed = 256
