package agent

import (
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/agent/link"
	"github.com/jmbarzee/dominion/agent/report"
	"github.com/jmbarzee/dominion/agent/signatures"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// rejoining decides when an adopted domain joins again over the connection that it has: when
// the hub's status, which it has signed, is of another run than the one that granted the last
// join. That run has none of the keys of the MACs, so until then it hears nothing of this
// domain. It also joins again when the hub's start commands are older than one that it has
// obeyed: the join shows the hub that one, and the hub raises its epoch above it.
type rejoining struct {
	// granted is the run of the last grant, other the one of the last status.
	granted, other string
	// status is what was taken of the last status.
	status statusPart
	// behind is set when a start command of the hub was refused as an old one.
	behind bool
	// busy is set while the link asks.
	busy bool
	// next is when it may ask again, delay how long that is after a join that was useless:
	// somebody replays the status of a former run.
	next  time.Time
	delay time.Duration
}

// statusPart is what a domain takes of hub/status.
type statusPart struct {
	run, protocol, key, registry string
	epoch                        uint64
}

// The delay between two useless joins doubles, from the first to the second of these.
const (
	minRejoinDelay = time.Second
	maxRejoinDelay = time.Minute
)

// join begins with the grant of a new connection.
func (r *rejoining) join(run string) { *r = rejoining{granted: run, other: run} }

// due reports whether the domain must join again now.
func (r *rejoining) due(now time.Time) bool {
	return !r.busy && (r.behind || r.other != r.granted) && !now.Before(r.next)
}

// Next returns when due may be true; zero: not by itself.
func (r *rejoining) Next() time.Time {
	if r.busy || !r.behind && r.other == r.granted {
		return time.Time{}
	}
	return r.next
}

// done takes the result of a join.
func (r *rejoining) done(run string, err error, now time.Time) {
	r.busy, r.behind = false, false
	if err != nil {
		r.next = now.Add(minRejoinDelay)
		return
	}
	if run == r.granted { // it was the status of a former run, or an old start command
		r.delay = min(max(2*r.delay, minRejoinDelay), maxRejoinDelay)
		r.next = now.Add(r.delay)
	} else {
		r.delay = 0
	}
	r.granted, r.other = run, run
}

// signedHubStatus takes a status of the hub that must be signed. One that says nothing new to a
// domain is not verified, and nothing follows from it.
func (l *loop) signedHubStatus(m incoming, now time.Time) {
	o := signatures.Order{ConnID: m.connID, Kind: topics.HubStatus, Message: m.Message}
	var err error
	if o.Head, err = signatures.Head(m.Message); err == nil {
		var payload []byte
		if payload, err = signed.Unverified(m.Payload); err == nil {
			h, unreadable := topics.Decode[topics.Hub](m.Topic, payload)
			if unreadable == nil && partOf(h) == l.rejoining.status {
				return
			}
			err = unreadable
		}
	}
	if err == nil {
		err = l.signatures.Add(o, now)
	}
	l.refuseHubStatus(err, now)
	l.verify(now)
}

func partOf(h topics.Hub) statusPart {
	return statusPart{h.Run, h.Protocol, h.Key, registryOf(h), h.Epoch}
}

// refuseHubStatus reports why a status of the hub is not believed.
func (l *loop) refuseHubStatus(err error, now time.Time) {
	if err != nil {
		l.reports.Invalid(fmt.Errorf("cannot take %s: %w", l.tree.Hub(topics.HubStatus), err), now)
	}
}

// verifiedHubStatus takes a status of the hub whose signature was verified.
func (l *loop) verifiedHubStatus(o signatures.Order, now time.Time) {
	h, err := topics.Decode[topics.Hub](o.Message.Topic, o.Payload)
	if err != nil {
		l.refuseHubStatus(err, now)
		return
	}
	if o.Message.Retain && h.Epoch < l.orders.Granted() {
		return // the hub has not replaced that of its former run yet
	}
	if !o.Message.Retain {
		l.hubActive(topics.HubStatus, now)
	}
	l.rejoining.status = partOf(h)
	if h.Run != "" {
		l.rejoining.other = h.Run
	}
	l.hubStatus(topics.Message{Topic: o.Message.Topic, Payload: o.Payload}, now)
}

// expireRejoining joins again when that is due.
func (l *loop) expireRejoining(now time.Time) {
	if l.connection.Joined() && l.rejoining.due(now) {
		l.rejoining.busy = true
		what := "the hub is another run: joining it again"
		if l.rejoining.behind {
			what = "the hub's start commands are older than one that was obeyed: joining it again, to show that one"
		}
		l.log.Info(what)
		l.link.Rejoin()
	}
}

// rejoined goes on with the grant of another join over the open connection.
func (l *loop) rejoined(e link.Rejoined, now time.Time) {
	if !l.connection.Open(e.ConnID) {
		return
	}
	l.rejoining.done(e.Grant.Run, e.Err, now)
	if e.Err != nil {
		return
	}
	l.connection.Rejoined(e.Grant, now)
	l.orders.Rejoin(e.Grant)
	l.reports.SetSession(l.sessionOf(e.Grant, e.Keys), now)
	l.reconsiderPending(now)
}

// sessionOf returns what the MACs of a join are made with.
func (l *loop) sessionOf(g topics.Grant, keys *signed.Keys) report.Session {
	return report.Session{Dominion: g.Dominion, Domain: l.id, Keys: keys}
}
