// Package hub is the leader of a home: it observes the domains, plans, gives
// start commands, and publishes the state of the home.
//
// Hub is ONE loop that owns all state. Whatever happens outside (a message, a
// connection, a signal) is put into its mailbox; nobody else touches what it
// knows. Serve wires it to the broker and to zeroconf. Nobody but cmd and
// demo imports this package; it and agent meet in topics alone.
//
// # Files
//
//	access.go             who may send which request
//	authority.go          the verb authority, and the change of the authority
//	adoption.go           adoption: messages in, answers and files out
//	bridges.go            bridges: start, status, metrics
//	bundles.go            the registry as the loop uses it: versions, permits, what is kept
//	certificates.go       the verb certificates, revocation, the key list of others
//	changes.go            what a pass looks at
//	clients.go            the verbs clients and trace
//	control_socket.go     where the control socket is
//	definitions.go        definitions at run time: apply, versions, rollback; bundles of orders
//	devices.go            publishing the entries of devices
//	domain_conditions.go  publishing the condition of domains
//	domains.go            heartbeats, statuses and availability of domains; forgetting one
//	drain.go              draining a domain
//	embedded_broker.go    what the hub asks of its own broker
//	endpoints.go          publishing endpoints
//	expire.go             what is due by time; a loop that stood still
//	external_broker.go    the connection to an external broker
//	heartbeats.go         heartbeats and metrics of domains, and their MACs
//	homeassistant.go      what is announced to Home Assistant, and what it sends
//	http.go               HTTP handlers, readiness
//	hub.go                state, inbox, start, reload and the rounds of the loop
//	hub_status.go         the hub's own status and counts
//	hubkeys.go            the hub's keys: names, renewal, certificates of users
//	join.go               answers to a join
//	leases.go             leases: what is persisted, passed and held
//	leftovers.go          clearing what earlier configurations retained
//	metrics.go            the metrics of /metrics
//	microdomain.go        what is built into microdomains
//	name_conflicts.go     other hubs that zeroconf finds by our name or id
//	options.go            what a hub needs
//	orders.go             signing orders to domains
//	other_hub.go          another hub of this dominion at the broker
//	overrides.go          what people switched and scaled: start, stop, scale, reset
//	overwritten.go        retained topics that somebody else overwrote
//	problems.go           all problems of the home
//	reach.go              addresses by which domains reach the hub, for tokens
//	rebalance.go          when a rebalance is allowed, and its moves
//	receive.go            messages in: dispatch, decoding, invalid ones
//	reconcile.go          a pass: order of steps, start commands
//	registry_server.go    serving the registry: to the control socket's users, at HTTPS
//	reload.go             reading the configuration again
//	requests.go           the verbs: table of handlers, answers
//	restart.go            restarts by hand, and when one is refused
//	resync.go             the verb resync; asking a domain for its status
//	rollout.go            what the hub passes to rollouts and carries out
//	saving.go             when the hub's state is saved
//	scale.go              numbers that follow a figure
//	schedule.go           when the loop wakes
//	secrets.go            secrets: the request, sealing to domains, revisions
//	serve.go              start and end: broker, zeroconf, HTTP, hub
//	service_keys.go       certificates of the services of domains
//	service_views.go      the published status of services
//	signed.go             what domains sign: compared, verified beside the loop, refused
//	signed_join.go        joins that are signed, and their signed grants
//	stop_reasons.go       why a service was stopped
//	subscriptions.go      topics that the hub subscribes to while it runs
//	unsigned.go           domains that joined before they had a key
//	usage.go              publishing what services use
//	whatif.go             the home as a question has it
//	why.go                the verb why, and the next try of what failed
//	work.go               what takes too long for the loop
package hub

