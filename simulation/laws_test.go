package simulation

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/services/rollout"
	"github.com/jmbarzee/dominion/topics"
)

// laws are the sentences of the guarantees that hold at every step, whatever
// happens: each order of the hub is checked by what the hub knew when it gave
// it, each start and stop of a process by what its machine was ordered.
//
// The hub learns of a message some time after it was handed over, and gives an
// order some time after it decided, though no time passes in between. So what
// it knew at any time of this instant counts as known.
type laws struct {
	home *home

	mu           sync.Mutex
	broken       map[string]int
	defs         observedValue[map[string]services.Definition]
	revisions    map[string]map[string]bool // of each service, ever
	wants        map[string]*observedValue[planner.Override]
	unknownWants map[string]bool // what users have set for it is not known
	restarted    map[string]time.Time
	domains      map[string]*domainState
	stored       map[string]position // what a machine obeyed last, as its disk has it
	epoch        uint64              // of the hub's run; 0: it has not published it
	former       uint64              // of its run before; 0: its disk is an older one
	orders       int
	offers       int
}

// observedValue is a value since the instant at which it was set, and the ones that it
// replaced within this instant or that were in force when it began.
type observedValue[T any] struct {
	at      time.Time
	earlier []T
	current T
}

func (t *observedValue[T]) set(v T) {
	if now := time.Now(); !now.Equal(t.at) {
		t.at, t.earlier = now, nil
	}
	t.earlier = append(t.earlier, t.current)
	t.current = v
}

// possible returns all values that may be in force now.
func (t *observedValue[T]) possible() []T {
	if time.Now().Equal(t.at) {
		return append(slices.Clone(t.earlier), t.current)
	}
	return []T{t.current}
}

// domainState is what the hub has received of a domain in its present run.
type domainState struct {
	status        observedValue[*topics.Domain]
	availability  observedValue[string] // of its availability
	heartbeatAt   time.Time             // the last heartbeat
	lastHeartbeat topics.Heartbeat
	command       *topics.StartCommand
}

// lost reports whether nothing was received of a domain for so long that it is lost.
func (l *laws) lost(k *domainState) bool {
	return time.Since(k.heartbeatAt) >= l.home.cfg.Timing.LostAfter.Duration()
}

type position struct{ epoch, generation uint64 }

func (p position) before(q position) bool {
	return p.epoch < q.epoch || p.epoch == q.epoch && p.generation < q.generation
}

func newLaws(h *home) *laws {
	return &laws{
		home: h, broken: make(map[string]int), revisions: make(map[string]map[string]bool), wants: make(map[string]*observedValue[planner.Override]),
		unknownWants: make(map[string]bool), restarted: make(map[string]time.Time), domains: make(map[string]*domainState), stored: make(map[string]position),
	}
}

// violated records that a law does not hold. The mutex is held.
func (l *laws) violated(law, format string, args ...any) {
	l.broken[law]++
	text := fmt.Sprintf("BROKEN %q: ", law) + fmt.Sprintf(format, args...)
	l.home.logf("%s", text)
	if l.broken[law] <= 3 {
		l.home.Error(text)
	}
}

// define takes note of a configuration.
func (l *laws) define(defs map[string]services.Definition) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range l.defs.current {
		if _, stays := defs[name]; !stays {
			l.unknownWants[name] = true // what was set for it is removed when all of it has stopped
		}
	}
	l.defs.set(defs)
	for name, d := range defs {
		if l.revisions[name] == nil {
			l.revisions[name] = make(map[string]bool)
		}
		l.revisions[name][d.Spec(nil).Revision] = true
	}
}

// hubStarts takes note of a run of the hub, which knows what its disk holds.
func (l *laws) hubStarts(wants map[string]planner.Override) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.former, l.epoch = max(l.former, l.epoch), 0
	clear(l.wants)
	clear(l.unknownWants)
	clear(l.domains)
	for name, w := range wants {
		l.want(name).current = w
	}
	l.defs.earlier = nil
}

func (l *laws) want(service string) *observedValue[planner.Override] {
	if l.wants[service] == nil {
		l.wants[service] = new(observedValue[planner.Override])
	}
	return l.wants[service]
}

func (l *laws) domain(name string) *domainState {
	if l.domains[name] == nil {
		l.domains[name] = new(domainState)
	}
	return l.domains[name]
}

// received takes note of what is handed to the hub.
func (l *laws) received(m topics.Message) {
	a, ok := l.home.tree.Parse(m.Topic)
	if !ok || len(m.Payload) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch a.Kind {
	case topics.DomainStatus:
		if s, err := topics.Decode[topics.Domain](m.Topic, m.Payload); err == nil {
			status := &l.domain(a.Domain).status
			if was := status.current; was == nil || s.Session == "" || was.Session != s.Session || s.Seq >= was.Seq { // else it comes once more
				status.set(&s)
			}
		}
	case topics.DomainAvailability:
		l.domain(a.Domain).availability.set(string(m.Payload))
	case topics.DomainHeartbeat:
		if b, err := topics.Decode[topics.Heartbeat](m.Topic, m.Payload); err == nil && !m.Retain {
			l.heartbeat(a.Domain, b)
		}
	case topics.Request: // to be let in: a sign of life
		if ask, err := topics.Decode[topics.HubRequest](m.Topic, m.Payload); err == nil && a.Verb == topics.VerbJoin {
			l.domain(ask.Name).heartbeatAt = time.Now()
		}
	case topics.ServiceSet:
		l.userSets(a.Service, m)
	}
}

