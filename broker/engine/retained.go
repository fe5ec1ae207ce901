package engine

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// retained are the retained messages: by topic, and in the order of the topics,
// so that a replay can go on after any topic without a copy of what is there.
// It is a skip list with an index.
type retained struct {
	mu      sync.RWMutex
	byTopic map[string]*keptNode
	head    [keptLevels]*keptNode
	bytes   int
	memory  *memory                      // nil: nothing is counted
	room    func(u *usage, n int) string // says why a user may not have so many bytes more; "": it may
}

const keptLevels = 16

type keptNode struct {
	topic string
	m     *message
	next  []*keptNode
}

func (r *retained) init() { r.byTopic = make(map[string]*keptNode) }

// account counts a message that is retained for its owner, or, with -1, one that
// is not any more.
func (r *retained) account(m *message, n int) {
	if r.memory == nil {
		return
	}
	if n > 0 {
		r.memory.take(m)
	} else {
		r.memory.drop(m)
	}
	r.memory.add(m.owner, n*retainedMemory(m))
}

func retainedMemory(m *message) int { return costRetained + m.memory() }

// count returns how many messages there are, and their size.
func (r *retained) count() (messages, bytes int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.byTopic), r.bytes
}

// set keeps a message, or clears its topic where it has no payload
// [MQTT-3.3.1-5, -6, -7]. It is false where there is no room for it.
func (r *retained) set(m *message, l *Limits) bool { return r.retain(m, l) == "" }

// retain is set, and says why there is no room. For the program's own there
// always is: what clients fill must not keep it from giving orders.
func (r *retained) retain(m *message, l *Limits) (why string) {
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
		if grown := m.size() - n.m.size(); !own && grown > 0 {
			if r.bytes+grown > l.MaxRetainedBytes {
				return retainedBytesFull(m, l)
			}
			if why := r.refusal(m, grown); why != "" {
				return why
			}
		}
		r.bytes += m.size() - n.m.size()
		r.account(n.m, -1)
		r.account(m, 1)
		n.m = m
	default:
		if !own {
			if len(r.byTopic) >= l.MaxRetained {
				return fmt.Sprintf("there are %d retained messages already (broker.limits.max_retained)", l.MaxRetained)
			}
			if r.bytes+m.size() > l.MaxRetainedBytes {
				return retainedBytesFull(m, l)
			}
			if why := r.refusal(m, retainedMemory(m)); why != "" {
				return why
			}
		}
		r.insert(m)
	}
	return ""
}

func (r *retained) refusal(m *message, n int) string {
	if r.room == nil {
		return ""
	}
	return r.room(m.owner, n)
}

func retainedBytesFull(m *message, l *Limits) string {
	return fmt.Sprintf("it has %d bytes, and all retained messages may have %d (broker.limits.max_retained_bytes)", m.size(), l.MaxRetainedBytes)
}

// drop removes a message if it is still its topic's.
func (r *retained) drop(m *message) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.byTopic[m.Topic]
	if n == nil || n.m != m {
		return false
	}
	r.remove(n)
	return true
}

func (r *retained) insert(m *message) {
	height := 1
	for height < keptLevels && rand.Uint32()&3 == 0 {
		height++
	}
	n := &keptNode{topic: m.Topic, m: m, next: make([]*keptNode, height)}
	r.each(m.Topic, func(level int, link **keptNode) {
		if level < height {
			n.next[level], *link = *link, n
		}
	})
	r.byTopic[m.Topic] = n
	r.bytes += m.size()
	r.account(m, 1)
}

func (r *retained) remove(n *keptNode) {
	r.each(n.topic, func(level int, link **keptNode) {
		if *link == n {
			*link = n.next[level]
		}
	})
	delete(r.byTopic, n.topic)
	r.bytes -= n.m.size()
	r.account(n.m, -1)
}

// each calls f with the link of each level that a topic comes after, from the
// top.
func (r *retained) each(topic string, f func(level int, link **keptNode)) {
	var at *keptNode
	for level := keptLevels - 1; level >= 0; level-- {
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

// seek returns the first topic that is not less.
func (r *retained) seek(topic string) *keptNode {
	var found *keptNode
	r.each(topic, func(_ int, link **keptNode) { found = *link })
	return found
}

// cursor is a place in the retained messages of a filter. It holds nothing, so
// it costs nothing to wait with it.
type cursor struct {
	levels []string
	from   string // the first topic that is not yet done
	looked int    // topics that next looked at the last time
	done   bool
}

func newCursor(filter string) cursor { return cursor{levels: strings.Split(filter, "/")} }

// lookedAt is how many topics next looks at before it lets others have their
// turn: a filter can match few of very many.
const lookedAt = 4096

// next returns up to n messages as they are now, and goes on behind them. They
// may be none before the cursor is done.
func (r *retained) next(c *cursor, n int, now time.Time) []*message {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var all []*message
	at := r.seek(c.from)
	looked := 0
	defer func() { c.looked = looked }()
	for ; ; looked++ {
		if at == nil {
			c.done = true
			return all
		}
		if looked == lookedAt {
			c.from = at.topic
			return all
		}
		matches, jump := c.compare(at.topic)
		if matches {
			if len(all) == n {
				c.from = at.topic
				return all
			}
			if !at.m.expired(now) {
				all = append(all, at.m)
			}
		}
		switch {
		case jump == end:
			c.done = true
			return all
		case jump != "":
			at = r.seek(jump)
		default:
			at = at.next[0]
		}
	}
}

// end says that nothing matches any more. It is no topic and no beginning of one.
const end = "\x00"

// compare tells whether a topic matches. Where it does not, jump may be a later
// topic before which none does, or end.
func (c *cursor) compare(topic string) (matches bool, jump string) {
	rest, wild := topic, false
	for i, want := range c.levels {
		before := topic[:len(topic)-len(rest)] // what matches so far, with its slash
		switch {
		case want == "#":
			if i == 0 && topic[0] == '$' {
				return false, "%" // what comes after "$"
			}
			return true, ""
		case want == "+":
			if i == 0 && topic[0] == '$' {
				return false, "%" // what comes after "$"
			}
			wild = true
		default:
			literal := before + want
			switch {
			case topic < literal:
				return false, literal
			case topic == literal || strings.HasPrefix(topic, literal+"/"):
			case topic < literal+"/":
				return false, literal + "/"
			default:
				return false, past(before, wild)
			}
		}
		_, after, more := strings.Cut(rest, "/")
		if !more {
			left := c.levels[i+1:]
			return len(left) == 0 || len(left) == 1 && left[0] == "#", ""
		}
		rest = after
	}
	return false, topic[:len(topic)-len(rest)-1] + "0" // past all below it: "0" comes after "/"
}

// past is the way on from a topic that is beyond all that match below before.
func past(before string, wild bool) string {
	if !wild {
		return end
	}
	return before[:len(before)-1] + "0"
}
