package engine

import (
	"strings"
	"sync"
	"sync/atomic"

	"github.com/jmbarzee/dominion/broker/wire"
)

// subscription is one filter of one session, or of the program itself. It is immutable
// but for index: a changed subscription replaces it.
type subscription struct {
	// session is nil for a subscription of the program, which has local.
	session *session
	local   *local
	// filter is as the client sent it, with $share/group/.
	filter  string
	qos     byte
	noLocal bool
	// retainAsPublished and retainHandling are options of MQTT 5 (3.8.3.1).
	retainAsPublished bool
	retainHandling    byte
	id                uint32

	// index is its position in its node or group.
	index int
}

// group is a shared subscription: its members, and the next one to receive a message.
type group struct {
	// filter includes $share/group/.
	filter  string
	mu      sync.Mutex
	members []*subscription
	next    int
}

// node is a level of the tree of filters.
type node struct {
	// children include # and +.
	children map[string]*node
	subs     []*subscription
	groups   map[string]*group
}

// empty reports whether the node can be removed.
func (n *node) empty() bool { return len(n.children) == 0 && len(n.subs) == 0 && len(n.groups) == 0 }

// tree finds the subscriptions that match a topic.
type tree struct {
	mu   sync.RWMutex
	root node
	// generation changes with the subscriptions.
	generation atomic.Uint64
}

// changed invalidates cached routes.
func (t *tree) changed() { t.generation.Add(1) }

// add adds a subscription.
func (t *tree) add(s *subscription) {
	name, filter := wire.SplitShared(s.filter)
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.changed()
	n := &t.root
	for more := true; more; {
		var level string
		level, filter, more = strings.Cut(filter, "/")
		child := n.children[level]
		if child == nil {
			child = &node{}
			if n.children == nil {
				n.children = make(map[string]*node)
			}
			n.children[strings.Clone(level)] = child
		}
		n = child
	}
	if name == "" {
		s.index = len(n.subs)
		n.subs = append(n.subs, s)
		return
	}
	if n.groups == nil {
		n.groups = make(map[string]*group)
	}
	g := n.groups[name]
	if g == nil {
		g = &group{filter: s.filter}
		n.groups[name] = g
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s.index = len(g.members)
	g.members = append(g.members, s)
}

// remove removes a subscription, and the levels that only it used.
func (t *tree) remove(s *subscription) {
	name, filter := wire.SplitShared(s.filter)
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.changed()
	t.root.remove(s, name, filter)
}

// remove removes a subscription below the node.
func (n *node) remove(s *subscription, name, filter string) {
	level, rest, more := strings.Cut(filter, "/")
	child := n.children[level]
	if child == nil {
		return
	}
	switch {
	case more:
		child.remove(s, name, rest)
	case name == "":
		child.subs = without(child.subs, s)
	default:
		if g := child.groups[name]; g != nil {
			g.mu.Lock()
			g.members = without(g.members, s)
			if len(g.members) == 0 {
				delete(child.groups, name)
			}
			g.mu.Unlock()
		}
	}
	if child.empty() {
		delete(n.children, level)
	}
}

// without removes s by moving the last subscription to its position.
func without(all []*subscription, s *subscription) []*subscription {
	if s.index >= len(all) || all[s.index] != s {
		return all
	}
	last := len(all) - 1
	all[s.index] = all[last]
	all[s.index].index = s.index
	all[last] = nil
	return all[:last]
}

// match calls each for every node whose filter matches a topic.
func (t *tree) match(topic string, each func(*node)) {
	t.root.match(topic, topic != "" && topic[0] == '$', each)
}

// match descends the levels. Wildcards do not match the first level of a topic that
// begins with $ [MQTT-4.7.2-1]; a/# also matches a.
func (n *node) match(topic string, system bool, each func(*node)) {
	level, rest, more := strings.Cut(topic, "/")
	down := func(child *node) {
		if more {
			child.match(rest, false, each)
			return
		}
		each(child)
		if parent := child.children["#"]; parent != nil {
			each(parent)
		}
	}
	if child := n.children[level]; child != nil && level != "+" && level != "#" {
		down(child)
	}
	if system {
		return
	}
	if child := n.children["+"]; child != nil {
		down(child)
	}
	if child := n.children["#"]; child != nil {
		each(child)
	}
}