// heartbeat: "a start command of an older epoch or generation is refused by the
// agent, whoever sends it". What a run of it obeys only grows.
func (l *laws) heartbeat(name string, b topics.Heartbeat) {
	k := l.domain(name)
	was, is := position{k.lastHeartbeat.Epoch, k.lastHeartbeat.Generation}, position{b.Epoch, b.Generation}
	if k.lastHeartbeat.Session == b.Session && is.before(was) {
		l.violated("nothing older is obeyed", "%s obeys %v after %v", name, is, was)
	}
	k.heartbeatAt, k.lastHeartbeat = time.Now(), b
}

// userSets takes note of what a user sets for a service.
func (l *laws) userSets(service string, m topics.Message) {
	if m.Retain {
		return
	}
	w := l.want(service)
	next := w.current
	switch word := string(m.Payload); word {
	case topics.Update:
		return
	case topics.Restart:
		l.restarted[service] = time.Now()
		return
	case topics.Off:
		next.Switch = word
	case topics.On:
		next.Switch = word
		if d, ok := l.defs.current[service]; ok && d.Priority == services.Required {
			next.Switch = ""
		}
	default:
		var s topics.Scale
		if json.Unmarshal(m.Payload, &s) != nil || s.Replicas == nil {
			return
		}
		next.Replicas = *s.Replicas
	}
	w.set(next)
}

