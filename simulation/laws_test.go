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
// happens: each order of the hub is judged by what the hub knew when it gave
// it, each start and stop of a process by what its machine was ordered.
//
// The hub learns of a message some time after it was handed over, and gives an
// order some time after it decided, though no time passes in between. So what
// it knew at any time of this instant counts as known.
type laws struct {
	home *home

	mu        sync.Mutex
	broken    map[string]int
	defs      told[map[string]services.Definition]
	revisions map[string]map[string]bool // of each service, ever
	wants     map[string]*told[planner.Want]
	vague     map[string]bool // nobody can tell what users said of it
	restarted map[string]time.Time
	domains   map[string]*known
	disks     map[string]position // what a machine obeyed last, as its disk says
	epoch     uint64              // of the hub's run; 0: it has not said
	former    uint64              // of its run before; 0: its disk is an older one
	orders    int
	offers    int
}

// told is a word that counts from the instant it was said on, and the ones
// that it replaced within this instant or that were in force when it began.
type told[T any] struct {
	at  time.Time
	was []T
	now T
}

func (t *told[T]) say(v T) {
	if now := time.Now(); !now.Equal(t.at) {
		t.at, t.was = now, nil
	}
	t.was = append(t.was, t.now)
	t.now = v
}

// any are all words that may count now.
func (t *told[T]) any() []T {
	if time.Now().Equal(t.at) {
		return append(slices.Clone(t.was), t.now)
	}
	return []T{t.now}
}

// known is what the hub was told of a domain in its present run.
type known struct {
	status  told[*topics.Domain]
	word    told[string] // of its availability
	beat    time.Time    // the last heartbeat
	last    topics.Heartbeat
	ordered *topics.StartCommand
}

// silent reports whether nothing was heard of a domain for so long that it is lost.
func (l *laws) silent(k *known) bool {
	return time.Since(k.beat) >= l.home.cfg.Timing.LostAfter.Duration()
}

type position struct{ epoch, generation uint64 }

func (p position) before(q position) bool {
	return p.epoch < q.epoch || p.epoch == q.epoch && p.generation < q.generation
}

func newLaws(h *home) *laws {
	return &laws{
		home: h, broken: make(map[string]int), revisions: make(map[string]map[string]bool), wants: make(map[string]*told[planner.Want]),
		vague: make(map[string]bool), restarted: make(map[string]time.Time), domains: make(map[string]*known), disks: make(map[string]position),
	}
}

// violated says that a law does not hold. The mutex is held.
func (l *laws) violated(law, format string, args ...any) {
	l.broken[law]++
	text := fmt.Sprintf("BROKEN %q: ", law) + fmt.Sprintf(format, args...)
	l.home.tell("%s", text)
	if l.broken[law] <= 3 {
		l.home.Error(text)
	}
}

// define takes note of a configuration.
func (l *laws) define(defs map[string]services.Definition) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range l.defs.now {
		if _, stays := defs[name]; !stays {
			l.vague[name] = true // what was said of it is forgotten when all of it has stopped
		}
	}
	l.defs.say(defs)
	for name, d := range defs {
		if l.revisions[name] == nil {
			l.revisions[name] = make(map[string]bool)
		}
		l.revisions[name][d.Spec(nil).Revision] = true
	}
}

// begin takes note of a run of the hub, which knows what its disk holds.
func (l *laws) begin(wants map[string]planner.Want) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.former, l.epoch = max(l.former, l.epoch), 0
	clear(l.wants)
	clear(l.vague)
	clear(l.domains)
	for name, w := range wants {
		l.want(name).now = w
	}
	l.defs.was = nil
}

func (l *laws) want(service string) *told[planner.Want] {
	if l.wants[service] == nil {
		l.wants[service] = new(told[planner.Want])
	}
	return l.wants[service]
}

func (l *laws) domain(name string) *known {
	if l.domains[name] == nil {
		l.domains[name] = new(known)
	}
	return l.domains[name]
}

// heard takes note of what is handed to the hub.
func (l *laws) heard(m topics.Message) {
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
			if was := status.now; was == nil || s.Session == "" || was.Session != s.Session || s.Seq >= was.Seq { // else it comes once more
				status.say(&s)
			}
		}
	case topics.DomainAvailability:
		l.domain(a.Domain).word.say(string(m.Payload))
	case topics.DomainHeartbeat:
		if b, err := topics.Decode[topics.Heartbeat](m.Topic, m.Payload); err == nil && !m.Retain {
			l.beats(a.Domain, b)
		}
	case topics.Request: // to be let in: a sign of life
		if ask, err := topics.Decode[topics.Ask](m.Topic, m.Payload); err == nil && a.Verb == topics.VerbJoin {
			l.domain(ask.Name).beat = time.Now()
		}
	case topics.ServiceSet:
		l.userSays(a.Service, m)
	}
}