import (
	"context"
	"log/slog"
	"math"
	"runtime"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/announcer"
	"github.com/jmbarzee/dominion/hub/changeset"
	"github.com/jmbarzee/dominion/hub/commands"
	"github.com/jmbarzee/dominion/hub/definitions"
	"github.com/jmbarzee/dominion/hub/directory"
	"github.com/jmbarzee/dominion/hub/events"
	"github.com/jmbarzee/dominion/hub/fleet"
	"github.com/jmbarzee/dominion/hub/keys"
	"github.com/jmbarzee/dominion/hub/leases"
	"github.com/jmbarzee/dominion/hub/leftovers"
	"github.com/jmbarzee/dominion/hub/macs"
	"github.com/jmbarzee/dominion/hub/moves"
	"github.com/jmbarzee/dominion/hub/ownproblems"
	"github.com/jmbarzee/dominion/hub/presence"
	"github.com/jmbarzee/dominion/hub/publisher"
	"github.com/jmbarzee/dominion/hub/questions"
	"github.com/jmbarzee/dominion/hub/restarts"
	"github.com/jmbarzee/dominion/hub/rollouts"
	"github.com/jmbarzee/dominion/hub/scaling"
	"github.com/jmbarzee/dominion/hub/servicestatus"
	"github.com/jmbarzee/dominion/hub/stall"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/hub/tracker"
	"github.com/jmbarzee/dominion/hub/usage"
	"github.com/jmbarzee/dominion/hub/workqueue"
	"github.com/jmbarzee/dominion/internal/mailbox"
	"github.com/jmbarzee/dominion/internal/ratelimit"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// Hub is the leader. Make it with New, run it with Run.
type Hub struct {
	cfg   config.Dominion
	log   *slog.Logger
	tree  topics.Tree
	store *store.Store
	pub   *publisher.Publisher
	// broker is nil where the broker is not the dominion's own.
	broker EmbeddedBroker
	// keys are the dominion's; nil: there are none.
	keys  *keys.Keys
	vault vault
	// bundles are those in the registry; nil: there is none.
	bundles Bundles
	// registryURLs returns the addresses of the registry; nil: there is none.
	registryURLs func() []string

	// The loop: what comes, and when it does something by itself.
	box      *mailbox.Box[event]
	schedule schedule
	work     *work
	signed   *workqueue.Queue
	changed  changeset.Set
	bus      bus
	epoch    uint64

	// What is planned. plan is the planner's, as of the last pass.
	planner *planner.Planner
	plan    planner.Plan
	defs    *definitions.Definitions

	// The domains, what runs on them, and what changes there.
	fleet     *fleet.Fleet
	directory *directory.Directory
	leases    *leases.Leases
	macs      *macs.MACs
	ops       operations

	// Who is adopted, what waits for an answer, what is published.
	adoption adopting
	pending  pending
	events   *events.Log
	views    views
}

// operations are the parts that change what runs over time.
type operations struct {
	rollouts *rollouts.Rollouts
	restarts *restarts.Restarts
	moves    *moves.Moves
	scaling  *scaling.Scaling
}

// pending is what waits for an answer: of a domain, or of the hub itself.
type pending struct {
	commands  *commands.Commands
	questions *questions.Questions
	// services are the requests for certificates of services.
	services serviceKeys
}

// views are the parts about what is published besides events.
type views struct {
	statuses    *servicestatus.Statuses
	usage       *usage.Usage
	presence    *presence.Presence
	hubStatus   hubStatusMessage
	ownProblems *ownproblems.Problems
	announcer   *announcer.Announcer
	tracker     *tracker.Tracker
	leftovers   *leftovers.Leftovers
}

// event is what comes through the mailbox.
type event interface{}

type (
	// arrived is a message with what its topic is: the zero Address for a topic that is
	// not one of the hub's tree.
	arrived struct {
		topics.Message
		address topics.Address
	}
	// arrivedPrivately is a private request; answer reaches the asking connection alone.
	arrivedPrivately struct {
		message topics.Message
		answer  func(topics.Message)
	}
	connected    struct{}
	disconnected struct{}
	reloaded     struct {
		cfg config.Dominion
		err error
	}
	lonelyFound    []Lonely
	httpProblems   []string
	conflictsFound []Conflict
	// certificateRenewed is when the hub's certificate, which was made anew, expires.
	certificateRenewed time.Time
	// wake has the loop look at what is beside it.
	wake struct{}
)

// Lonely is a machine that announces itself by zeroconf and has not joined.
type Lonely = fleet.Announcement

// What waits for the loop is bounded. A home of a thousand domains that connect
// at once stays far below.
const (
	maxEvents  = 1 << 16
	maxWaiting = 64 << 20 // bytes of payloads
)

// memoryOf returns how many bytes of payload an event keeps in memory.
func memoryOf(e event) int {
	switch e := e.(type) {
	case arrived:
		return len(e.Payload)
	case arrivedPrivately:
		return len(e.message.Payload)
	case applied:
		return len(e.message.Payload)
	}
	return 0
}

// New returns a hub that has done nothing yet.
func New(o Options) *Hub {
	h := &Hub{
		cfg: o.Config, store: o.Store, pub: publisher.New(o.Bus, o.Log), broker: o.Broker, keys: o.Keys, vault: vault{Vault: o.Secrets}, bundles: o.Bundles, registryURLs: o.Registry, log: o.Log,
		tree:      topics.NewTree(o.Config.TopicPrefix),
		box:       mailbox.NewSized(maxEvents, maxWaiting, memoryOf),
		schedule:  schedule{stall: stall.NewDetector(o.Figures)},
		bus:       bus{watch: o.Watch},
		defs:      definitions.New(o.Config.Services),
		directory: directory.New(),
		planner:   planner.NewPlanner(planner.Input{}),
		ops:       operations{moves: moves.New(), scaling: scaling.New()},
		pending:   pending{commands: commands.New()},
		views: views{
			statuses: servicestatus.New(), usage: usage.New(),
			presence: presence.New(presence.Options{Interval: o.Alive, ID: o.Store.ID(), Version: o.Version, Control: o.Control}),
		},
	}
	h.takeSecrets()
	h.restoreDefinitions()
	h.updateRegistry()
	h.views.tracker = tracker.New(tracker.Options{
		Tree: h.tree, DiscoveryPrefix: o.Config.HomeAssistant.DiscoveryPrefix, Enabled: o.Config.Devices.Enabled,
	})
	h.pending.questions = questions.New(questions.Options{Environ: o.Environ, Machine: o.Machine, Wake: func() { h.box.Put(wake{}) }})
	h.ops.rollouts = h.newRollouts()
	h.ops.restarts = h.newRestarts()
	h.events = events.New(o.Store, h.pub, h.tree, o.Log)
	h.views.leftovers = leftovers.New(h.ID(), append(slices.Clone(h.store.FormerPrefixes()), h.store.Prefix()), h.tree.Prefix())
	h.leases, h.macs = h.newLeases(), macs.New(h.ID())
	h.views.ownProblems = h.newOwnProblems(o)
	h.views.announcer = h.newAnnouncer(o)
	h.fleet = h.newFleet(o.Embedded)
	h.signed = workqueue.New(runtime.GOMAXPROCS(0))
	h.work = &work{done: func(d workDone) { h.box.PutAlways(d) }}
	h.adoption = adopting{
		Adoption: h.newAdoption(o), tokenFiles: o.TokenFiles, reach: o.Reach, rotation: h.newRotation(),
		answers: make(map[string]givenGrant), issues: ratelimit.New(math.MaxInt),
	}
	h.setDomains(nil)
	h.updateAgents()
	return h
}

// ID returns the id of the dominion.
func (h *Hub) ID() string { return h.store.ID() }

// Filters returns what the hub has to be subscribed to.
func (h *Hub) Filters() []string {
	// Home Assistant's configs come first: they are cleared before the states that they
	// show. The count, which shows whether these are all, comes after them.
	return slices.Concat(h.views.announcer.ConfigFilters(), h.tree.HubFilters(), h.views.announcer.BirthTopics(), []string{h.tree.Hub(topics.HubDiscovery)})
}

// Will returns the message that the broker is to publish when the hub is lost.
func (h *Hub) Will() topics.Message {
	return h.tree.Message(topics.Address{Kind: topics.HubAvailability}, []byte(topics.Offline))
}

// Deliver passes the hub a message of a client's connection to the broker. It never
// blocks.
func (h *Hub) Deliver(m topics.Message) { h.deliver(m, m.Retain) }

// deliver puts a message into the inbox, with its topic parsed: the only time on its
// way. stored reports whether the broker had it when the subscription began.
func (h *Hub) deliver(m topics.Message, stored bool) { h.box.Put(arrival(h.tree, m, stored)) }

// arrival returns the event of a message.
func arrival(tree topics.Tree, m topics.Message, stored bool) arrived {
	address, _ := tree.Parse(m.Topic)
	m.Retain = address.Kind.RetainBit(m.Retain, stored)
	return arrived{m, address}
}

// DeliverPrivate passes the hub a private request. answer is called later, from another
// goroutine.
func (h *Hub) DeliverPrivate(m topics.Message, answer func(topics.Message)) {
	h.box.Put(arrivedPrivately{m, answer})
}

// Connected notifies the hub that the bus carries messages, and that it is subscribed.
func (h *Hub) Connected() { h.box.Put(connected{}) }

// Disconnected notifies the hub that the bus carries no messages.
func (h *Hub) Disconnected() { h.box.Put(disconnected{}) }

// Reload passes the hub a configuration that was read again, or the reason why it could
// not be read: then the old one stays in force.
func (h *Hub) Reload(cfg config.Dominion, err error) { h.box.Put(reloaded{cfg, err}) }

// LonelyFound passes the hub the machines that announce themselves by zeroconf now.
func (h *Hub) LonelyFound(all []Lonely) { h.box.Put(lonelyFound(all)) }

// HTTPProblems passes the hub which addresses of HTTP are in use, in words.
func (h *Hub) HTTPProblems(all []string) { h.box.Put(httpProblems(all)) }

// Run is the loop. It returns when ctx ends, after it has published that the hub is offline.
func (h *Hub) Run(ctx context.Context) {
	h.views.presence.Begin(time.Now())
	h.beginEpoch()
	h.beginLeases()
	h.adoption.Begin(h.localAddress(), time.Now())
	h.events.Add(topics.Event{Type: topics.HubStarted, Message: "the hub started with epoch " + itoa(h.epoch)})
	if recovered := h.store.Recovered(); recovered != "" {
		h.events.Add(topics.Event{Type: topics.HubProblem, Message: recovered})
	}
	h.followFigures()
	h.updateWatch()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		incoming, dropped := h.box.Take()
		if dropped > 0 && h.events.MayReport("dropped", events.MaxRefusals, time.Now()) {
			h.log.Error("messages were dropped: they came faster than they could be handled", "dropped", dropped)
		}
		h.round(incoming, time.Now())
		timer.Reset(max(time.Until(h.schedule.wake), 0))
		select {
		case <-ctx.Done():
			h.stop()
			h.pending.questions.Close()
			h.work.Close()
			return
		case <-h.box.Ready():
		case <-timer.C:
		}
	}
}

