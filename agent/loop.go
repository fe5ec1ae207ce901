package agent

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/agent/credentials"
	"github.com/jmbarzee/dominion/agent/facts"
	"github.com/jmbarzee/dominion/agent/isolation"
	"github.com/jmbarzee/dominion/agent/link"
	"github.com/jmbarzee/dominion/agent/logs"
	"github.com/jmbarzee/dominion/agent/orders"
	"github.com/jmbarzee/dominion/agent/programs"
	"github.com/jmbarzee/dominion/agent/report"
	"github.com/jmbarzee/dominion/agent/signatures"
	"github.com/jmbarzee/dominion/agent/supervisor"
	"github.com/jmbarzee/dominion/agent/traits"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// stopMargin is how long the end of the agent waits beyond the longest stop_timeout.
const stopMargin = 5 * time.Second

// loop drives the parts of the agent: it passes them events and messages, carries out
// what joins two of them, and names the order of the steps. One goroutine owns it.
type loop struct {
	config config.Domain
	// id is that of the domain, platform which programs run here.
	id, platform string
	tree         topics.Tree
	log          *slog.Logger
	// timing is that of the last start command.
	timing topics.Timing
	store  *store
	// member is whom the domain belongs to; nil: it has no key.
	member *membership
	// link finds the hub; connection is what it has found.
	link       *link.Link
	connection *link.Connection
	orders     *orders.Orders
	// signatures verifies signed orders, in goroutines that post their results.
	signatures *signatures.Signatures
	// order is the start command that was verified last.
	order     signedStart
	verifying sync.WaitGroup
	post      func(event any)
	keyLists  keyLists
	rejoining rejoining
	// acceptsLess is an event that waits for the next join; "": none does.
	acceptsLess string
	// rejoinedAt is the epoch of a hub for which the agent joined again as the hub may have
	// keys now.
	rejoinedAt uint64
	isolation  *isolation.Monitor
	reports    *report.Reporter
	heartbeats *report.Heartbeats
	inventory  *facts.Inventory
	traits     *traits.Watch
	logs       *logs.Poller
	supervisor *supervisor.Supervisor
	// programs decides what the services run from, deployed has the bundles of that.
	programs *programs.Programs
	deployed *deployed
	// credentials are the certificates of the services; nil: the domain has no key.
	credentials *credentials.Credentials
	// stopBy is when the end no longer waits for services; zero: the agent is not stopping.
	stopBy time.Time
}

// start adopts running services and applies the last start command, with or
// without a hub.
func (l *loop) start(now time.Time) {
	l.traits.Expire(now)
	l.poll(now)
	c, accepted := l.store.command, l.store.taken
	if accepted {
		l.applyTiming(c.Timing)
	}
	l.supervisor.Adopt(now)
	l.heartbeats.AdoptLease(l.supervisor.Leased()) // that the guards of what was adopted know of
	if accepted {
		l.log.Info("applying the last start command", "services", len(c.Services), "epoch", c.Epoch, "generation", c.Generation)
		l.programs.Adopt(l.supervisor.Alive())
		l.supervisor.ApplyFirst(l.programs.Order(c.Services, now), now)
	}
	l.isolation.Begin(now)
}

// handle handles an event of the agent's own parts.
func (l *loop) handle(e any, now time.Time) {
	switch e := e.(type) {
	case supervisor.Event:
		l.supervisor.Handle(e, now)
	case traits.Event:
		l.traits.Handle(e, now)
	case link.Up:
		l.connected(e, now)
	case link.Ready:
		l.joined(e, now)
	case link.Rejoined:
		l.rejoined(e, now)
	case link.Down:
		l.disconnected(e, now)
	case keyListTaken:
		l.keyListTaken(e, now)
	case signatures.Result:
		l.verified(e, now)
	case pinned:
		l.pin()
	case identity.Peer:
		l.signatures.AddHub(e)
		l.verify(now)
	case link.Adopted:
		l.adopted()
		if l.credentials != nil {
			l.credentials.TrustChanged(true)
		}
		l.isolation.Restart(now)
	case link.Problem:
		l.reports.Event(topics.DomainProblem, "", e.Text)
	case link.Subscribed:
		l.subscribed(e, now)
	case programs.Result:
		l.fetched(e, now)
	case bundleProgress:
		l.programs.Progress(e.layer, e.percent)
	case bundlesLeft:
		l.log.Warn("old bundles stay on the disk", "error", e.err)
	case leaseRenewed:
		l.supervisor.Lease(e.until, now)
	case reload:
		l.reload(e.config, e.err)
	}
}