// beats: "a start command of an older epoch or generation is refused by the
// agent, whoever sends it". What a run of it obeys only grows.
func (l *laws) beats(name string, b topics.Heartbeat) {
	k := l.domain(name)
	was, is := position{k.last.Epoch, k.last.Generation}, position{b.Epoch, b.Generation}
	if k.last.Session == b.Session && is.before(was) {
		l.violated("nothing older is obeyed", "%s obeys %v after %v", name, is, was)
	}
	k.beat, k.last = time.Now(), b
}

func (l *laws) userSays(service string, m topics.Message) {
	if m.Retain {
		return
	}
	w := l.want(service)
	next := w.now
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
		if d, ok := l.defs.now[service]; ok && d.Priority == services.Required {
			next.Switch = ""
		}
	default:
		var s topics.Scale
		if json.Unmarshal(m.Payload, &s) != nil || s.Replicas == nil {
			return
		}
		next.Replicas = *s.Replicas
	}
	w.say(next)
}

// said judges what the hub says.
func (l *laws) said(m topics.Message) {
	a, ok := l.home.tree.Parse(m.Topic)
	if !ok {
		return
	}
	switch a.Kind {
	case topics.HubEvent:
		if e, err := topics.Decode[topics.Event](m.Topic, m.Payload); err == nil {
			l.home.mu.Lock()
			l.home.story.event(e)
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

func (l *laws) ordered(name string, c topics.StartCommand) {
	k := l.domain(name)
	was := k.ordered
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
	k.ordered = &c
	l.home.tell("  order %d.%d to %s: %s", c.Epoch, c.Generation, name, strings.Join(slices.Sorted(maps.Keys(c.Services)), " "))
	for _, service := range slices.Sorted(maps.Keys(c.Services)) {
		_, had := specs(was)[service]
		here := false
		for _, s := range k.status.any() {
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

// instance is what a domain says of a service; zero: nothing.
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
func (l *laws) mayStart(service, name string, k *known) {
	const law = "no instance where it may not be"
	fit := false
	for _, defs := range l.defs.any() {
		d, defined := defs[service]
		for _, s := range k.status.any() {
			fit = fit || defined && s != nil && fits(d, *s) && !s.Draining
		}
	}
	if !fit {
		l.violated(law, "%s is given to %s, which was last said to be %s", service, name, topics.Encode(k.status.now))
	}
	if l.silent(k) {
		l.violated(law, "%s is given to %s, of which nothing was heard for %v", service, name, time.Since(k.beat))
	}
}

// inOrder: "a dependency is started before what needs it, and what needs it
// waits until it is running and healthy".
func (l *laws) inOrder(service, name string) {
	met := false
	missing := ""
	for _, defs := range l.defs.any() {
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
		for _, s := range k.status.any() {
			i := instance(s, dep.Service)
			if s != nil && s.Micro && i.State == topics.Running && k.there() || usable(i) && dep.Version.Contains(i.Version) {
				return true
			}
		}
	}
	return false
}

// withCause: "a running, healthy instance is not moved without cause. Only what
// must change changes."
func (l *laws) withCause(name string, k *known, c topics.StartCommand) {
	for _, i := range instances(k.status.now) {
		healthy := true
		for _, s := range k.status.any() {
			healthy = healthy && usable(instance(s, i.Service))
		}
		if !healthy || l.silent(k) {
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
		case stays && spec.Revision != i.Revision && rollout.Base(spec.Revision) == rollout.Base(i.Revision) && !k.updated(i.Service):
			l.violated("nothing healthy is restarted without cause", "%s on %s is of revision %s and ordered as %s, and its domain has no other version of it", i.Service, name, i.Revision, spec.Revision)
		}
	}
}

// updated reports whether a domain has another version of a service than it runs.
func (k *known) updated(service string) bool {
	for _, s := range k.status.any() {
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
func (l *laws) mustLeave(service, name string, k *known) bool {
	if l.mayBeOff(service, nil) {
		return true
	}
	for _, defs := range l.defs.any() {
		d, defined := defs[service]
		for _, s := range k.status.any() {
			if !defined || s == nil || s.Draining || !fits(d, *s) {
				return true
			}
		}
		for _, w := range l.want(service).any() {
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
		for _, s := range k.status.any() {
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
	if l.vague[service] || slices.Contains(path, service) {
		return true
	}
	for _, defs := range l.defs.any() {
		d, defined := defs[service]
		if !defined {
			return true
		}
		for _, w := range l.want(service).any() {
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
		sure := !l.silent(k)
		for _, defs := range l.defs.any() {
			for _, s := range k.status.any() {
				sure = sure && s != nil && !s.Draining && fits(defs[service], *s)
			}
		}
		if sure {
			return true
		}
	}
	return false
}
