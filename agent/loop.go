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

// The intervals of what the loop polls, and other times of it.
const (
	pollInterval      = 3 * time.Second        // catalog and addresses: "fresh within 5 s"
	logInterval       = 250 * time.Millisecond // while services run: a flood fills a disk by the second
	followInterval    = 250 * time.Millisecond
	floodInterval     = 20 * time.Millisecond  // while a service fills its log
	minHeartbeat      = 100 * time.Millisecond // the shortest heartbeat interval that a start command can set
	stopMargin        = 5 * time.Second        // beyond the longest stop_timeout, at the end
	disconnectTimeout = 2 * time.Second
)

// loop is the state of the agent and its handling of events. One goroutine owns
// it.
type loop struct {
	config      config.Domain
	version     string
	id, session string
	started     time.Time
	// lastStartedAt is started as it was published last.
	lastStartedAt topics.Time
	tree          topics.Tree
	log           *slog.Logger
	facts         Facts
	store         *store
	supervisor    *supervisor.Supervisor
	logs          *logs.Dir
	// announce announces this domain until ctx ends.
	announce func(ctx context.Context, member identity)
	// lonelySignal tells the link whether the domain is lonely; it holds the latest value.
	lonelySignal chan bool
	// drop has the link end its connection and connect again.
	drop       chan struct{}
	timing     topics.Timing
	heartbeats *heartbeater

	// conn is the connection to the hub's broker; nil: there is none.
	conn Conn
	// connID is the number of conn. Messages and events of another are void.
	connID int
	// ready reports that the agent has joined: it is subscribed and publishes heartbeats.
	ready bool
	// grant is the hub's answer to the last join.
	grant topics.Grant
	// lastResync is when a resync was carried out last.
	lastResync time.Time
	// rejoined reports that no start command was accepted since grant.
	rejoined bool
	hub      hubView
	// pendingCommand is a retained start command that waits until the hub is online; nil: none.
	pendingCommand *topics.StartCommand
	// outbox holds events for the next connection.
	outbox []topics.Message
	// status is the status as it was published last on conn.
	status []byte
	// statusSeq is the number of the last status of this session, over all connections.
	statusSeq uint64
	// hubActiveAt is when the hub of conn last published something.
	hubActiveAt time.Time
	// unreachableSince is since when no hub is reachable; zero: one is.
	unreachableSince time.Time

	// minPollInterval is Options.MinPollInterval.
	minPollInterval time.Duration
	// lonely reports that no hub was reachable for the isolation time: the domain
	// is announced by zeroconf, and the link searches for other hubs.
	lonely bool
	// withdraw ends the announcement of a lonely domain.
	withdraw context.CancelFunc
	// background is of announcements and of changes of subscriptions.
	background    sync.WaitGroup
	refusals      *ratelimit.Window
	subscriptions subscriptions
	traits        *traits.Watch
	// post sends an event to this loop, from any goroutine.
	post      func(event any)
	catalog   []topics.CatalogRow
	addresses []string
	// reachedAt is the address of this domain. The link reads it, too.
	reachedAt atomic.Pointer[string]

	// heartbeatDue has tick publish a heartbeat at once.
	heartbeatDue             bool
	metricsAt, pollAt, logAt time.Time
	// stopBy is when the end no longer waits for services; zero: the agent is not stopping.
	stopBy time.Time
}

// start adopts running services and applies the last start command, with or
// without a hub.
func (l *loop) start(now time.Time) {
	l.traits.Poll(now)
	l.poll(now)
	if l.store.taken {
		l.applyTiming(l.store.command.Timing)
	}
	l.supervisor.Adopt(now)
	l.heartbeats.adoptLease(l.supervisor.Leased()) // that the guards of what was adopted know of
	if l.store.taken {
		c := l.store.command
		l.log.Info("applying the last start command", "services", len(c.Services), "epoch", c.Epoch, "generation", c.Generation)
		l.supervisor.Apply(c.Services, now)
	}
	l.unreachableSince = now
	l.setLonely(true)
	l.logAt = now
}

// handle handles an event of the agent's own parts.
func (l *loop) handle(e any, now time.Time) {
	switch e := e.(type) {
	case supervisor.Event:
		l.supervisor.Handle(e, now)
	case linkUp:
		l.subscriptionsLost(now)
		l.connected(e)
	case linkReady:
		if e.connID == l.connID && l.conn != nil {
			l.joined(now)
			l.subscribe(now)
		}
	case linkDown:
		if e.connID == l.connID {
			l.conn, l.ready = nil, false
			l.heartbeats.stop()
			l.subscriptionsLost(now)
		}
	case problem:
		l.event(topics.DomainProblem, "", e.text)
	case subscribed:
		l.subscribeResult(e, now)
	case traits.Event:
		l.traits.Handle(e, now)
	case leaseRenewed:
		l.supervisor.Lease(e.until, now)
	case reload:
		l.reload(e.config, e.err)
	}
}

