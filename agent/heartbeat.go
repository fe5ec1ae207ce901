package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/services/lease"
	"github.com/jmbarzee/dominion/topics"
)

// stalledAfter is how long a turn of the loop may take before people are told.
const stalledAfter = 5 * time.Second

// heartbeater publishes the heartbeats of a domain and takes its leases. It has
// a goroutine of its own, which never reads or writes a file: the loop waits for
// disks, as a step must be on disk before it is taken, and a domain whose disk
// is slow is neither lost nor fenced.
type heartbeater struct {
	id, session string
	started     time.Time
	message     func(k topics.Kind, payload []byte) topics.Message // of this domain
	event       func(kind topics.EventType, message string) topics.Message
	clock       func() time.Duration      // that leases go by
	extend      func(until time.Duration) // lets the guards of exclusive services know
	log         *slog.Logger
	wake        chan struct{}

	mu       sync.Mutex
	conn     Conn // joined; nil: no heartbeats
	n        int  // its number
	seq      uint64
	shown    progress // as of the last turn of the loop
	dueAt    time.Time
	leases   *lease.Holder
	busy     time.Time // since when the loop is in a turn; zero: it waits for events
	reported bool      // that this turn takes long
	unlink   func()    // ends the link and the heartbeats; nil: they did not begin
}

// progress is what a heartbeat says of the loop: the start command that it
// obeys and the status that it published last.
type progress struct {
	at       lease.Position
	status   uint64
	interval time.Duration
}

// run publishes heartbeats until ctx ends.
func (h *heartbeater) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		case <-timer.C:
		}
		timer.Reset(time.Until(h.turn(time.Now())))
	}
}

// turn does what is due, and returns when the next is.
func (h *heartbeater) turn(now time.Time) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn == nil {
		return now.Add(time.Hour) // join wakes
	}
	if due(&h.dueAt, now, h.shown.interval) {
		h.beat(now)
	}
	if !h.busy.IsZero() && !h.reported && now.Sub(h.busy) >= stalledAfter {
		h.reported = true
		text := fmt.Sprintf("no service was started, stopped or watched for %.0f s: a disk of this domain does not answer, or the machine is overloaded; what runs goes on", now.Sub(h.busy).Seconds())
		h.log.Warn(text)
		h.conn.Publish(h.event(topics.DomainProblem, text))
	}
	return h.dueAt
}

// beat publishes one heartbeat. It does not move the next one.
func (h *heartbeater) beat(now time.Time) {
	h.seq++
	at := h.shown.at
	h.conn.Publish(h.message(topics.DomainHeartbeat, topics.Encode(topics.Heartbeat{
		ID: h.id, Session: h.session, Seq: h.seq, At: topics.At(now),
		Uptime: topics.Seconds(now.Sub(h.started)), Epoch: at.Epoch, Generation: at.Generation, Run: at.Run,
		Status: h.shown.status, Lease: topics.Seconds(h.leases.Beat(h.seq, h.clock())),
	})))
}

// join begins the heartbeats of a connection, the first one at once.
func (h *heartbeater) join(conn Conn, n int, p progress, now time.Time) {
	h.mu.Lock()
	h.conn, h.n, h.shown = conn, n, p
	h.beat(now)
	h.dueAt = now.Add(p.interval)
	h.mu.Unlock()
	h.rearm()
}

// leave ends them: the connection is over.
func (h *heartbeater) leave() {
	h.mu.Lock()
	h.conn = nil
	h.mu.Unlock()
}

// show takes what the next heartbeats say, and publishes the status that they
// name, where it is a new one: no heartbeat comes between. atOnce: one is due
// now.
func (h *heartbeater) show(p progress, status []byte, atOnce bool, now time.Time) {
	h.mu.Lock()
	if status != nil && h.conn != nil {
		h.conn.Publish(h.message(topics.DomainStatus, status))
	}
	sooner := p.interval < h.shown.interval
	h.shown = p
	if atOnce && h.conn != nil {
		h.beat(now)
		h.dueAt = now.Add(p.interval)
	}
	h.mu.Unlock()
	if sooner {
		h.rearm()
	}
}

func (h *heartbeater) rearm() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// begins and ends bracket a turn of the loop.
func (h *heartbeater) begins(now time.Time) {
	h.mu.Lock()
	h.busy = now
	h.mu.Unlock()
}

func (h *heartbeater) ends(now time.Time) {
	h.mu.Lock()
	was, reported := h.busy, h.reported
	h.busy, h.reported = time.Time{}, false
	h.mu.Unlock()
	if reported {
		h.log.Warn("services are looked after again", "after", now.Sub(was).Round(time.Millisecond))
	}
}

// stalled returns for how long the loop has been in its turn.
func (h *heartbeater) stalled(now time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.busy.IsZero() {
		return 0
	}
	return now.Sub(h.busy)
}

// lease takes a lease that connection n brought, and reports whether it renews
// the one that is there.
func (h *heartbeater) lease(n int, l topics.Lease) bool {
	h.mu.Lock()
	taken := n == h.n && h.conn != nil && h.leases.Accept(l, h.shown.at, h.clock())
	until := h.leases.Until()
	h.mu.Unlock()
	if taken {
		h.extend(until)
	}
	return taken
}

// adopt takes over the lease of a run of the agent before this one.
func (h *heartbeater) adopt(until time.Duration) {
	h.mu.Lock()
	h.leases.Adopt(until)
	h.mu.Unlock()
}

// goodbye says offline on the connection that stands, for a loop that cannot.
func (h *heartbeater) goodbye() {
	h.mu.Lock()
	conn := h.conn
	h.conn = nil
	if h.unlink != nil {
		h.unlink()
	}
	h.mu.Unlock()
	if conn == nil {
		return
	}
	conn.Publish(h.message(topics.DomainAvailability, []byte(topics.Offline)))
	ctx, cancel := context.WithTimeout(context.Background(), goodbyeTimeout)
	defer cancel()
	_ = conn.Flush(ctx)
	conn.Close()
}