// published checks what the hub publishes.
func (l *laws) published(m topics.Message) {
	a, ok := l.home.tree.Parse(m.Topic)
	if !ok {
		return
	}
	switch a.Kind {
	case topics.HubEvent:
		if e, err := topics.Decode[topics.Event](m.Topic, m.Payload); err == nil {
			l.home.mu.Lock()
			l.home.events.event(e)
			l.home.mu.Unlock()
			l.forgets(e)
		}
	case topics.HubStatus:
		if s, err := topics.Decode[topics.Hub](m.Topic, m.Payload); err == nil {
			l.counts(s.Epoch)
		}
	case topics.ServiceEndpoints:
		l.mu.Lock()
		defer l.mu.Unlock()
		l.offered(a.Service, m)
	case topics.DomainServicesSet:
		c, err := topics.Decode[topics.StartCommand](m.Topic, m.Payload)
		if err != nil {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.home.micro(a.Domain) {
			l.violated("a microdomain is never sent a start command", "%s is sent %s", a.Domain, m.Payload)
			return
		}
		l.ordered(a.Domain, c)
	}
}

// ordered checks a start command to a domain.
func (l *laws) ordered(name string, c topics.StartCommand) {
	k := l.domain(name)
	was := k.command
	if was != nil {
		before, is := position{was.Epoch, was.Generation}, position{c.Epoch, c.Generation}
		switch {
		case is == before:
			return // the same once more
		case is.before(before):
			l.violated("epoch and generation only grow", "%s is ordered %v after %v", name, is, before)
		}
	}
	l.orders++
	k.command = &c
	l.home.logf("  order %d.%d to %s: %s", c.Epoch, c.Generation, name, strings.Join(slices.Sorted(maps.Keys(c.Services)), " "))
	for _, service := range slices.Sorted(maps.Keys(c.Services)) {
		_, had := specs(was)[service]
		here := false
		for _, s := range k.status.possible() {
			i := instance(s, service)
			here = here || i.State != "" && i.State != topics.Stopped
		}
		if !had && !here {
			l.mayStart(service, name, k)
			l.inOrder(service, name)
		}
	}
	l.withCause(name, k, c)
}

func specs(c *topics.StartCommand) map[string]topics.Spec {
	if c == nil {
		return nil
	}
	return c.Services
}

// instance is what a domain reports of a service; zero: nothing.
func instance(s *topics.Domain, service string) topics.Instance {
	if s != nil {
		for _, i := range s.Services {
			if i.Service == service {
				return i
			}
		}
	}
	return topics.Instance{}
}

func usable(i topics.Instance) bool { return i.State == topics.Running && i.Health == topics.Healthy }

// mayStart: no instance without its traits, its version, or on a domain that
// is not allowed ("replicas", "domains", "traits" and "version" of the config),
// that is drained, or that is not there ("only what is lost is moved", to where
// something is).
func (l *laws) mayStart(service, name string, k *domainState) {
	const law = "no instance where it may not be"
	fit := false
	for _, defs := range l.defs.possible() {
		d, defined := defs[service]
		for _, s := range k.status.possible() {
			fit = fit || defined && s != nil && fits(d, *s) && !s.Draining
		}
	}
	if !fit {
		l.violated(law, "%s is given to %s, which was last said to be %s", service, name, topics.Encode(k.status.current))
	}
	if l.lost(k) {
		l.violated(law, "%s is given to %s, of which nothing was heard for %v", service, name, time.Since(k.heartbeatAt))
	}
}

// inOrder: "a dependency is started before what needs it, and what needs it
// waits until it is running and healthy".
func (l *laws) inOrder(service, name string) {
	met := false
	missing := ""
	for _, defs := range l.defs.possible() {
		all := true
		for _, dep := range defs[service].Dependencies {
			if !l.serves(dep) {
				all, missing = false, dep.Service
			}
		}
		met = met || all
	}
	if !met {
		l.violated("dependencies before dependents", "%s is started on %s, and %s is healthy nowhere", service, name, missing)
	}
}

func (l *laws) serves(dep services.Dependency) bool {
	for _, k := range l.domains {
		for _, s := range k.status.possible() {
			i := instance(s, dep.Service)
			if s != nil && s.Micro && i.State == topics.Running && k.mayBeOnline() || usable(i) && dep.Version.Contains(i.Version) {
				return true
			}
		}
	}
	return false
}

// withCause: "a running, healthy instance is not moved without cause. Only what
// must change changes."
func (l *laws) withCause(name string, k *domainState, c topics.StartCommand) {
	for _, i := range instances(k.status.current) {
		healthy := true
		for _, s := range k.status.possible() {
			healthy = healthy && usable(instance(s, i.Service))
		}
		if !healthy || l.lost(k) {
			continue
		}
		spec, stays := c.Services[i.Service]
		switch {
		case !stays && !l.mustLeave(i.Service, name, k):
			l.violated("nothing healthy is stopped without cause", "%s leaves %s", i.Service, name)
		case !stays:
			l.lastToGo(i.Service, name, k)
		case stays && spec.Revision != i.Revision && !l.revisions[i.Service][rollout.Base(spec.Revision)]:
			l.violated("nothing healthy is restarted without cause", "%s on %s is of revision %s and ordered as %s, which no definition is", i.Service, name, i.Revision, spec.Revision)
		case stays && spec.Revision != i.Revision && rollout.Base(spec.Revision) == rollout.Base(i.Revision) && !k.hasOtherVersion(i.Service):
			l.violated("nothing healthy is restarted without cause", "%s on %s is of revision %s and ordered as %s, and its domain has no other version of it", i.Service, name, i.Revision, spec.Revision)
		}
	}
}

// hasOtherVersion reports whether a domain has another version of a service than it runs.
func (k *domainState) hasOtherVersion(service string) bool {
	for _, s := range k.status.possible() {
		if s == nil {
			continue
		}
		for _, row := range s.Catalog {
			if row.Service == service && row.Version != instance(s, service).Version {
				return true
			}
		}
	}
	return false
}

func instances(s *topics.Domain) []topics.Instance {
	if s == nil {
		return nil
	}
	return s.Services
}

// mustLeave reports whether there is a cause for a healthy copy to end: it is not
// wanted, not here, or not so often.
func (l *laws) mustLeave(service, name string, k *domainState) bool {
	if l.mayBeOff(service, nil) {
		return true
	}
	for _, defs := range l.defs.possible() {
		d, defined := defs[service]
		for _, s := range k.status.possible() {
			if !defined || s == nil || s.Draining || !fits(d, *s) {
				return true
			}
		}
		for _, w := range l.want(service).possible() {
			if n, all := number(d, w.Replicas); !all && l.others(service, name) >= n {
				return true
			}
		}
	}
	return false
}

// others counts the copies of a service on other domains.
func (l *laws) others(service, name string) (n int) {
	for other, k := range l.domains {
		if other == name {
			continue
		}
		for _, s := range k.status.possible() {
			if i := instance(s, service); i.State.Listed() || i.State == topics.Finished {
				n++
				break
			}
		}
	}
	return n
}

// mayBeOff reports whether a service need not be wanted: switched off, gone, or
// "needed while a wanted dependent has an online domain that could run it".
func (l *laws) mayBeOff(service string, path []string) bool {
	if l.unknownWants[service] || slices.Contains(path, service) {
		return true
	}
	for _, defs := range l.defs.possible() {
		d, defined := defs[service]
		if !defined {
			return true
		}
		for _, w := range l.want(service).possible() {
			if w.Switch == topics.Off {
				return true
			}
			if d.Priority == services.Required || w.Switch == topics.On {
				continue
			}
			needed := false
			for other, o := range defs {
				needed = needed || o.DependsOn(service) && !l.mayBeOff(other, append(path, service)) && l.hasPlace(other)
			}
			if !needed {
				return true
			}
		}
	}
	return false
}

// hasPlace reports whether a domain that is there could run a service for sure.
func (l *laws) hasPlace(service string) bool {
	for _, k := range l.domains {
		sure := !l.lost(k)
		for _, defs := range l.defs.possible() {
			for _, s := range k.status.possible() {
				sure = sure && s != nil && !s.Draining && fits(defs[service], *s)
			}
		}
		if sure {
			return true
		}
	}
	return false
}
