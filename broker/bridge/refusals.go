package bridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/broker/client"
)

// The directions of a Refusal.
const (
	Out = "out" // the other broker refused what we have
	In  = "in"  // our broker refused what the other one has
)

// Refusal is a message that one side did not take, and that was left out.
type Refusal struct {
	At        time.Time
	Direction string // Out or In
	Topic     string // as the side that refused it has it
	Reason    string
	Size      int // bytes of the packet
	Limit     int // of these; 0: that is not the reason
}

// String says what was refused and why.
func (r Refusal) String() string {
	if r.Limit > 0 {
		return fmt.Sprintf("%s: %d bytes, the limit is %d", r.Reason, r.Size, r.Limit)
	}
	return r.Reason
}

// Status is what a bridge is and did since the start.
type Status struct {
	Connected bool
	Since     time.Time // when it was connected, or no longer was
	Reason    string    // why it is not connected
	Refused   uint64    // messages
	Last      *Refusal  // of these
	Filters   []string  // subscriptions that are refused, with the reason, sorted
}

// refusals is what others may ask of a bridge while it runs.
type refusals struct {
	mu           sync.Mutex
	status       Status
	unsubscribed map[string]string // refused subscriptions, with the reason
	logged       map[string]bool   // topics since logFrom
	logFrom      time.Time
}

// Status returns a copy.
func (r *refusals) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	for _, f := range slices.Sorted(maps.Keys(r.unsubscribed)) {
		s.Filters = append(s.Filters, f+": "+r.unsubscribed[f])
	}
	return s
}

// state takes whether the bridge carries.
func (b *Bridge) state(up bool, why string) {
	b.mu.Lock()
	if b.status.Connected != up {
		b.status.Connected, b.status.Since = up, time.Now()
	}
	b.status.Reason = why
	b.mu.Unlock()
	b.State(up, why)
}

// The bound of what is logged of refusals.
const (
	loggedTopics = 20
	loggedWithin = time.Hour
)

// refuse counts a message that is left out, and logs it, each topic once an hour
// and no more than a few.
func (b *Bridge) refuse(r Refusal) {
	r.At = time.Now()
	b.mu.Lock()
	b.status.Refused++
	b.status.Last = &r
	if b.logged == nil || r.At.Sub(b.logFrom) > loggedWithin {
		b.logged, b.logFrom = make(map[string]bool), r.At
	}
	log := !b.logged[r.Topic] && len(b.logged) < loggedTopics
	if log {
		b.logged[r.Topic] = true
	}
	b.mu.Unlock()
	b.Dropped(r.Topic, r.String())
	if log {
		b.Log.Warn("a message is not carried: it was refused", "bridge", b.Name, "direction", r.Direction, "topic", r.Topic, "reason", r.String(), "size", r.Size)
	}
}

// asked is what a side was asked for in this run.
type asked struct {
	all   bool // every filter was answered
	open  []string
	ended map[string]int // connections that the broker ended at a filter
}

// endings is how many connections a broker ends at one filter, or at one message,
// before that is taken for its refusal.
const endings = 2

// subscribe asks a side for filters. One that is refused is no reason not to
// carry the others: it is reported, and asked for again with the next connection.
func (b *Bridge) subscribe(ctx context.Context, c *client.Conn, a *asked, way string, filters []string) error {
	if c.Resumed() && a.all {
		filters = a.open
	}
	var open []string
	for _, f := range filters {
		if a.ended[f] >= endings {
			open = append(open, f)
			a.ended[f] = 0 // the next connection tries it again
			continue
		}
		err := c.Subscribe(ctx, f)
		switch {
		case errors.Is(err, client.ErrRefused):
			open = append(open, f)
			b.refuseFilter(way, f, client.ErrRefused.Error())
		case err != nil:
			c.Close()
			if by, _ := c.EndedByBroker(); by {
				if a.ended == nil {
					a.ended = make(map[string]int)
				}
				if a.ended[f]++; a.ended[f] >= endings {
					b.refuseFilter(way, f, "the broker ends the connection when it is asked for this")
				}
			}
			return err
		default:
			b.acceptFilter(way, f)
		}
	}
	a.all, a.open = true, open
	return nil
}

func (b *Bridge) refuseFilter(way, filter, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := way + " " + filter
	if b.unsubscribed[key] == why {
		return
	}
	if b.unsubscribed == nil {
		b.unsubscribed = make(map[string]string)
	}
	b.unsubscribed[key] = why
	b.Log.Warn("the bridge does not carry this filter: the subscription was refused", "bridge", b.Name, "direction", way, "filter", filter, "reason", why)
}

func (b *Bridge) acceptFilter(way, filter string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.unsubscribed, way+" "+filter)
}
