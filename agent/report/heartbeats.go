package report

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/services/lease"
	"github.com/jmbarzee/dominion/topics"
)

// OfflineTimeout is how long PublishOffline waits for the broker.
const OfflineTimeout = 2 * time.Second

// stallTimeout is how long an iteration of the loop may take before it is reported.
const stallTimeout = 5 * time.Second

// Conn is the part of a connection that reports need: that of package link.
type Conn interface {
	Publish(topics.Message)
	Flush(context.Context) error
	Close()
}

// Heartbeats publishes the heartbeats of a domain and accepts its leases. It has
// a goroutine of its own, which never reads or writes a file: the loop waits for
// disks, as a change must be on disk before it takes effect, and a domain whose
// disk is slow is neither lost nor fenced. Make it with NewHeartbeats.
type Heartbeats struct {
	tree topics.Tree
	name string
	log  *slog.Logger
	wake chan struct{}

	// The fields before mu are set by Begin.

	// id is of the domain, run the session of this run of its agent.
	id, run string
	started time.Time
	// clock is the clock of leases.
	clock func() time.Duration
	// extend passes a renewed lease to the guards of exclusive services.
	extend func(until time.Duration)
	// sign returns a message as it is published; nil: the domain has no key.
	sign func(k topics.Kind, payload []byte) []byte

	// mu guards what follows.
	mu sync.Mutex
	// conn is the connection that was joined; nil: no heartbeats are published.
	conn Conn
	// connID is the number of conn.
	connID int
	// session has the keys of the last join.
	session Session
	seq     uint64
	// events is the number of the last event of this session.
	events uint64
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

// NewHeartbeats returns the heartbeats of a domain, by its name. Busy, Idle, Stalled and
// PublishOffline may be called at once, the other methods after Begin.
func NewHeartbeats(tree topics.Tree, name string, log *slog.Logger) *Heartbeats {
	return &Heartbeats{tree: tree, name: name, log: log, wake: make(chan struct{}, 1)}
}

// Begin sets the id of the domain and the session of this run of its agent, which
// started at a time. clock is the clock of leases; extend passes a renewed lease on, by
// whatever goroutine received it.
func (h *Heartbeats) Begin(id, session string, started time.Time, clock func() time.Duration, extend func(until time.Duration)) {
	h.id, h.run, h.started, h.clock, h.extend = id, session, started, clock, extend
	h.leases = lease.NewHolder(session)
}

// SetSigner sets what signs statuses and events, which then count within the session.
func (h *Heartbeats) SetSigner(sign func(k topics.Kind, payload []byte) []byte) { h.sign = sign }

// signed makes a message of this domain that is signed, if the domain has a key.
func (h *Heartbeats) signed(k topics.Kind, payload []byte) topics.Message {
	if h.sign != nil {
		payload = h.sign(k, payload)
	}
	return h.message(k, payload)
}

// publishEvent publishes an event on a connection. The caller holds mu: events are published
// in the order of their numbers.
func (h *Heartbeats) publishEvent(conn Conn, e topics.Event) {
	if h.sign != nil {
		h.events++
		e.Session, e.Seq = h.run, h.events
	}
	conn.Publish(h.signed(topics.DomainEvent, topics.Encode(e)))
}

// event publishes an event on a connection.
func (h *Heartbeats) event(conn Conn, e topics.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.publishEvent(conn, e)
}

// message makes a message of this domain.
func (h *Heartbeats) message(k topics.Kind, payload []byte) topics.Message {
	return h.tree.Message(topics.Address{Kind: k, Domain: h.name}, payload)
}

// Run publishes heartbeats until ctx ends.
func (h *Heartbeats) Run(ctx context.Context) {
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
func (h *Heartbeats) publishDue(now time.Time) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn == nil {
		return now.Add(time.Hour) // start wakes
	}
	if due(&h.dueAt, now, h.progress.interval) {
		h.publishHeartbeat(now)
	}
	if !h.busySince.IsZero() && !h.stallReported && now.Sub(h.busySince) >= stallTimeout {
		h.stallReported = true
		text := fmt.Sprintf("no service was started, stopped or watched for %.0f s: a disk of this domain does not answer, or the machine is overloaded; what runs goes on", now.Sub(h.busySince).Seconds())
		h.log.Warn(text)
		h.publishEvent(h.conn, newEvent(h.name, topics.DomainProblem, "", text))
	}
	return h.dueAt
}

// publishHeartbeat publishes one heartbeat. It does not move the next one.
func (h *Heartbeats) publishHeartbeat(now time.Time) {
	h.seq++
	at := h.progress.at
	h.conn.Publish(h.message(topics.DomainHeartbeat, h.session.withMAC(topics.DomainHeartbeat, topics.Encode(topics.Heartbeat{
		ID: h.id, Session: h.run, Seq: h.seq, At: topics.At(now),
		Uptime: topics.Seconds(now.Sub(h.started)), Epoch: at.Epoch, Generation: at.Generation, Run: at.Run,
		Status: h.progress.status, Lease: topics.Seconds(h.leases.Beat(h.seq, h.clock())),
	}))))
}

// start starts the heartbeats of a connection, the first one at once.
func (h *Heartbeats) start(conn Conn, connID int, p progress, now time.Time) {
	h.mu.Lock()
	h.conn, h.connID, h.progress = conn, connID, p
	h.publishHeartbeat(now)
	h.dueAt = now.Add(p.interval)
	h.mu.Unlock()
	h.rearm()
}

// setSession sets the keys of the last join.
func (h *Heartbeats) setSession(s Session) {
	h.mu.Lock()
	h.session = s
	h.mu.Unlock()
}

// stop stops the heartbeats, as the connection is over.
func (h *Heartbeats) stop() {
	h.mu.Lock()
	h.conn = nil
	h.mu.Unlock()
}

// update sets what the next heartbeats report, and publishes status, if it is not
// nil, before any of them: they refer to it. atOnce publishes a heartbeat now.
func (h *Heartbeats) update(p progress, status []byte, atOnce bool, now time.Time) {
	h.mu.Lock()
	if status != nil && h.conn != nil {
		h.conn.Publish(h.signed(topics.DomainStatus, status))
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

// rearm has Run look at the time of the next heartbeat again.
func (h *Heartbeats) rearm() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Busy marks the begin of an iteration of the loop.
func (h *Heartbeats) Busy(now time.Time) {
	h.mu.Lock()
	h.busySince = now
	h.mu.Unlock()
}

// Idle marks the end of an iteration of the loop.
func (h *Heartbeats) Idle(now time.Time) {
	h.mu.Lock()
	was, reported := h.busySince, h.stallReported
	h.busySince, h.stallReported = time.Time{}, false
	h.mu.Unlock()
	if reported {
		h.log.Warn("services are supervised again", "after", now.Sub(was).Round(time.Millisecond))
	}
}

// Stalled returns for how long the present iteration of the loop has taken.
func (h *Heartbeats) Stalled(now time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.busySince.IsZero() {
		return 0
	}
	return now.Sub(h.busySince)
}

// AcceptLease accepts the lease that a message of a connection holds, without the
// loop, which may be waiting for a disk. It reports false if the message is retained, or
// cannot be read: then the loop handles it.
func (h *Heartbeats) AcceptLease(connID int, m topics.Message) bool {
	if m.Retain {
		return false
	}
	h.mu.Lock()
	given, err := h.session.lease(m)
	renews := err == nil && connID == h.connID && h.conn != nil && h.leases.Accept(given, h.progress.at, h.clock())
	until := h.leases.Until()
	h.mu.Unlock()
	if renews {
		h.extend(until)
	}
	return err == nil
}

// CheckLease returns why a message that AcceptLease did not accept holds no lease.
func (h *Heartbeats) CheckLease(m topics.Message) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.session.lease(m)
	return err
}

// AdoptLease takes over the lease of the previous run of the agent.
func (h *Heartbeats) AdoptLease(until time.Duration) {
	h.mu.Lock()
	h.leases.Adopt(until)
	h.mu.Unlock()
}

// OnOffline sets what PublishOffline calls to end link and heartbeats.
func (h *Heartbeats) OnOffline(stop func()) {
	h.mu.Lock()
	h.stopLink = stop
	h.mu.Unlock()
}

// PublishOffline publishes that the domain is offline and closes the connection, in
// place of a loop that hangs.
func (h *Heartbeats) PublishOffline() {
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
	ctx, cancel := context.WithTimeout(context.Background(), OfflineTimeout)
	defer cancel()
	_ = conn.Flush(ctx)
	conn.Close()
}
