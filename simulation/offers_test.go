package simulation

import (
	"fmt"
	"slices"

	"github.com/jmbarzee/dominion/topics"
)

// offered checks what the hub publishes for those who look for a service: "usable instances
// only, best first".
func (l *laws) offered(service string, m topics.Message) {
	const law = "only usable instances are offered"
	all, err := topics.Decode[[]topics.Endpoint](m.Topic, m.Payload)
	if err != nil {
		return // it is gone from the configuration
	}
	l.offers++
	seen := make(map[string]bool)
	for i, e := range all {
		k, usable := l.domain(e.Domain), false
		for _, s := range k.status.possible() {
			at := instance(s, service)
			healthy := at.Health == topics.Healthy || s != nil && s.Micro // of a microcontroller, which may not report it
			usable = usable || at.State == topics.Running && at.Port == e.Port && at.Version == e.Version && healthy == e.Healthy
		}
		switch {
		case !usable:
			l.violated(law, "%s on %s is offered as %+v, its domain says %+v", service, e.Domain, e, instance(k.status.current, service))
		case l.home.micro(e.Domain) && !k.mayBeOnline():
			l.violated(law, "%s is offered on %s, which said %q last", service, e.Domain, k.availability.current)
		case seen[e.Domain]:
			l.violated(law, "%s on %s is offered twice", service, e.Domain)
		case e.Healthy && i > 0 && !all[i-1].Healthy:
			l.violated(law, "%s on %s is offered after one that is not healthy", service, e.Domain)
		}
		seen[e.Domain] = true
	}
}

// mayBeOnline reports whether a microdomain may be known to be online.
func (k *domainState) mayBeOnline() bool {
	return slices.Contains(k.availability.possible(), topics.Online)
}

// forgets takes note of a domain that the hub knows no more. What it was ordered
// counts: its agent has it.
func (l *laws) forgets(e topics.Event) {
	if e.Type == topics.DomainForgotten {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.domain(e.Domain).status.set(nil)
	}
}

// counts: the epoch is "a number the hub keeps on disk and raises at each start".
func (l *laws) counts(epoch uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if epoch <= l.former || epoch < l.epoch {
		l.violated("each start raises the epoch", "it is %d, and was %d in this run and %d in the one before", epoch, l.epoch, l.former)
	}
	l.epoch = epoch
}

// restoredHub takes note of a hub's disk that has become an older one.
func (l *laws) restoredHub() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.former, l.epoch = 0, 0
}

// lastToGo: "stopped in the reverse order". What leaves although it may stay
// where it is, and is nowhere else, leaves because nothing needs it; then what
// needed it has ended. One that is switched off ends at once.
func (l *laws) lastToGo(service, name string, k *domainState) {
	for _, defs := range l.defs.possible() {
		d, defined := defs[service]
		if !defined || d.Exclusive || l.unknownWants[service] || l.others(service, name) > 0 {
			return
		}
		for _, s := range k.status.possible() {
			if s == nil || s.Draining || !fits(d, *s) {
				return
			}
		}
	}
	for _, w := range l.want(service).possible() {
		if w.Switch == topics.Off {
			return
		}
	}
	for other, d := range l.defs.current {
		if d.DependsOn(service) && l.listed(other) {
			l.violated("dependents end before dependencies", "%s leaves %s, and %s is still there", service, name, other)
		}
	}
}

// listed reports whether a service is, for sure, on a domain that is connected.
func (l *laws) listed(service string) bool {
	for _, k := range l.domains {
		if l.lost(k) {
			continue
		}
		all := k.status.possible()
		if !slices.ContainsFunc(all, func(s *topics.Domain) bool { return !instance(s, service).State.Listed() }) {
			return true
		}
	}
	return false
}

// offers compares what is retained for who looks for a service with what runs.
func (h *home) offers(name string, run []string, note func(string, ...any)) {
	all, err := topics.Decode[[]topics.Endpoint]("", []byte(h.last(h.tree.Service(topics.ServiceEndpoints, name))))
	var told []string
	for _, e := range all {
		told = append(told, e.Domain)
	}
	slices.Sort(told)
	if err != nil || fmt.Sprint(told) != fmt.Sprint(run) {
		note("%s is offered on %v, it runs on %v (%v)", name, told, run, err)
	}
}