// round takes what came and does what follows from it, or from the time.
func (h *Hub) round(events []event, now time.Time) {
	h.stoodStill(now)
	for _, e := range events {
		h.handle(e, now)
	}
	if h.schedule.sooner || !now.Before(h.schedule.wake) {
		h.schedule.sooner = false
		h.expire(now)
	}
	h.stepAdoption(now)
	h.stepServiceKeys(now)
	h.updateAgents()
	h.stepQuestions(now)
	h.scaleAll(now)
	h.save()
	h.dueUnlessZero(h.events.SaveWhenDue(now))
	h.pass(now)
	h.expireHomeAssistant(now)
	h.publishCounts(now)
}

// pass plans until nothing changes any more. The next pass waits as long as this one took:
// what comes in between is received and answered, and is planned together. So a thousand
// domains that come at once are planned a few times and not a thousand times, and in a home,
// where a pass takes less than a millisecond, nobody notices.
func (h *Hub) pass(now time.Time) {
	for h.changed.Pending() && h.bus.connected {
		began := time.Now()
		if began.Before(h.schedule.planAfter) {
			h.due(h.schedule.planAfter)
			return
		}
		h.reconcile(now)
		took := time.Since(began)
		h.schedule.planAfter = began.Add(2 * took)
	}
}

// beginEpoch raises the epoch. Only a hub that runs does it: one that finds its
// port in use, and is started again and again, would use the epochs up. An epoch that a
// full disk does not take is used again at the next start. The domains have received it
// then, and raiseEpoch chooses one above it.
func (h *Hub) beginEpoch() {
	h.store.Change(func(s *store.State) {
		s.Epoch++
		s.Prefix, s.FormerPrefixes = h.tree.Prefix(), h.views.leftovers.Prefixes()
	})
	h.saveNow()
	h.epoch = h.store.Epoch()
}

