package engine

import (
	"slices"
	"sync"
)

// route is who receives the messages of a topic, by the subscriptions and access rules
// of one generation. It is immutable.
type route struct {
	topic string
	// persists reports whether messages of the topic survive a restart.
	persists bool
	// chargeProgram reports whether the program pays for what is retained at the topic.
	chargeProgram bool
	// private reports whether what clients publish here goes to Options.Receive alone.
	private    bool
	generation uint64
	sessions   []target
	locals     []*local
	groups     []sharedTarget
}

// target is a session with the union of its matching subscriptions: it gets one copy,
// with the highest QoS and all identifiers [MQTT-3.3.4-2, -3, -4].
type target struct {
	session           *session
	qos               byte
	retainAsPublished bool
	ids               []uint32
	// echo is what the session gets of its own messages, if it has "no local"
	// subscriptions: the union of the others [MQTT-3.8.3-3]. An echo whose own echo is
	// nil is empty.
	echo *target
}

// add adds a subscription to the union.
func (t *target) add(s *subscription) {
	t.qos = max(t.qos, s.qos)
	t.retainAsPublished = t.retainAsPublished || s.retainAsPublished
	if s.id != 0 && !slices.Contains(t.ids, s.id) {
		t.ids = append(t.ids, s.id)
	}
}

// sharedTarget is a matching shared subscription, with the members that may receive
// the topic.
type sharedTarget struct {
	group   *group
	members []*subscription
}

// The bounds of the cache of routes. When one is reached, the cache is cleared.
const (
	maxRoutes = 1 << 14
	// maxRecipients is the number of recipients in all routes; it is lower if the
	// memory limit is low.
	maxRecipients = 1 << 20
	// maxCachedTopic is the length of a topic in bytes beyond which its route is not
	// cached.
	maxCachedTopic = 512
)

// routes caches the route of each topic.
type routes struct {
	mu      sync.RWMutex
	byTopic map[string]*route
	// recipients is the number of recipients in all cached routes.
	recipients int
	// maxRecipients bounds recipients.
	maxRecipients int
}

// init bounds the cache to about an eighth of the memory limit.
func (r *routes) init(memory int64) {
	r.byTopic = make(map[string]*route)
	r.maxRecipients = int(min(maxRecipients, memory/512)) // an eighth of it
}

// lookup returns the cached route of a topic, if it is of that generation.
func (r *routes) lookup(topic []byte, generation uint64) *route {
	r.mu.RLock()
	found := r.byTopic[string(topic)]
	r.mu.RUnlock()
	if found == nil || found.generation != generation {
		return nil
	}
	return found
}

// add caches a route.
func (r *routes) add(one *route) {
	if len(one.topic) > maxCachedTopic {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.byTopic) >= maxRoutes || r.recipients >= r.maxRecipients {
		clear(r.byTopic)
		r.recipients = 0
	}
	if before := r.byTopic[one.topic]; before != nil {
		r.recipients -= before.recipients()
	}
	r.recipients += one.recipients()
	r.byTopic[one.topic] = one
}

// recipients returns the weight of a route in the cache: about its number of
// recipients.
func (r *route) recipients() int {
	n := 1 + len(r.sessions) + len(r.locals)
	for i := range r.sessions {
		n += len(r.sessions[i].ids) / 8
	}
	for i := range r.groups {
		n += len(r.groups[i].members)
	}
	return n
}

// route returns the route of a topic. A retained message must be set before its route
// is taken: then a client that subscribes in between gets it either way.
func (e *Engine) route(topic []byte) *route {
	generation := e.subscriptions.generation.Load()
	if r := e.routes.lookup(topic, generation); r != nil {
		return r
	}
	return e.newRoute(string(topic))
}

// routeOf is route for a string. The lookup makes no copy.
func (e *Engine) routeOf(topic string) *route {
	// not by way of route, which would convert and copy the string
	generation := e.subscriptions.generation.Load()
	e.routes.mu.RLock()
	found := e.routes.byTopic[topic]
	e.routes.mu.RUnlock()
	if found != nil && found.generation == generation {
		return found
	}
	return e.newRoute(topic)
}

// newRoute computes the route of a topic from the subscriptions and the access rules,
// and caches it.
func (e *Engine) newRoute(topic string) *route {
	t := &e.subscriptions
	t.mu.RLock()
	r := &route{
		topic: topic, persists: e.persists(topic), private: e.isPrivate(topic), generation: t.generation.Load(),
		chargeProgram: e.opts.ChargeProgram != nil && e.opts.ChargeProgram(topic),
	}
	var plain []*subscription
	t.match(topic, func(n *node) {
		plain = append(plain, n.subs...)
		for _, g := range n.groups {
			g.mu.Lock()
			r.groups = append(r.groups, sharedTarget{g, slices.Clone(g.members)})
			g.mu.Unlock()
		}
	})
	t.mu.RUnlock()
	r.addTargets(plain)
	if e.opts.Allow != nil {
		r.sessions = slices.DeleteFunc(r.sessions, func(t target) bool {
			if e.allowed(t.session.client.Load(), ActionDeliver, topic) {
				return false
			}
			e.traceNotDelivered(t.session, topic)
			return true
		})
		for i := range r.groups {
			r.groups[i].members = slices.DeleteFunc(r.groups[i].members, func(s *subscription) bool {
				return s.session != nil && !e.allowed(s.session.client.Load(), ActionDeliver, topic)
			})
		}
	}
	e.routes.add(r)
	return r
}

// persists reports whether messages of a topic survive a restart.
func (e *Engine) persists(topic string) bool {
	return e.store != nil && (e.opts.Persists == nil || e.opts.Persists(topic))
}

// addTargets adds the local subscribers, and one target for each session among the
// subscriptions.
func (r *route) addTargets(all []*subscription) {
	if len(all) == 0 {
		return
	}
	index := make(map[*session]int, len(all))
	var noLocal map[*session]bool // sessions with a "no local" subscription
	for _, s := range all {
		if s.session == nil {
			if !slices.Contains(r.locals, s.local) {
				r.locals = append(r.locals, s.local)
			}
			continue
		}
		i, ok := index[s.session]
		if !ok {
			i = len(r.sessions)
			index[s.session] = i
			r.sessions = append(r.sessions, target{session: s.session})
		}
		r.sessions[i].add(s)
		if s.noLocal {
			if noLocal == nil {
				noLocal = make(map[*session]bool)
			}
			noLocal[s.session] = true
		}
	}
	for s := range noLocal {
		echo := &target{session: s}
		for _, one := range all {
			if one.session == s && !one.noLocal {
				echo.add(one)
				echo.session = s
				echo.echo = echo // not empty
			}
		}
		r.sessions[index[s]].echo = echo
	}
}

// forPublisher returns what a session gets of a message of a publisher; nil: nothing.
func (t *target) forPublisher(publisher string) *target {
	if t.echo == nil || t.session.id != publisher {
		return t
	}
	if t.echo.echo == nil {
		return nil
	}
	return t.echo
}
