package engine

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// retained holds the retained messages by topic, and ordered by topic, so that a
// replay can continue after any topic without a copy. It is a skip list with an index.
type retained struct {
	mu      sync.RWMutex
	byTopic map[string]*retainedNode
	head    [maxHeight]*retainedNode
	bytes   int
	// memory is nil if nothing is accounted for.
	memory *memory
	// refuse returns the reason why a user may not hold n more bytes; "": it may.
	refuse func(u *usage, n int) string
}

// maxHeight is the number of levels of the skip list.
const maxHeight = 16

// retainedNode is an entry of the skip list, with its links by level.
type retainedNode struct {
	topic string
	msg   *message
	next  []*retainedNode
}

func (r *retained) init() { r.byTopic = make(map[string]*retainedNode) }

// accountMessage adds a retained message to its owner's account, or removes it if n is
// -1.
func (r *retained) accountMessage(m *message, n int) {
	if r.memory == nil {
		return
	}
	if n > 0 {
		r.memory.addHolder(m)
	} else {
		r.memory.removeHolder(m)
	}
	r.memory.add(m.owner, n*retainedMemory(m))
}

// retainedMemory returns the accounted size of a retained message.
func retainedMemory(m *message) int { return costRetained + m.memory() }

// count returns the number of messages and their total size.
func (r *retained) count() (messages, bytes int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.byTopic), r.bytes
}

// set retains a message, or clears its topic if the payload is empty [MQTT-3.3.1-5,
// -6, -7], and reports whether there was room for it.
func (r *retained) set(m *message, l *Limits) bool { return r.retain(m, l) == "" }

// retain is set, and returns the reason why there is no room; "": there was. Messages
// of the program are always accepted: what clients fill up must not keep it from
// giving orders.
func (r *retained) retain(m *message, l *Limits) (reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.byTopic[m.Topic]
	own := m.Publisher == ""
	switch {
	case len(m.Payload) == 0:
		if n != nil {
			r.remove(n)
		}
	case n != nil:
		if growth := m.size() - n.msg.size(); !own && growth > 0 {
			if r.bytes+growth > l.MaxRetainedBytes {
				return retainedBytesFull(m, l)
			}
			if reason := r.refusal(m, growth); reason != "" {
				return reason
			}
		}
		r.bytes += m.size() - n.msg.size()
		r.accountMessage(n.msg, -1)
		r.accountMessage(m, 1)
		n.msg = m
	default:
		if !own {
			if len(r.byTopic) >= l.MaxRetained {
				return fmt.Sprintf("there are %d retained messages already (broker.limits.max_retained)", l.MaxRetained)
			}
			if r.bytes+m.size() > l.MaxRetainedBytes {
				return retainedBytesFull(m, l)
			}
			if reason := r.refusal(m, retainedMemory(m)); reason != "" {
				return reason
			}
		}
		r.insert(m)
	}
	return ""
}

// refusal returns the reason why the owner of a message may not hold n more bytes.
func (r *retained) refusal(m *message, n int) string {
	if r.refuse == nil {
		return ""
	}
	return r.refuse(m.owner, n)
}

// retainedBytesFull returns the reason that MaxRetainedBytes is reached.
func retainedBytesFull(m *message, l *Limits) string {
	return fmt.Sprintf("it has %d bytes, and all retained messages may have %d (broker.limits.max_retained_bytes)", m.size(), l.MaxRetainedBytes)
}

// removeMessage removes a message if it is still the one of its topic, and reports
// whether it was.
func (r *retained) removeMessage(m *message) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.byTopic[m.Topic]
	if n == nil || n.msg != m {
		return false
	}
	r.remove(n)
	return true
}

// insert adds the message of a new topic.
func (r *retained) insert(m *message) {
	height := 1
	for height < maxHeight && rand.Uint32()&3 == 0 {
		height++
	}
	n := &retainedNode{topic: m.Topic, msg: m, next: make([]*retainedNode, height)}
	r.walkLinks(m.Topic, func(level int, link **retainedNode) {
		if level < height {
			n.next[level], *link = *link, n
		}
	})
	r.byTopic[m.Topic] = n
	r.bytes += m.size()
	r.accountMessage(m, 1)
}