// stop writes what is not on disk yet and publishes that the hub is offline. Domains and
// services go on without it.
func (h *Hub) stop() {
	h.events.Add(topics.Event{Type: topics.HubStopping, Message: "the hub stops; services go on"})
	h.saveNow()
	h.views.announcer.Save(time.Now())
	h.events.Save(time.Now())
	h.fleet.Stop()
	h.publishHub(time.Now())
	h.pub.Retain(h.tree.Hub(topics.HubAvailability), []byte(topics.Offline))
}

// handle takes one event of the mailbox. All but messages have expire called: they may
// change when something is due.
func (h *Hub) handle(e event, now time.Time) {
	if m, message := e.(arrived); message {
		h.receive(m, now)
		return
	}
	h.schedule.sooner = true
	switch e := e.(type) {
	case arrivedPrivately:
		if a, ok := h.tree.Parse(e.message.Topic); ok {
			h.private(a.Verb, e.message, e.answer, now)
		}
	case broker.PrivateRefusal:
		h.privateRefused(e, now)
	case connected:
		h.connect(now)
	case disconnected:
		h.pub.Reset()
		h.bus.connected = false
		h.ops.scaling.Touch()
		h.fleet.Disconnected()
		if h.views.tracker.Disconnected() {
			h.updateWatch()
		}
		h.views.leftovers.Disconnected()
		h.views.announcer.Disconnected()
	case unsubscribable:
		h.subscriptionRefused(e, now)
	case reloaded:
		h.reload(e.cfg, e.err)
	case applied:
		h.receiveApplied(e, now)
	case workDone:
		h.work.take(e, now)
	case workqueue.Result:
		h.signed.Done(e, now)
		h.stepSigned()
	case wake:
	case asksFigures:
		e.answer <- h.reportFigures()
	case httpProblems:
		h.views.ownProblems.SetHTTP(e)
		h.changed.TouchAll()
	case lonelyFound:
		h.fleetExpired(h.fleet.Announced(e, now), now)
	case certificateRenewed:
		h.renewed(time.Time(e))
	case conflictsFound:
		h.receiveConflicts(e)
	}
}

