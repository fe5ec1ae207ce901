package engine

import (
	"strings"
	"sync"
	"sync/atomic"

	"github.com/jmbarzee/dominion/broker/wire"
)

// subscription is one filter of one session, or of the program itself. It does
// not change: a new one takes its place.
type subscription struct {
	session *session // nil: local is it
	local   *local
	filter  string // as the client wrote it, with $share/group/
	qos     byte
	noLocal bool
	asPub   bool // retain as published
	retain  byte // retain handling
	id      uint32

	place int // in its node or group
}

// group is a shared subscription: who is in it, and whose turn it is.
type group struct {
	filter  string // with $share/group/
	mu      sync.Mutex
	members []*subscription
	turn    int
}

// node is a level of the filters.
type node struct {
	children map[string]*node // # and + among them
	subs     []*subscription
	groups   map[string]*group
}

func (n *node) empty() bool { return len(n.children) == 0 && len(n.subs) == 0 && len(n.groups) == 0 }

// tree finds the subscriptions that match a topic.
type tree struct {
	mu         sync.RWMutex
	root       node
	generation atomic.Uint64 // changes with the subscriptions
}

func (t *tree) changed() { t.generation.Add(1) }

// add adds a subscription.
func (t *tree) add(s *subscription) {
	name, filter := wire.Shared(s.filter)
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
		s.place = len(n.subs)
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
	s.place = len(g.members)
	g.members = append(g.members, s)
}

// remove removes a subscription, and the levels that only it had.
func (t *tree) remove(s *subscription) {
	name, filter := wire.Shared(s.filter)
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.changed()
	t.root.remove(s, name, filter)
}

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

// without takes s out by putting the last in its place.
func without(all []*subscription, s *subscription) []*subscription {
	if s.place >= len(all) || all[s.place] != s {
		return all
	}
	last := len(all) - 1
	all[s.place] = all[last]
	all[s.place].place = s.place
	all[last] = nil
	return all[:last]
}

// match calls each for every node whose filter matches a topic.
func (t *tree) match(topic string, each func(*node)) {
	t.root.match(topic, topic != "" && topic[0] == '$', each)
}

// match goes down the levels. Wildcards do not match the first level of a topic
// that begins with $ [MQTT-4.7.2-1]; a/# matches a as well.
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
