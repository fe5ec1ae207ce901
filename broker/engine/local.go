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
	e       *Engine
	handler func(m topics.Message, stored bool)

	mu    sync.Mutex
	queue []heard
	busy  bool // somebody hands them over
}

type heard struct {
	m      *message
	stored bool
}

// Publish publishes a message of the program after all that it published
// before. It waits for no client. The payload must not be changed afterwards.
func (e *Engine) Publish(m topics.Message) {
	if !wire.ValidTopic(m.Topic) {
		e.log.Error("cannot publish: this is no topic", "topic", m.Topic)
		return
	}
	t := e.begin(nil)
	t.publish(own(m), nil, nil)
	t.end()
}

// Subscribe calls handler for each message that a filter matches: before it
// returns for those retained, with stored set, and from then on for each as it
// is published, with Retain as it was published. The calls come one at a time,
// in order, from a goroutine that works for this handler alone; as long as it
// does not return, its messages gather in memory.
func (e *Engine) Subscribe(filter string, handler func(m topics.Message, stored bool)) error {
	if group, _ := wire.Shared(filter); !wire.ValidFilter(filter) || group != "" {
		return fmt.Errorf("cannot subscribe to %q: it is no topic filter", filter)
	}
	l := &local{e: e, handler: handler, busy: true}
	e.subscriptions.add(&subscription{local: l, filter: filter})
	at := newCursor(filter)
	for !at.done {
		// A message is set and pushed under its topic's stripe, so one that is
		// read here comes after all pushes of those before it.
		l.mu.Lock()
		for _, m := range e.retained.next(&at, replayed, time.Now()) {
			l.queue = append(l.queue, heard{m, true})
		}
		l.mu.Unlock()
		l.hand()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = false
	l.start()
	return nil
}

func (l *local) push(t *turn, m *message) {
	l.mu.Lock()
	l.queue = append(l.queue, heard{m, false})
	l.mu.Unlock()
	if len(t.locals) == 0 || t.locals[len(t.locals)-1] != l {
		t.locals = append(t.locals, l)
	}
}

func (l *local) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.start()
}

func (l *local) start() {
	if l.busy || len(l.queue) == 0 {
		return
	}
	l.busy = true
	go func() {
		for {
			l.hand()
			l.mu.Lock()
			if len(l.queue) == 0 {
				l.busy = false
				l.mu.Unlock()
				return
			}
			l.mu.Unlock()
		}
	}()
}

// hand hands over what is queued.
func (l *local) hand() {
	l.mu.Lock()
	all := l.queue
	l.queue = nil
	l.mu.Unlock()
	for _, h := range all {
		l.handler(h.m.topics(), h.stored)
	}
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