// remove removes a topic.
func (r *retained) remove(n *retainedNode) {
	r.walkLinks(n.topic, func(level int, link **retainedNode) {
		if *link == n {
			*link = n.next[level]
		}
	})
	delete(r.byTopic, n.topic)
	r.bytes -= n.msg.size()
	r.accountMessage(n.msg, -1)
}

// walkLinks calls f, from the highest level down, with the link of each level at which
// a topic is or would be.
func (r *retained) walkLinks(topic string, f func(level int, link **retainedNode)) {
	var at *retainedNode
	for level := maxHeight - 1; level >= 0; level-- {
		link := &r.head[level]
		if at != nil {
			link = &at.next[level]
		}
		for *link != nil && (*link).topic < topic {
			at = *link
			link = &at.next[level]
		}
		f(level, link)
	}
}

// seek returns the first node whose topic is not less than topic.
func (r *retained) seek(topic string) *retainedNode {
	var found *retainedNode
	r.walkLinks(topic, func(_ int, link **retainedNode) { found = *link })
	return found
}

// cursor is a position in the retained messages of a filter. It holds no messages, so
// it may be held for any time.
type cursor struct {
	levels []string
	// from is the first topic that is not handled yet.
	from string
	// examined is the number of topics that the last call of next examined.
	examined int
	done     bool
}

// newCursor returns the position before the first message of a filter.
func newCursor(filter string) cursor { return cursor{levels: strings.Split(filter, "/")} }

// maxExamined bounds the topics that next examines under one lock: a filter can match
// few of very many.
const maxExamined = 4096

// next returns up to n matching messages as they are now, and advances the cursor. It
// may return none before the cursor is done.
func (r *retained) next(c *cursor, n int, now time.Time) []*message {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var all []*message
	node := r.seek(c.from)
	examined := 0
	defer func() { c.examined = examined }()
	for ; ; examined++ {
		if node == nil {
			c.done = true
			return all
		}
		if examined == maxExamined {
			c.from = node.topic
			return all
		}
		matches, jump := c.compare(node.topic)
		if matches {
			if len(all) == n {
				c.from = node.topic
				return all
			}
			if !node.msg.expired(now) {
				all = append(all, node.msg)
			}
		}
		switch {
		case jump == noMoreMatches:
			c.done = true
			return all
		case jump != "":
			node = r.seek(jump)
		default:
			node = node.next[0]
		}
	}
}

// noMoreMatches is returned by compare when no later topic can match. It is neither a
// topic nor the beginning of one.
const noMoreMatches = "\x00"

// compare reports whether a topic matches the filter. If not, jump may be a later
// topic before which none matches, or noMoreMatches.
func (c *cursor) compare(topic string) (matches bool, jump string) {
	rest, wild := topic, false
	for i, want := range c.levels {
		before := topic[:len(topic)-len(rest)] // the part that matches so far, with its slash
		switch {
		case want == "#":
			if i == 0 && topic[0] == '$' {
				return false, "%" // the byte after "$"
			}
			return true, ""
		case want == "+":
			if i == 0 && topic[0] == '$' {
				return false, "%" // the byte after "$"
			}
			wild = true
		default:
			literal := before + want
			if topic < literal {
				return false, literal
			}
			if topic == literal || strings.HasPrefix(topic, literal+"/") {
				break // this level matches
			}
			if topic < literal+"/" {
				return false, literal + "/"
			}
			return false, skipBeyond(before, wild)
		}
		_, after, more := strings.Cut(rest, "/")
		if !more {
			left := c.levels[i+1:]
			return len(left) == 0 || len(left) == 1 && left[0] == "#", ""
		}
		rest = after
	}
	return false, topic[:len(topic)-len(rest)-1] + "0" // beyond all topics below it: "0" follows "/"
}

// skipBeyond returns where to continue after a topic that is beyond all matches below
// before.
func skipBeyond(before string, wild bool) string {
	if !wild {
		return noMoreMatches
	}
	return before[:len(before)-1] + "0"
}