// connected takes over a new connection. What the agent knows of the hub is reset
// with it.
func (l *loop) connected(e linkUp) {
	l.heartbeats.stop()
	l.conn, l.connID, l.ready, l.grant, l.rejoined = e.conn, e.connID, false, e.grant, true
	l.hub, l.pendingCommand, l.status = hubView{}, nil, nil
	l.hubActiveAt = time.Now() // it granted the join a moment ago
	m := l.store.memory
	if m.Dominion.ID != "" && m.Dominion.ID != e.grant.Dominion {
		l.log.Warn("this domain changes its dominion", "from", m.Dominion.Name, "to", e.grant.Name)
	}
	m.Dominion, m.Hub = identity{e.grant.Dominion, e.grant.Name}, e.url
	l.reportWriteError(l.store.setMemory(m, time.Now()))
}

// joined publishes all of our state: a broker keeps nothing for us that it may
// not have lost.
func (l *loop) joined(now time.Time) {
	l.ready = true
	l.log.Info("joined", "dominion", l.grant.Name, "hub", l.store.memory.Hub, "epoch", l.grant.Epoch)
	l.publish(topics.DomainAvailability, []byte(topics.Online))
	l.publish(topics.DomainStatus, l.newStatus())
	l.metrics(now) // before the heartbeat that makes us online: what we are given must fit the machine
	l.metricsAt = now.Add(l.atLeast(topics.MetricsInterval))
	l.heartbeats.start(l.conn, l.connID, l.progress(), now)
	for _, m := range l.outbox {
		l.conn.Publish(m)
	}
	l.outbox = nil
}

// tick does what is due, after the events of this iteration.
func (l *loop) tick(now time.Time) {
	if due(&l.pollAt, now, l.atLeast(pollInterval)) {
		l.poll(now)
	}
	l.traits.Poll(now)
	l.resubscribe(now)
	l.supervisor.Tick(now)
	if l.mustPollLogs(now) && !now.Before(l.logAt) {
		l.publishLogs(now)
		l.logAt = now.Add(l.logPollInterval(now))
	}
	l.updateLonely(now)
	if l.ready {
		status := l.newStatus() // before the heartbeat that reports its start command
		l.heartbeats.update(l.progress(), status, l.heartbeatDue, now)
		l.heartbeatDue = false
		if due(&l.metricsAt, now, l.atLeast(topics.MetricsInterval)) {
			l.metrics(now)
		}
	}
}

func (l *loop) metrics(now time.Time) {
	l.publish(topics.DomainMetrics, topics.Encode(l.facts.Metrics(now, l.supervisor.Groups())))
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

// next returns when tick has something to do, if no event comes before.
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
	if l.mustPollLogs(time.Now()) {
		sooner(l.logAt)
	}
	if l.ready {
		sooner(l.metricsAt)
	}
	if silent := l.hubTimeout(); l.ready && !silent.IsZero() && l.unreachableSince.IsZero() {
		sooner(silent)
	}
	if !l.lonely && !l.unreachableSince.IsZero() {
		sooner(l.unreachableSince.Add(l.timing.Isolation.Duration()))
	}
	if !l.stopBy.IsZero() {
		sooner(l.stopBy)
	}
	return at
}

