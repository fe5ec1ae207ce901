package bridge

import (
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/topics"
)

// refusalDetector detects the message for which a broker ends the connection: in 3.1.1
// a broker has no other way to refuse one. After the first such end, messages are sent
// one at a time; the message with which alone the connection ends repeatedly is the
// one. A broker that is unreachable, restarts or loses its network does not end the
// connection twice for the same message, so no message is lost to an outage.
type refusalDetector struct {
	mu   sync.Mutex
	seed maphash.Seed
	// remaining is the number of messages that are still sent one at a time; 0: not
	// active.
	remaining int
	// suspect is the key of the message that was in flight at the last end.
	suspect uint64
	// endings counts the ends with the suspect.
	endings int
	// verdict is the reason for which the suspect is excluded; "": it is not.
	verdict  string
	excluded map[string]exclusion
}

// exclusion is a topic whose messages made the broker end the connection. After the
// second, the next ones are not sent for a while: otherwise one device would make the
// bridge reconnect all the time.
type exclusion struct {
	count int
	// size is that of the smallest of its messages.
	size   int
	last   time.Time
	reason string
}

// The bounds of exclusions: their number and duration.
const (
	maxExclusions = 200
	exclusionTime = 10 * time.Minute
)

// newRefusalDetector returns an inactive detector.
func newRefusalDetector() *refusalDetector {
	return &refusalDetector{seed: maphash.MakeSeed(), excluded: make(map[string]exclusion)}
}

// key returns a hash of topic and payload.
func (d *refusalDetector) key(m topics.Message) uint64 {
	var h maphash.Hash
	h.SetSeed(d.seed)
	_, _ = h.WriteString(m.Topic)
	_ = h.WriteByte(0)
	_, _ = h.Write(m.Payload)
	return h.Sum64()
}

// active reports whether messages are to be sent one at a time.
func (d *refusalDetector) active() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.remaining > 0
}

// noteAnswered counts a message that was answered or excluded, and reports whether the
// detector is no longer active by that.
func (d *refusalDetector) noteAnswered() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.remaining == 0 {
		return false
	}
	d.endings = 0
	d.remaining--
	return d.remaining == 0
}

// noteEnded is called when the broker ended the connection while sent messages were
// unacknowledged, the oldest of which is given.
func (d *refusalDetector) noteEnded(oldest inflightMessage, sent int, reason *client.DisconnectError) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.remaining == 0 {
		d.remaining, d.endings = sent, 0
		return
	}
	if d.suspect != oldest.key {
		d.suspect, d.endings = oldest.key, 0
	}
	d.endings++
	if reason != nil {
		d.verdict = reason.Error()
	} else if d.endings >= endingsAsRefusal {
		d.verdict = fmt.Sprintf("the broker ended the connection %d times when it was sent this message", d.endings+1)
	}
}

// exclude returns the reason why a message must not be sent; "": it may.
func (d *refusalDetector) exclude(m inflightMessage, now time.Time) (reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, current := d.excluded[m.topic]
	current = current && now.Sub(c.last) < exclusionTime
	if d.verdict == "" || d.suspect != m.key {
		if current && c.count > 1 && m.size >= c.size {
			return c.reason + ", as for the last messages of this topic"
		}
		return ""
	}
	reason, d.verdict, d.endings = d.verdict, "", 0
	if !current {
		c = exclusion{size: m.size}
	}
	if len(d.excluded) < maxExclusions || d.excluded[m.topic].count > 0 {
		d.excluded[m.topic] = exclusion{c.count + 1, min(c.size, m.size), now, reason}
	} else {
		clear(d.excluded)
	}
	return reason
}