// connect begins or goes on: all that is retained is published again, and a domain whose
// heartbeats could not arrive meanwhile is given time for one.
func (h *Hub) connect(now time.Time) {
	h.bus.connected = true
	h.changed.TouchAll()
	h.views.announcer.Connected(now)
	h.fleet.Connected(now)
	h.views.tracker.Connected(now)
	h.views.usage.Connected(now)
	h.scheduleLeftovers(now)
	for d := range h.fleet.All() {
		if d.Ordered.Encoded != "" { // a broker of others may have forgotten it
			h.pub.Publish(d.Ordered.Message)
		}
	}
	if settle := h.cfg.Timing.Settle.Duration(); h.fleet.Settle(settle, now) {
		// Nothing is ordered before we are ready: all of the home is planned
		// once it is there, and those who come are answered first.
		h.schedule.planAfter = now.Add(min(time.Second, settle))
	}
	h.views.presence.Reset()
	h.adoption.TouchView()
	h.publishCertificate()
	h.publishHub(now) // first: whoever sees "online" shall not see an older run's epoch beside it
	h.pub.Retain(h.tree.Hub(topics.HubAvailability), []byte(topics.Online))
}

// becameReady carries out what waited for the domains that were there before the start.
func (h *Hub) becameReady(now time.Time) {
	h.changed.TouchAll()
	h.schedule.planAfter = time.Time{}
	h.pruneRollouts()
	h.scheduleLeftovers(now)
	h.events.Add(topics.Event{Type: topics.HubReady, Message: "the hub is ready: " + count(h.fleet.Len(), "domain") + " known"})
}