// poll reads the catalog and the addresses of the machine, and writes what is
// pending in the store.
func (l *loop) poll(now time.Time) {
	if l.pollAt.IsZero() {
		l.pollAt = now.Add(l.atLeast(pollInterval))
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

// hubTimeout returns when a hub that publishes nothing any more counts as gone: there
// is no will where its broker, as a node of a cluster, died with it. Zero: never, as
// the hub's broker is its own.
func (l *loop) hubTimeout() time.Time {
	if l.grant.Alive <= 0 {
		return time.Time{}
	}
	return l.hubActiveAt.Add(3 * l.grant.Alive.Duration())
}

// recordHubActivity records that the hub published a message just now.
func (l *loop) recordHubActivity(k topics.Kind, now time.Time) {
	switch k {
	case topics.HubAvailability, topics.HubStatus, topics.DomainServicesSet, topics.DomainLease:
		l.hubActiveAt = now
	}
}

// updateLonely makes the domain lonely when no hub was reachable for the isolation
// time, and ends that when one is.
func (l *loop) updateLonely(now time.Time) {
	silent := l.hubTimeout()
	reachable := l.ready && l.hub.availability != topics.Offline && (silent.IsZero() || now.Before(silent))
	switch {
	case reachable:
		l.unreachableSince = time.Time{}
		if l.lonely {
			l.setLonely(false)
		}
	case l.unreachableSince.IsZero():
		l.unreachableSince = now
	case !l.lonely && now.Sub(l.unreachableSince) >= l.timing.Isolation.Duration():
		l.log.Warn("no hub is reachable: the domain is lonely; services run on, searching for a hub", "since", l.unreachableSince.Format(time.TimeOnly))
		l.setLonely(true)
	}
}

// setLonely has the link search for other hubs, and announces this domain, or ends
// both.
func (l *loop) setLonely(lonely bool) {
	l.lonely = lonely
	select {
	case <-l.lonelySignal: // an older value
	default:
	}
	l.lonelySignal <- lonely
	l.withdraw()
	if lonely {
		var ctx context.Context
		ctx, l.withdraw = context.WithCancel(context.Background())
		member := l.store.memory.Dominion
		l.background.Go(func() { l.announce(ctx, member) })
	}
}

// progress returns what the heartbeats report of this loop.
func (l *loop) progress() progress { return progress{l.position(), l.statusSeq, l.heartbeatInterval()} }

// atLeast returns the interval of a poll, minPollInterval at least.
func (l *loop) atLeast(interval time.Duration) time.Duration { return max(interval, l.minPollInterval) }

func (l *loop) heartbeatInterval() time.Duration {
	return max(minHeartbeat, l.timing.Heartbeat.Duration())
}

// newStatus returns the status to publish; nil if it equals the last one.
func (l *loop) newStatus() []byte {
	at, instances := l.position(), l.supervisor.Instances()
	catalog := l.withRunning(instances)
	status := topics.Domain{
		ID: l.id, Name: l.config.Name, Session: l.session, Seq: l.statusSeq, Version: l.version, Protocol: topics.Protocol,
		OS: runtime.GOOS, Arch: runtime.GOARCH, Address: l.address(), Addresses: l.addresses,
		Traits: l.currentTraits(), StartedAt: l.startedAt(time.Now()), Draining: l.store.memory.Draining,
		Epoch: at.Epoch, Generation: at.Generation, Run: at.Run,
		Services: list(instances), Catalog: list(catalog), Problems: l.traits.Problems(time.Now()),
	}
	if bytes.Equal(topics.Encode(status), l.status) {
		return nil
	}
	l.statusSeq++
	status.Seq = l.statusSeq
	l.status = topics.Encode(status)
	return l.status
}

// withRunning returns the catalog together with services that run but cannot be
// read on disk at present: a service.toml is half written, a directory is being
// replaced, a mount is missing. That is no reason for the hub to stop them. It
// adds a message to these instances.
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

// currentTraits returns the traits of the configuration and those of sources that
// are present now.
func (l *loop) currentTraits() []string {
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

// maxOutbox is how many events are queued while there is no connection.
const maxOutbox = 100

func eventMessage(tree topics.Tree, domain string, kind topics.EventType, service, message string) topics.Message {
	e := topics.Event{At: topics.At(time.Now()), Type: kind, Domain: domain, Service: service, Message: message}
	return tree.Message(topics.Address{Kind: topics.DomainEvent, Domain: domain}, topics.Encode(e))
}

// event publishes an event, now or after the next join.
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

// reportWriteError logs and publishes that something could not be written to disk.
func (l *loop) reportWriteError(err error) {
	if err != nil {
		l.log.Error(err.Error())
		l.event(topics.DomainProblem, "", err.Error())
	}
}

// messagesLost connects again to receive what was lost: topics of state are retained.
func (l *loop) messagesLost(lost int) {
	l.log.Error("more messages came than could be handled, connecting again", "lost", lost)
	l.reconnect()
}

// reconnect has the link end the connection and join again.
func (l *loop) reconnect() {
	select {
	case l.drop <- struct{}{}:
	default:
	}
}

// stop begins the end of the agent. Exclusive services are stopped in any case:
// their lease would not be renewed, and the domain that gets them next shall not
// have to wait for its end.
func (l *loop) stop(now time.Time) {
	longest := services.DefaultStopTimeout
	for _, s := range l.store.command.Services {
		longest = max(longest, services.StopTimeout(s))
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

// stopped reports whether every service that must stop has stopped, or stopBy has
// passed.
func (l *loop) stopped(now time.Time) bool {
	idle := l.supervisor.IdleExclusive
	if l.config.StopServicesOnExit {
		idle = l.supervisor.Idle
	}
	if !idle() {
		if now.Before(l.stopBy) {
			return false
		}
		l.log.Error("some services did not stop in time")
	}
	return true
}

// disconnect publishes that the domain is offline and closes the connection. The
// link has ended by then.
func (l *loop) disconnect() {
	l.withdraw()
	l.heartbeats.stop()
	defer l.background.Wait()
	if l.conn == nil {
		return
	}
	l.publish(topics.DomainAvailability, []byte(topics.Offline))
	ctx, cancel := context.WithTimeout(context.Background(), disconnectTimeout)
	defer cancel()
	if err := l.conn.Flush(ctx); err != nil {
		l.log.Warn("cannot publish to the hub that this domain is offline", "error", err)
	}
	l.conn.Close()
}

// startedAt returns when this run of the agent began, by the present wall clock.
func (l *loop) startedAt(now time.Time) topics.Time {
	l.lastStartedAt = topics.StartedAt(l.started, now, l.lastStartedAt)
	return l.lastStartedAt
}
