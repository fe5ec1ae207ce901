package agent

import (
	"bytes"
	"context"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmbarzee/dominion/agent/logs"
	"github.com/jmbarzee/dominion/agent/supervisor"
	"github.com/jmbarzee/dominion/agent/traits"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/internal/ratelimit"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// How often the loop looks after what does not tell by itself.
const (
	pollInterval   = 3 * time.Second        // catalog and addresses: "fresh within 5 s"
	logInterval    = 250 * time.Millisecond // while services run: a flood fills a disk by the second
	followInterval = 250 * time.Millisecond
	floodInterval  = 20 * time.Millisecond  // while a service fills its log
	shortest       = 100 * time.Millisecond // heartbeat, whatever a start command says
	stopMargin     = 5 * time.Second        // beyond the longest stop_timeout, at the end
	goodbyeTimeout = 2 * time.Second
)

// loop is the agent's state and what it does about events. One goroutine owns
// it.
type loop struct {
	config       config.Domain
	version      string
	id, session  string
	started      time.Time
	shown        topics.Time // when that was, as it was published last
	tree         topics.Tree
	log          *slog.Logger
	facts        Facts
	store        *store
	supervisor   *supervisor.Supervisor
	logs         *logs.Dir
	announce     func(ctx context.Context, member identity) // blocks
	lonelySignal chan bool
	drop         chan struct{}
	timing       topics.Timing
	heartbeats   *heartbeater

	// The connection, and what is known by it.
	conn     Conn // nil: none
	n        int  // its number
	ready    bool // joined: subscribed, heartbeats go
	grant    topics.Grant
	resynced time.Time // when a resync was obeyed last
	rejoined bool      // no start command was taken since the grant
	hub      hubView
	held     *topics.StartCommand // a retained one that must wait
	outbox   []topics.Message     // events for the next connection
	status   []byte               // as published by this connection
	told     uint64               // of the last status of this session, over all connections
	hubSeen  time.Time            // when the hub of this connection last published something
	unheard  time.Time            // since when no hub is reachable; zero: one is

	look       time.Duration // at least so long between two looks; tests alone set it
	lonely     bool
	silence    context.CancelFunc // ends the announcement of a lonely domain
	announcers sync.WaitGroup
	refusals   *ratelimit.Window
	ears       listener
	traits     *traits.Watch
	post       func(event any) // to this loop, from any goroutine
	catalog    []topics.CatalogRow
	addresses  []string
	reachedAt  atomic.Pointer[string] // the link reads it

	beatNow                  bool // a heartbeat is due at the end of this turn
	metricsAt, pollAt, logAt time.Time
	stopBy                   time.Time // zero: not stopping
}

// begin brings back what ran before, with or without a hub.
func (l *loop) begin(now time.Time) {
	l.traits.Look(now)
	l.poll(now)
	if l.store.taken {
		l.obeyTiming(l.store.command.Timing)
	}
	l.supervisor.Adopt(now)
	l.heartbeats.adopt(l.supervisor.Leased()) // that the guards of what was adopted know of
	if l.store.taken {
		c := l.store.command
		l.log.Info("starting what ran before", "services", len(c.Services), "epoch", c.Epoch, "generation", c.Generation)
		l.supervisor.Apply(c.Services, now)
	}
	l.unheard = now
	l.setLonely(true)
	l.logAt = now
}

// handle takes an event of the agent's own parts.
func (l *loop) handle(e any, now time.Time) {
	switch e := e.(type) {
	case supervisor.Event:
		l.supervisor.Handle(e, now)
	case linkUp:
		l.deaf(now)
		l.up(e)
	case linkReady:
		if e.n == l.n && l.conn != nil {
			l.join(now)
			l.subscribe(now)
		}
	case linkDown:
		if e.n == l.n {
			l.conn, l.ready = nil, false
			l.heartbeats.leave()
			l.deaf(now)
		}
	case problem:
		l.event(topics.DomainProblem, "", e.text)
	case subscribed:
		l.answered(e, now)
	case traits.Event:
		l.traits.Handle(e, now)
	case leaseRenewed:
		l.supervisor.Lease(e.until, now)
	case reload:
		l.reload(e.config, e.err)
	}
}

// up takes over a connection. What is known of the hub begins anew with it.
func (l *loop) up(e linkUp) {
	l.heartbeats.leave()
	l.conn, l.n, l.ready, l.grant, l.rejoined = e.conn, e.n, false, e.grant, true
	l.hub, l.held, l.status = hubView{}, nil, nil
	l.hubSeen = time.Now() // it granted the join a moment ago
	m := l.store.memory
	if m.Dominion.ID != "" && m.Dominion.ID != e.grant.Dominion {
		l.log.Warn("this domain changes its dominion", "from", m.Dominion.Name, "to", e.grant.Name)
	}
	m.Dominion, m.Hub = identity{e.grant.Dominion, e.grant.Name}, e.url
	l.wrote(l.store.remember(m, time.Now()))
}

// join publishes all of our state: a broker keeps nothing for us that it may
// not have lost.
func (l *loop) join(now time.Time) {
	l.ready = true
	l.log.Info("joined", "dominion", l.grant.Name, "hub", l.store.memory.Hub, "epoch", l.grant.Epoch)
	l.publish(topics.DomainAvailability, []byte(topics.Online))
	l.publish(topics.DomainStatus, l.newStatus())
	l.metrics(now) // before the heartbeat that makes us online: what we are given must fit the machine
	l.metricsAt = now.Add(l.every(topics.MetricsInterval))
	l.heartbeats.join(l.conn, l.n, l.progress(), now)
	for _, m := range l.outbox {
		l.conn.Publish(m)
	}
	l.outbox = nil
}

// turn does what is due, after the events of this turn.
func (l *loop) turn(now time.Time) {
	if due(&l.pollAt, now, l.every(pollInterval)) {
		l.poll(now)
	}
	l.traits.Look(now)
	l.askAgain(now)
	l.supervisor.Tick(now)
	if l.watching(now) && !now.Before(l.logAt) {
		l.publishLogs(now)
		l.logAt = now.Add(l.logEvery(now))
	}
	l.feelLonely(now)
	if l.ready {
		status := l.newStatus() // before the heartbeat that says which command it is of
		l.heartbeats.show(l.progress(), status, l.beatNow, now)
		l.beatNow = false
		if due(&l.metricsAt, now, l.every(topics.MetricsInterval)) {
			l.metrics(now)
		}
	}
}

func (l *loop) metrics(now time.Time) {
	l.publish(topics.DomainMetrics, topics.Encode(l.facts.Metrics(now, l.supervisor.Groups())))
}

// due tells whether a moment has come, and sets the next. A loop that was
// away for long (suspended) does not catch up.
func due(at *time.Time, now time.Time, every time.Duration) bool {
	if now.Before(*at) {
		return false
	}
	if *at = at.Add(every); !at.After(now) {
		*at = now.Add(every)
	}
	return true
}

// next is when turn has something to do, if nothing happens before.
func (l *loop) next() time.Time {
	at := l.pollAt
	sooner := func(t time.Time) {
		if t.Before(at) {
			at = t
		}
	}
	if t, ok := l.supervisor.Next(); ok {
		sooner(t)
	}
	if t, ok := l.traits.Next(); ok {
		sooner(t)
	}
	if l.watching(time.Now()) {
		sooner(l.logAt)
	}
	if l.ready {
		sooner(l.metricsAt)
	}
	if silent := l.silentAt(); l.ready && !silent.IsZero() && l.unheard.IsZero() {
		sooner(silent)
	}
	if !l.lonely && !l.unheard.IsZero() {
		sooner(l.unheard.Add(l.timing.Isolation.Duration()))
	}
	if !l.stopBy.IsZero() {
		sooner(l.stopBy)
	}
	return at
}

// poll notices what changed on the machine.
func (l *loop) poll(now time.Time) {
	if l.pollAt.IsZero() {
		l.pollAt = now.Add(l.every(pollInterval))
	}
	var problems []string
	l.catalog, problems = l.facts.Catalog()
	for _, p := range problems {
		l.log.Warn(p)
		l.event(topics.DomainProblem, "", p)
	}
	old := l.reachedAt.Load()
	address, all := l.facts.Addresses()
	switch {
	case l.config.Address != "":
		address = l.config.Address
	case address == "" && old != nil:
		address = *old // a cable is out: most come back with the address they had
	case address == "":
		address = "127.0.0.1"
	}
	if old == nil || *old != address {
		if old != nil {
			l.log.Info("this domain's address changed", "from", *old, "to", address)
		}
		l.reachedAt.Store(&address)
	}
	l.addresses = all
	l.store.retry(now)
}

// silentAt is when a hub that publishes nothing any more is taken for gone: no will
// says so where a broker, as a node of a cluster, died with it. Zero: never, as the
// hub's broker is its own.
func (l *loop) silentAt() time.Time {
	if l.grant.Alive <= 0 {
		return time.Time{}
	}
	return l.hubSeen.Add(3 * l.grant.Alive.Duration())
}

// sawHub takes that a message came which only a hub publishes, and now.
func (l *loop) sawHub(k topics.Kind, now time.Time) {
	switch k {
	case topics.HubAvailability, topics.HubStatus, topics.DomainServicesSet, topics.DomainLease:
		l.hubSeen = now
	}
}

// feelLonely notices for how long no hub was reachable.
func (l *loop) feelLonely(now time.Time) {
	silent := l.silentAt()
	reachable := l.ready && l.hub.availability != topics.Offline && (silent.IsZero() || now.Before(silent))
	switch {
	case reachable:
		l.unheard = time.Time{}
		if l.lonely {
			l.setLonely(false)
		}
	case l.unheard.IsZero():
		l.unheard = now
	case !l.lonely && now.Sub(l.unheard) >= l.timing.Isolation.Duration():
		l.log.Warn("no hub for a while: lonely; the services run on, looking for a hub", "since", l.unheard.Format(time.TimeOnly))
		l.setLonely(true)
	}
}

// setLonely tells the link to look further, and announces that we are here.
func (l *loop) setLonely(lonely bool) {
	l.lonely = lonely
	select {
	case <-l.lonelySignal: // an older word
	default:
	}
	l.lonelySignal <- lonely
	l.silence()
	if lonely {
		var ctx context.Context
		ctx, l.silence = context.WithCancel(context.Background())
		member := l.store.memory.Dominion
		l.announcers.Go(func() { l.announce(ctx, member) })
	}
}

// progress is what the heartbeats say of this loop.
func (l *loop) progress() progress { return progress{l.position(), l.told, l.interval()} }

// every is how often the loop looks after something that does not tell by itself.
func (l *loop) every(interval time.Duration) time.Duration { return max(interval, l.look) }

func (l *loop) interval() time.Duration { return max(shortest, l.timing.Heartbeat.Duration()) }

// newStatus returns the status to publish; nil if it is the last one still.
func (l *loop) newStatus() []byte {
	at, instances := l.position(), l.supervisor.Instances()
	catalog := l.withRunning(instances)
	status := topics.Domain{
		ID: l.id, Name: l.config.Name, Session: l.session, Seq: l.told, Version: l.version, Protocol: topics.Protocol,
		OS: runtime.GOOS, Arch: runtime.GOARCH, Address: l.address(), Addresses: l.addresses,
		Traits: l.offered(), StartedAt: l.startedAt(time.Now()), Draining: l.store.memory.Draining,
		Epoch: at.Epoch, Generation: at.Generation, Run: at.Run,
		Services: list(instances), Catalog: list(catalog), Problems: l.traits.Problems(time.Now()),
	}
	if bytes.Equal(topics.Encode(status), l.status) {
		return nil
	}
	l.told++
	status.Seq = l.told
	l.status = topics.Encode(status)
	return l.status
}

// withRunning returns the catalog with what runs and cannot be read on disk at
// present: a service.toml that is half written, a directory between two mv, a
// mount that is away. That is no reason for the hub to stop it. It marks these
// instances.
func (l *loop) withRunning(instances []topics.Instance) []topics.CatalogRow {
	all := l.catalog
	for n := range instances {
		i := &instances[n]
		if i.State != topics.Running && i.State != topics.Starting || slices.ContainsFunc(l.catalog, func(r topics.CatalogRow) bool { return r.Service == i.Service }) {
			continue
		}
		all = append(slices.Clip(all), topics.CatalogRow{Service: i.Service, Version: i.Version})
		if i.Message == "" {
			i.Message = "it runs on, but could not be started again: its directory or its service.toml in services_dir cannot be read"
		}
	}
	if len(all) == len(l.catalog) {
		return all
	}
	slices.SortFunc(all, func(a, b topics.CatalogRow) int { return strings.Compare(a.Service, b.Service) })
	return all
}

// offered are the traits of the configuration, and those that are there now.
func (l *loop) offered() []string {
	all := slices.Clone(list(l.config.Traits))
	for _, t := range l.traits.Present() {
		if !slices.Contains(all, t) {
			all = append(all, t)
		}
	}
	return all
}

// list returns a list that is [] on the wire when it is empty, not null.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// publish publishes on a topic of this domain, if there is a connection.
func (l *loop) publish(k topics.Kind, payload []byte) {
	if l.conn != nil {
		l.conn.Publish(l.tree.Message(topics.Address{Kind: k, Domain: l.config.Name}, payload))
	}
}

// maxOutbox is how many events are kept while nobody can be told.
const maxOutbox = 100

func eventMessage(tree topics.Tree, domain string, kind topics.EventType, service, message string) topics.Message {
	e := topics.Event{At: topics.At(time.Now()), Type: kind, Domain: domain, Service: service, Message: message}
	return tree.Message(topics.Address{Kind: topics.DomainEvent, Domain: domain}, topics.Encode(e))
}

// event tells people what happened, now or after the next join.
func (l *loop) event(kind topics.EventType, service, message string) {
	m := eventMessage(l.tree, l.config.Name, kind, service, message)
	if l.ready {
		l.conn.Publish(m)
		return
	}
	if len(l.outbox) == maxOutbox {
		l.outbox = slices.Delete(l.outbox, 0, 1)
	}
	l.outbox = append(l.outbox, m)
}

// wrote says what could not be written to disk.
func (l *loop) wrote(err error) {
	if err != nil {
		l.log.Error(err.Error())
		l.event(topics.DomainProblem, "", err.Error())
	}
}

// overrun gets again what was lost: state topics are retained.
func (l *loop) overrun(lost int) {
	l.log.Error("more messages came than could be handled, connecting anew", "lost", lost)
	l.reconnect()
}

// reconnect has the link end the connection and join again.
func (l *loop) reconnect() {
	select {
	case l.drop <- struct{}{}:
	default:
	}
}

// stop begins the end. Exclusive services end in any case: nobody would renew
// their lease, and whoever is to have them next shall not have to wait for it.
func (l *loop) stop(now time.Time) {
	longest := services.DefaultStopTimeout
	for _, s := range l.store.command.Services {
		longest = max(longest, s.StopTimeout.Duration())
	}
	l.stopBy = now.Add(longest + stopMargin)
	switch {
	case l.config.StopServicesOnExit:
		l.log.Info("stopping, with all services")
		l.supervisor.StopAll(now)
	case l.supervisor.StopExclusive(now):
		l.log.Info("stopping, with the exclusive services; the others run on")
	default:
		l.log.Info("stopping; the services run on")
	}
}

// stopped tells whether nothing is left to wait for.
func (l *loop) stopped(now time.Time) bool {
	idle := l.supervisor.IdleExclusive
	if l.config.StopServicesOnExit {
		idle = l.supervisor.Idle
	}
	if !idle() {
		if now.Before(l.stopBy) {
			return false
		}
		l.log.Error("services are left that did not stop")
	}
	return true
}

// goodbye says offline and disconnects. The link is gone by now.
func (l *loop) goodbye() {
	l.silence()
	l.heartbeats.leave()
	defer l.announcers.Wait()
	if l.conn == nil {
		return
	}
	l.publish(topics.DomainAvailability, []byte(topics.Offline))
	ctx, cancel := context.WithTimeout(context.Background(), goodbyeTimeout)
	defer cancel()
	if err := l.conn.Flush(ctx); err != nil {
		l.log.Warn("cannot say goodbye to the hub", "error", err)
	}
	l.conn.Close()
}

// startedAt is when this run of the agent began, by the clock as it is now.
func (l *loop) startedAt(now time.Time) topics.Time {
	l.shown = topics.StartedAt(l.started, now, l.shown)
	return l.shown
}
