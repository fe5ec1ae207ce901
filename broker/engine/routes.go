package engine

import (
	"slices"
	"sync"
)

// route is who gets what is published to a topic, as the subscriptions and the
// access rules are in one generation of them. It does not change.
type route struct {
	topic      string
	persists   bool // what is published there survives a restart
	generation uint64
	sessions   []target
	locals     []*local
	groups     []sharing
}

// target is a session with the sum of its subscriptions that match: it gets one
// copy, with the highest QoS and all identifiers [MQTT-3.3.4-2, -3, -4].
type target struct {
	session *session
	qos     byte
	asPub   bool
	ids     []uint32
	// echo is what a publisher gets of its own, where that is something else:
	// the subscriptions without "no local" [MQTT-3.8.3-3]. None: nothing.
	echo *target
}

func (t *target) add(s *subscription) {
	t.qos = max(t.qos, s.qos)
	t.asPub = t.asPub || s.asPub
	if s.id != 0 && !slices.Contains(t.ids, s.id) {
		t.ids = append(t.ids, s.id)
	}
}

// sharing is a shared subscription that matches, and those of its members that
// may have the topic.
type sharing struct {
	group   *group
	members []*subscription
}

const (
	routesKept = 1 << 14 // then all are forgotten
	heardKept  = 1 << 20 // the same, of those who get something in all of them; fewer where there is little memory
	routeTopic = 512     // bytes; longer ones are not remembered
)

// routes remembers the route of each topic.
type routes struct {
	mu      sync.RWMutex
	byTopic map[string]*route
	heard   int // who gets something, in all of them
	most    int // of heard
}

func (r *routes) init(memory int64) {
	r.byTopic = make(map[string]*route)
	r.most = int(min(heardKept, memory/512)) // an eighth of it
}

// known returns a route that still holds, or nil.
func (r *routes) known(topic []byte, generation uint64) *route {
	r.mu.RLock()
	found := r.byTopic[string(topic)]
	r.mu.RUnlock()
	if found == nil || found.generation != generation {
		return nil
	}
	return found
}

func (r *routes) keep(one *route) {
	if len(one.topic) > routeTopic {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.byTopic) >= routesKept || r.heard >= r.most {
		clear(r.byTopic)
		r.heard = 0
	}
	if before := r.byTopic[one.topic]; before != nil {
		r.heard -= before.heard()
	}
	r.heard += one.heard()
	r.byTopic[one.topic] = one
}

// heard counts who gets something.
func (r *route) heard() int {
	n := 1 + len(r.sessions) + len(r.locals)
	for i := range r.sessions {
		n += len(r.sessions[i].ids) / 8
	}
	for i := range r.groups {
		n += len(r.groups[i].members)
	}
	return n
}

// route returns the route of a topic. A retained message must be kept before
// its route is asked for: then who subscribes meanwhile gets it one way or the
// other.
func (e *Engine) route(topic []byte) *route {
	generation := e.subscriptions.generation.Load()
	if r := e.routes.known(topic, generation); r != nil {
		return r
	}
	return e.newRoute(string(topic))
}

func (e *Engine) routeOf(topic string) *route {
	// the conversion of a string to look it up makes no copy
	generation := e.subscriptions.generation.Load()
	e.routes.mu.RLock()
	found := e.routes.byTopic[topic]
	e.routes.mu.RUnlock()
	if found != nil && found.generation == generation {
		return found
	}
	return e.newRoute(topic)
}

func (e *Engine) newRoute(topic string) *route {
	t := &e.subscriptions
	t.mu.RLock()
	r := &route{topic: topic, persists: e.persists(topic), generation: t.generation.Load()}
	var plain []*subscription
	t.match(topic, func(n *node) {
		plain = append(plain, n.subs...)
		for _, g := range n.groups {
			g.mu.Lock()
			r.groups = append(r.groups, sharing{g, slices.Clone(g.members)})
			g.mu.Unlock()
		}
	})
	t.mu.RUnlock()
	r.gather(plain)
	if e.ask.Allow != nil {
		r.sessions = slices.DeleteFunc(r.sessions, func(t target) bool {
			if e.allow(t.session.client.Load(), ActionDeliver, topic) {
				return false
			}
			e.notDelivered(t.session, topic)
			return true
		})
		for i := range r.groups {
			r.groups[i].members = slices.DeleteFunc(r.groups[i].members, func(s *subscription) bool {
				return s.session != nil && !e.allow(s.session.client.Load(), ActionDeliver, topic)
			})
		}
	}
	e.routes.keep(r)
	return r
}

// persists reports whether what is published to a topic survives a restart.
func (e *Engine) persists(topic string) bool {
	return e.store != nil && (e.ask.Persists == nil || e.ask.Persists(topic))
}

// gather makes one target a session.
func (r *route) gather(all []*subscription) {
	if len(all) == 0 {
		return
	}
	places := make(map[*session]int, len(all))
	var silent map[*session]bool // who has "no local" among its subscriptions
	for _, s := range all {
		if s.session == nil {
			if !slices.Contains(r.locals, s.local) {
				r.locals = append(r.locals, s.local)
			}
			continue
		}
		i, ok := places[s.session]
		if !ok {
			i = len(r.sessions)
			places[s.session] = i
			r.sessions = append(r.sessions, target{session: s.session})
		}
		r.sessions[i].add(s)
		if s.noLocal {
			if silent == nil {
				silent = make(map[*session]bool)
			}
			silent[s.session] = true
		}
	}
	for s := range silent {
		echo := &target{session: s}
		for _, one := range all {
			if one.session == s && !one.noLocal {
				echo.add(one)
				echo.session = s
				echo.echo = echo // it is something
			}
		}
		r.sessions[places[s]].echo = echo
	}
}

// heard returns what a session gets of a message; nil: nothing.
func (t *target) heard(publisher string) *target {
	if t.echo == nil || t.session.id != publisher {
		return t
	}
	if t.echo.echo == nil {
		return nil
	}
	return t.echo
}