// tick does what is due, after the events of an iteration. The order matters where
// a step has a reason.
func (l *loop) tick(now time.Time) {
	if l.inventory.Due(now) {
		l.poll(now)
	}
	l.traits.Expire(now)
	l.connection.Resubscribe(l.traits.Resubscribe(now))
	l.supervisor.Expire(now)
	for _, line := range l.logs.Expire(now, l.writing()) { // of services that ended just now, too
		l.publishLog(line)
	}
	l.connection.Expire(now)
	l.isolation.SetReachable(l.connection.Reachable() && !l.orders.HubOffline(), now)
	l.expirePrograms(now) // by what the connection has found, as what follows
	l.isolation.Expire(now)
	l.expireRejoining(now)
	if l.connection.Joined() {
		l.reports.Update(l.state(now), now) // after all that the status shows
		l.reports.Expire(now)
	}
}

// next returns when tick has something to do, if no event comes before.
func (l *loop) next(now time.Time) time.Time {
	at := l.inventory.Next()
	sooner := func(t time.Time) {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	sooner(l.supervisor.Next())
	sooner(l.traits.Next())
	sooner(l.logs.Next(now, l.writing()))
	sooner(l.connection.Next())
	if l.connection.Joined() {
		sooner(l.rejoining.Next())
	}
	sooner(l.isolation.Next())
	sooner(l.programs.Next(now))
	sooner(l.reports.Next())
	sooner(l.stopBy)
	return at
}

// writing reports whether a service may write to its log.
func (l *loop) writing() bool { return len(l.supervisor.Groups()) > 0 }

// poll reads the catalog and the addresses of the machine, and writes what is
// pending in the store.
func (l *loop) poll(now time.Time) {
	for _, p := range l.inventory.Poll(l.config.Address, now) {
		l.log.Warn(p)
		l.reports.Event(topics.DomainProblem, "", p)
	}
	l.wantCredentials(false)
	l.store.retry(now)
	if l.programs.Reconsider() {
		l.decide(now)
	}
}

// connected takes over a new connection: what the hub granted is the base of all
// orders that come by it.
func (l *loop) connected(e link.Up, now time.Time) {
	l.reports.Leave()
	l.unsubscribed(l.connection.Up(e, now), now)
	l.orders.Join(e.Grant)
	l.signatures.Drop()
	l.rejoining.join(e.Grant.Run)
	l.reports.SetSession(l.sessionOf(e.Grant, e.Keys), now)
	m := l.store.memory
	if m.Dominion.ID != "" && m.Dominion.ID != e.Grant.Dominion {
		l.log.Warn("this domain changes its dominion", "from", m.Dominion.Name, "to", e.Grant.Name)
	}
	if l.member != nil {
		_, m.Adopted = l.member.Home()
	}
	m.Dominion, m.Hub = link.Dominion{ID: e.Grant.Dominion, Name: e.Grant.Name}, e.URL
	m.CertifiesServices = e.Grant.CertifiesServices
	l.reports.WriteError(l.store.setMemory(m, now))
	l.wantCredentials(true)
}

// joined publishes the state of this domain on a connection that is subscribed.
func (l *loop) joined(e link.Ready, now time.Time) {
	if !l.connection.Ready(e) {
		return
	}
	l.log.Info("joined", "dominion", l.store.memory.Dominion.Name, "hub", l.store.memory.Hub, "epoch", l.orders.Granted())
	conn, connID := l.connection.Current()
	l.reports.Join(conn, connID, l.state(now), now)
	l.reportAccept()
	l.connection.Subscribe(now)
}

// disconnected ends the reports by a connection that is over.
func (l *loop) disconnected(e link.Down, now time.Time) {
	if lost, ok := l.connection.Down(e); ok {
		l.reports.Leave()
		l.unsubscribed(lost, now)
	}
}

// requireTopics sets the topics that health checks need. Those of traits are always
// needed.
func (l *loop) requireTopics(needed []string) {
	l.connection.Require(slices.Concat(needed, l.traits.Topics()), time.Now())
}

// unsubscribed passes to supervisor and traits that topics are no longer subscribed to,
// as the connection is over. The last values stay in force.
func (l *loop) unsubscribed(lost []string, now time.Time) {
	for _, t := range lost {
		l.supervisor.TopicSubscribed(t, false, "", now)
		l.traits.Subscribed(t, false, now)
	}
}

// publishLog publishes a line of a service that a client follows.
func (l *loop) publishLog(line logs.Line) {
	if l.connection.Joined() {
		l.connection.Publish(l.tree.Message(topics.Address{
			Kind: topics.DomainServiceLog, Domain: l.config.Name, Service: line.Service,
		}, topics.Encode(line.LogLine)))
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

// close publishes that the domain is offline and closes the connection. The link
// has ended by then.
func (l *loop) close() {
	l.isolation.Withdraw()
	defer l.isolation.Close()
	l.reports.Leave()
	if err := l.connection.Close(l.reports.Offline()); err != nil {
		l.log.Warn("cannot publish to the hub that this domain is offline", "error", err)
	}
}
