// Package report is what a domain reports to its hub: its status, metrics, events and
// heartbeats, and how often something that is repeated is reported.
//
// A Reporter is used by the agent's loop; Heartbeats have a goroutine of their own. They
// do not know what the loop decides, nor how a connection is found. Only package agent
// imports the package.
package report

import (
	"bytes"
	"log/slog"
	"runtime"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/internal/ratelimit"
	"github.com/jmbarzee/dominion/services/lease"
	"github.com/jmbarzee/dominion/topics"
)

const (
	// maxOutbox is how many events are queued while there is no connection.
	maxOutbox = 100
	// maxRefusals is how many different refusals are reported in a minute, each once.
	maxRefusals = 20
)

// Options are what a reporter works with.
type Options struct {
	// ID, Name and Session identify the domain and this run of its agent.
	ID, Name, Session string
	// Version is that of the agent.
	Version string
	// Started is when this run of the agent began.
	Started time.Time
	Tree    topics.Tree
	Log     *slog.Logger
	// MetricsInterval is the time between two metrics.
	MetricsInterval time.Duration
	// Metrics measures the machine.
	Metrics func(now time.Time) topics.Metrics
	// Heartbeats publishes the heartbeats, which refer to the status.
	Heartbeats *Heartbeats
}

// Reporter publishes what a domain reports. While the domain has not joined, events
// are queued, and all else is published by the next Join. Make it with New.
type Reporter struct {
	o Options
	// conn is the connection by which the domain has joined; nil: it has not.
	conn Conn
	// outbox holds events for the next connection.
	outbox []topics.Event
	// status is the status as it was published last on conn; nil: it was not.
	status []byte
	// statusSeq is the number of the last status of this session, over all connections.
	statusSeq uint64
	// lastStartedAt is Options.Started as it was published last.
	lastStartedAt topics.Time
	// session has the keys of the last join.
	session Session
	// metricsAt is when the next metrics are due, metricsSeq the number of the last ones of
	// this session.
	metricsAt  time.Time
	metricsSeq uint64
	// heartbeatDue has the next Update publish a heartbeat at once.
	heartbeatDue bool
	refusals     *ratelimit.Window
}

// State is what the loop reports of this domain.
type State struct {
	// Domain is the status, but for what identifies the domain and its agent.
	Domain topics.Domain
	// Position is that of the start command in force.
	Position lease.Position
	// Heartbeat is the time between two heartbeats.
	Heartbeat time.Duration
}

// New returns a reporter of a domain that has not joined.
func New(o Options) *Reporter { return &Reporter{o: o, refusals: ratelimit.New(maxRefusals)} }

// Join publishes all of the domain's state on a connection by which it has joined: a
// broker keeps nothing for us that it may not have lost.
func (r *Reporter) Join(conn Conn, connID int, s State, now time.Time) {
	r.conn, r.status = conn, nil
	r.Online()
	conn.Publish(r.o.Heartbeats.signed(topics.DomainStatus, r.newStatus(s, now)))
	r.publishMetrics(now) // before the heartbeat that makes us online: what we are given must fit the machine
	r.metricsAt = now.Add(r.o.MetricsInterval)
	r.o.Heartbeats.start(conn, connID, r.progress(s), now)
	for _, e := range r.outbox {
		r.o.Heartbeats.event(conn, e)
	}
	r.outbox = nil
}

// SetSession sets the keys of a join. Over a connection that has joined before, as the hub is
// another run, which has none of the former keys, metrics and a heartbeat follow at once.
func (r *Reporter) SetSession(s Session, now time.Time) {
	r.session = s
	r.o.Heartbeats.setSession(s)
	if r.conn != nil {
		r.publishMetrics(now) // before the heartbeat, as at a join
		r.metricsAt, r.heartbeatDue = now.Add(r.o.MetricsInterval), true
	}
}

// Leave ends the reports, as the connection is over.
func (r *Reporter) Leave() {
	r.conn = nil
	r.o.Heartbeats.stop()
}

// Update publishes the status if it changed, then a heartbeat if one is to be published
// at once: that refers to it.
func (r *Reporter) Update(s State, now time.Time) {
	if r.conn == nil {
		return
	}
	status := r.newStatus(s, now)
	r.o.Heartbeats.update(r.progress(s), status, r.heartbeatDue, now)
	r.heartbeatDue = false
}

// Expire publishes metrics when they are due.
func (r *Reporter) Expire(now time.Time) {
	if r.conn != nil && due(&r.metricsAt, now, r.o.MetricsInterval) {
		r.publishMetrics(now)
	}
}

