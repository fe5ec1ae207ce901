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

// stallTimeout is how long an iteration of the loop may take before it is reported.
const stallTimeout = 5 * time.Second

// heartbeater publishes the heartbeats of a domain and accepts its leases. It has
// a goroutine of its own, which never reads or writes a file: the loop waits for
// disks, as a change must be on disk before it takes effect, and a domain whose
// disk is slow is neither lost nor fenced.
type heartbeater struct {
	id, session string
	started     time.Time
	// message makes a message of this domain.
	message func(k topics.Kind, payload []byte) topics.Message
	event   func(kind topics.EventType, message string) topics.Message
	// clock is the clock of leases.
	clock func() time.Duration
	// extend passes a renewed lease to the guards of exclusive services.
	extend func(until time.Duration)
	log    *slog.Logger
	wake   chan struct{}

	mu sync.Mutex
	// conn is the connection that was joined; nil: no heartbeats are published.
	conn Conn
	// connID is the number of conn.
	connID int
	seq    uint64
	// progress is as of the last iteration of the loop.
	progress progress
	dueAt    time.Time
	leases   *lease.Holder
	// busySince is when the present iteration of the loop began; zero: it waits for events.
	busySince time.Time
	// stallReported reports that the length of this iteration was reported.
	stallReported bool
	// stopLink ends the link and the heartbeats; nil: they have not started.
	stopLink func()
}

// progress is what a heartbeat reports of the loop: the position of the start
// command that is in force, and the number of the status that was published last.
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
		timer.Reset(time.Until(h.publishDue(time.Now())))
	}
}

// publishDue publishes a heartbeat if one is due, reports a loop that stalls, and
// returns when the next heartbeat is due.
func (h *heartbeater) publishDue(now time.Time) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn == nil {
		return now.Add(time.Hour) // join wakes
	}
	if due(&h.dueAt, now, h.progress.interval) {
		h.publishHeartbeat(now)
	}
	if !h.busySince.IsZero() && !h.stallReported && now.Sub(h.busySince) >= stallTimeout {
		h.stallReported = true
		text := fmt.Sprintf("no service was started, stopped or watched for %.0f s: a disk of this domain does not answer, or the machine is overloaded; what runs goes on", now.Sub(h.busySince).Seconds())
		h.log.Warn(text)
		h.conn.Publish(h.event(topics.DomainProblem, text))
	}
	return h.dueAt
}

// publishHeartbeat publishes one heartbeat. It does not move the next one.
func (h *heartbeater) publishHeartbeat(now time.Time) {
	h.seq++
	at := h.progress.at
	h.conn.Publish(h.message(topics.DomainHeartbeat, topics.Encode(topics.Heartbeat{
		ID: h.id, Session: h.session, Seq: h.seq, At: topics.At(now),
		Uptime: topics.Seconds(now.Sub(h.started)), Epoch: at.Epoch, Generation: at.Generation, Run: at.Run,
		Status: h.progress.status, Lease: topics.Seconds(h.leases.Beat(h.seq, h.clock())),
	})))
}

// start starts the heartbeats of a connection, the first one at once.
func (h *heartbeater) start(conn Conn, n int, p progress, now time.Time) {
	h.mu.Lock()
	h.conn, h.connID, h.progress = conn, n, p
	h.publishHeartbeat(now)
	h.dueAt = now.Add(p.interval)
	h.mu.Unlock()
	h.rearm()
}

// stop stops the heartbeats, as the connection is over.
func (h *heartbeater) stop() {
	h.mu.Lock()
	h.conn = nil
	h.mu.Unlock()
}

// update sets what the next heartbeats report, and publishes status, if it is not
// nil, before any of them: they refer to it. atOnce publishes a heartbeat now.
func (h *heartbeater) update(p progress, status []byte, atOnce bool, now time.Time) {
	h.mu.Lock()
	if status != nil && h.conn != nil {
		h.conn.Publish(h.message(topics.DomainStatus, status))
	}
	sooner := p.interval < h.progress.interval
	h.progress = p
	if atOnce && h.conn != nil {
		h.publishHeartbeat(now)
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

// loopBusy marks the begin of an iteration of the loop, loopIdle its end.
func (h *heartbeater) loopBusy(now time.Time) {
	h.mu.Lock()
	h.busySince = now
	h.mu.Unlock()
}

func (h *heartbeater) loopIdle(now time.Time) {
	h.mu.Lock()
	was, reported := h.busySince, h.stallReported
	h.busySince, h.stallReported = time.Time{}, false
	h.mu.Unlock()
	if reported {
		h.log.Warn("services are supervised again", "after", now.Sub(was).Round(time.Millisecond))
	}
}

// stalled returns for how long the present iteration of the loop has taken.
func (h *heartbeater) stalled(now time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.busySince.IsZero() {
		return 0
	}
	return now.Sub(h.busySince)
}

// acceptLease accepts a lease that came by connection n, and reports whether it
// renews the present one.
func (h *heartbeater) acceptLease(n int, l topics.Lease) bool {
	h.mu.Lock()
	taken := n == h.connID && h.conn != nil && h.leases.Accept(l, h.progress.at, h.clock())
	until := h.leases.Until()
	h.mu.Unlock()
	if taken {
		h.extend(until)
	}
	return taken
}

// adoptLease takes over the lease of the previous run of the agent.
func (h *heartbeater) adoptLease(until time.Duration) {
	h.mu.Lock()
	h.leases.Adopt(until)
	h.mu.Unlock()
}

// publishOffline publishes that the domain is offline and closes the connection, in
// place of a loop that hangs.
func (h *heartbeater) publishOffline() {
	h.mu.Lock()
	conn := h.conn
	h.conn = nil
	if h.stopLink != nil {
		h.stopLink()
	}
	h.mu.Unlock()
	if conn == nil {
		return
	}
	conn.Publish(h.message(topics.DomainAvailability, []byte(topics.Offline)))
	ctx, cancel := context.WithTimeout(context.Background(), disconnectTimeout)
	defer cancel()
	_ = conn.Flush(ctx)
	conn.Close()
}
