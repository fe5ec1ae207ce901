package hub

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/client"
)

// bus is the state of what carries the hub's messages.
type bus struct {
	// connected reports that it carries messages.
	connected bool
	// watched are the topics that were watched last, sorted.
	watched []string
	// watch has it deliver topics besides the Filters; nil: Attach has not been called yet.
	watch func(topics []string)
}

// Attach subscribes the hub at its own broker to all that it needs, before it
// runs. What it watches besides follows later.
func (h *Hub) Attach(b *broker.Broker) error {
	for _, filter := range h.Filters() {
		if _, err := b.Watch(filter, h.deliver); err != nil {
			return fmt.Errorf("cannot subscribe to %s: %w", filter, err)
		}
	}
	b.HandlePrivate(h.DeliverPrivate)
	b.HandlePrivateRefusals(func(r broker.PrivateRefusal) { h.box.Put(r) })
	b.HandleApplicants(h.DeliverApplicant)
	watched := make(map[string]func())
	h.bus.watch = func(all []string) {
		for topic, stop := range watched {
			if _, still := slices.BinarySearch(all, topic); !still {
				stop()
				delete(watched, topic)
			}
		}
		for _, topic := range all {
			if watched[topic] != nil {
				continue
			}
			stop, err := b.Watch(topic, h.deliver)
			if err != nil {
				h.CannotSubscribe(topic, err)
				continue
			}
			watched[topic] = stop
		}
	}
	return nil
}

// updateWatch passes the bus what is wanted besides our Filters, if it is something
// else than before.
func (h *Hub) updateWatch() {
	all := slices.Concat(h.ops.scaling.Topics(), h.views.tracker.Topics(), h.views.leftovers.Filters())
	slices.Sort(all)
	all = slices.DeleteFunc(slices.Compact(all), h.subscribedTo)
	if h.bus.watch == nil || slices.Equal(all, h.bus.watched) {
		return
	}
	h.bus.watched = all
	h.bus.watch(slices.Clone(all))
}

// CannotSubscribe passes the hub the reason why the broker refuses a topic of its Watch.
func (h *Hub) CannotSubscribe(topic string, err error) { h.box.Put(unsubscribable{topic, err}) }

// watcher holds the topics that a hub watches at a broker that is not ours. The hub sets
// them, the owner of the connection subscribes to them.
type watcher struct {
	mu     sync.Mutex
	wanted []string
	// asked are topics to subscribe to once, in order, for what is retained there.
	asked []string
	// changed holds one value while they changed.
	changed chan struct{}
}

func newWatcher() *watcher { return &watcher{changed: make(chan struct{}, 1)} }

func (w *watcher) set(all []string) {
	w.mu.Lock()
	w.wanted = all
	w.mu.Unlock()
	w.wake()
}

// verify asks for topics: what the broker retains there comes once more.
func (w *watcher) verify(topics []string) {
	w.mu.Lock()
	w.asked = topics
	w.mu.Unlock()
	w.wake()
}

// takeAsked returns what is to be asked for, once.
func (w *watcher) takeAsked() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := w.asked
	w.asked = nil
	return asked
}

func (w *watcher) wake() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *watcher) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wanted
}

// serve subscribes to what is wanted until the connection is over or ctx ends.
// A topic that the broker refuses is reported to the hub and is no reason to end.
func (w *watcher) serve(ctx context.Context, conn *client.Conn, h *Hub, log *slog.Logger) {
	has, refused := make(map[string]bool), make(map[string]bool)
	w.takeAsked() // of a connection before
	for {
		if asked := w.takeAsked(); len(asked) > 0 {
			if err := conn.Subscribe(ctx, asked...); err != nil {
				log.Warn("cannot ask the broker what it keeps", "error", err)
			}
		}
		wanted := w.all()
		for _, topic := range slices.Sorted(maps.Keys(has)) {
			if _, still := slices.BinarySearch(wanted, topic); !still {
				conn.Unsubscribe(topic)
				delete(has, topic)
			}
		}
		for _, topic := range wanted {
			if has[topic] || refused[topic] {
				continue // a broker that refuses does so until we come again
			}
			if err := conn.Subscribe(ctx, topic); err != nil {
				refused[topic] = true
				log.Warn("cannot subscribe to a topic", "topic", topic, "error", err)
				h.CannotSubscribe(topic, err)
				continue
			}
			has[topic] = true
		}
		select {
		case <-ctx.Done():
			return
		case <-conn.Done():
			return
		case <-w.changed:
		}
	}
}