// Next returns when Expire has something to do; zero: not by itself.
func (r *Reporter) Next() time.Time {
	if r.conn == nil {
		return time.Time{}
	}
	return r.metricsAt
}

// Repeat has the retained state of this domain published again.
func (r *Reporter) Repeat(now time.Time) {
	if r.conn != nil {
		r.Online()
	}
	r.status = nil
	r.metricsAt = now
}

// Online publishes that the domain is online.
func (r *Reporter) Online() { r.publish(topics.DomainAvailability, []byte(topics.Online)) }

// Offline returns the message that the domain is offline.
func (r *Reporter) Offline() topics.Message {
	return r.message(topics.DomainAvailability, []byte(topics.Offline))
}

// HeartbeatAtOnce has the next Update publish a heartbeat.
func (r *Reporter) HeartbeatAtOnce() { r.heartbeatDue = true }

// progress returns what the heartbeats report.
func (r *Reporter) progress(s State) progress { return progress{s.Position, r.statusSeq, s.Heartbeat} }

// newStatus returns the status to publish; nil if it equals the last one.
func (r *Reporter) newStatus(s State, now time.Time) []byte {
	r.lastStartedAt = topics.StartedAt(r.o.Started, now, r.lastStartedAt)
	d := s.Domain
	d.ID, d.Name, d.Session, d.Seq = r.o.ID, r.o.Name, r.o.Session, r.statusSeq
	d.Version, d.Protocol, d.OS, d.Arch, d.StartedAt = r.o.Version, topics.Protocol, runtime.GOOS, runtime.GOARCH, r.lastStartedAt
	d.Epoch, d.Generation, d.Run = s.Position.Epoch, s.Position.Generation, s.Position.Run
	if bytes.Equal(topics.Encode(d), r.status) {
		return nil
	}
	r.statusSeq++
	d.Seq = r.statusSeq
	r.status = topics.Encode(d)
	return r.status
}

func (r *Reporter) publishMetrics(now time.Time) {
	m := r.o.Metrics(now)
	r.metricsSeq++
	m.Seq = r.metricsSeq
	r.publish(topics.DomainMetrics, r.session.withMAC(topics.DomainMetrics, topics.Encode(m)))
}

func (r *Reporter) message(k topics.Kind, payload []byte) topics.Message {
	return r.o.Tree.Message(topics.Address{Kind: k, Domain: r.o.Name}, payload)
}

// publish publishes on a topic of this domain, which has joined.
func (r *Reporter) publish(k topics.Kind, payload []byte) { r.conn.Publish(r.message(k, payload)) }

// Event publishes an event, now or by the next Join.
func (r *Reporter) Event(kind topics.EventType, service, message string) {
	e := newEvent(r.o.Name, kind, service, message)
	if r.conn != nil {
		r.o.Heartbeats.event(r.conn, e)
		return
	}
	if len(r.outbox) == maxOutbox {
		r.outbox = slices.Delete(r.outbox, 0, 1)
	}
	r.outbox = append(r.outbox, e)
}

// newEvent returns an event of a domain, of now.
func newEvent(domain string, kind topics.EventType, service, message string) topics.Event {
	return topics.Event{At: topics.At(time.Now()), Type: kind, Domain: domain, Service: service, Message: message}
}

// WriteError logs and publishes that something could not be written to disk, if err is
// not nil.
func (r *Reporter) WriteError(err error) {
	if err != nil {
		r.o.Log.Error(err.Error())
		r.Event(topics.DomainProblem, "", err.Error())
	}
}

// Invalid logs and publishes what is wrong with a payload, rate limited.
func (r *Reporter) Invalid(err error, now time.Time) {
	if r.mayReport(err.Error(), now) {
		r.o.Log.Warn("ignored a message", "error", err)
		r.Event(topics.MessageRefused, "", err.Error())
	}
}

// Refused logs and publishes why an order is not obeyed, rate limited. It reports whether
// it did.
func (r *Reporter) Refused(text string, now time.Time) bool {
	may := r.mayReport(text, now)
	if may {
		r.o.Log.Warn(text)
		r.Event(topics.CommandRefused, "", text)
	}
	return may
}

// mayReport reports whether a refusal may be logged and published now: a peer that
// repeats a mistake must not fill log and network.
func (r *Reporter) mayReport(text string, now time.Time) bool {
	r.refusals.Expire(now)
	return r.refusals.Allow(text, 1, now)
}

// due reports whether a time has come, and sets the next. A loop that did not run
// for long, as the machine was suspended, does not catch up.
func due(at *time.Time, now time.Time, every time.Duration) bool {
	if now.Before(*at) {
		return false
	}
	if *at = at.Add(every); !at.After(now) {
		*at = now.Add(every)
	}
	return true
}
