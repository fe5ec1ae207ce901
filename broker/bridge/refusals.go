package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/broker/client"
)

// The directions of a Refusal.
const (
	// Out: the other broker refused a message of ours.
	Out = "out"
	// In: our broker refused a message of the other one.
	In = "in"
)

// Refusal is a message that one side refused, and that was not forwarded.
type Refusal struct {
	At time.Time
	// Direction is Out or In.
	Direction string
	// Topic is the one at the side that refused the message.
	Topic  string
	Reason string
	// Size is the size of the packet in bytes.
	Size int
	// Limit is the maximum of Size; 0: that is not the reason.
	Limit int
}

// String returns the reason, with size and limit if those are.
func (r Refusal) String() string {
	if r.Limit > 0 {
		return fmt.Sprintf("%s: %d bytes, the limit is %d", r.Reason, r.Size, r.Limit)
	}
	return r.Reason
}

// The bounds of logging refusals: topics in a period.
const (
	maxLoggedTopics = 20
	logPeriod       = time.Hour
)

// refuse counts a message that is not forwarded, and logs it, within the bounds.
func (b *Bridge) refuse(r Refusal) {
	r.At = time.Now()
	b.mu.Lock()
	b.status.Refused++
	b.status.Last = &r
	if b.loggedTopics == nil || r.At.Sub(b.loggedSince) > logPeriod {
		b.loggedTopics, b.loggedSince = make(map[string]bool), r.At
	}
	log := !b.loggedTopics[r.Topic] && len(b.loggedTopics) < maxLoggedTopics
	if log {
		b.loggedTopics[r.Topic] = true
	}
	b.mu.Unlock()
	b.Dropped(r.Topic, r.String())
	if log {
		b.Log.Warn("a message is not forwarded: it was refused", "bridge", b.Name, "direction", r.Direction, "topic", r.Topic, "reason", r.String(), "size", r.Size)
	}
}

// subscriptions is the state of the subscriptions at one side in this run.
type subscriptions struct {
	// complete is set when every filter was answered.
	complete bool
	refused  []string
	// endings counts the connections that the broker ended at a filter.
	endings map[string]int
}

// endingsAsRefusal is how many times a broker must end the connection at the same
// filter, or message, for that to count as its refusal.
const endingsAsRefusal = 2

// subscribe subscribes to filters at one side. A refused filter does not prevent the
// others: it is reported, and tried again with the next connection.
func (b *Bridge) subscribe(ctx context.Context, c *client.Conn, a *subscriptions, direction string, filters []string) error {
	if c.Resumed() && a.complete {
		filters = a.refused
	}
	var refused []string
	for _, f := range filters {
		if a.endings[f] >= endingsAsRefusal {
			refused = append(refused, f)
			a.endings[f] = 0 // the next connection tries it again
			continue
		}
		err := c.Subscribe(ctx, f)
		refusal := new(client.SubscribeError)
		switch {
		case errors.As(err, &refusal):
			refused = append(refused, f)
			b.refuseFilter(direction, f, refusal.Reason())
		case err != nil:
			c.Close()
			if by, _ := c.EndedByBroker(); by {
				if a.endings == nil {
					a.endings = make(map[string]int)
				}
				if a.endings[f]++; a.endings[f] >= endingsAsRefusal {
					b.refuseFilter(direction, f, "the broker ends the connection at this subscription")
				}
			}
			return err
		default:
			b.acceptFilter(direction, f)
		}
	}
	a.complete, a.refused = true, refused
	return nil
}

// refuseFilter records and logs a refused subscription.
func (b *Bridge) refuseFilter(direction, filter, reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := direction + " " + filter
	if b.refusedFilters[key] == reason {
		return
	}
	if b.refusedFilters == nil {
		b.refusedFilters = make(map[string]string)
	}
	b.refusedFilters[key] = reason
	b.Log.Warn("the bridge does not forward this filter: the subscription was refused", "bridge", b.Name, "direction", direction, "filter", filter, "reason", reason)
}

// acceptFilter removes the record of a refused subscription.
func (b *Bridge) acceptFilter(direction, filter string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.refusedFilters, direction+" "+filter)
}
