// Package lease holds the rules that keep an exclusive service from running twice: those
// of the hub (Table), which grants leases, and those of the agent (Holder), which uses
// them. It is pure: the time, what was ordered and what domains report come in as values.
//
// A lease answers a heartbeat and counts from the moment when that was sent, so no two
// clocks are compared. It belongs to a domain: under it the domain may run all exclusive
// services of the start command that it obeys. The rest follows:
//
//   - a domain that has not received the start command that took a service from it is
//     granted no lease;
//   - a service is assigned to another domain only when its holder has reported that it
//     does not run it, or when the last lease of the holder, and the time that the
//     service may take to stop, are over;
//   - what an earlier run of the hub granted is not known to this one, whatever is on its
//     disk, which may be a backup. Until all of that has expired, a lease is only renewed,
//     and no domain without one is granted one.
//
// hub and agent import it, and nobody else.
package lease

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Slack is what the hub waits beyond the end of a lease and the time to stop: for two
// clocks that do not run at the same speed, and for a guard that is scheduled late.
const Slack = time.Second

// Position orders the start commands.
type Position struct {
	Epoch, Generation uint64
	// Run is the run of the hub that published the command.
	Run string
}

// Before reports whether p is of an older start command than q, as agents compare them.
func (p Position) Before(q Position) bool {
	return cmp.Or(cmp.Compare(p.Epoch, q.Epoch), cmp.Compare(p.Generation, q.Generation)) < 0
}

// Run is one run of an agent, by the id of its domain and its session. The next run on the
// same machine takes over the services. One with the same id that does not may be a machine
// whose disk was copied, and is another holder.
type Run struct{ Domain, Session string }

// Beat is a heartbeat.
type Beat struct {
	Run
	// Name is the name of the domain, for texts.
	Name string
	// At is the position of the start command that the domain obeys.
	At Position
	// Left is what was left of its lease when it was sent; 0: it had none.
	Left time.Duration
}

// Status is what a domain reports of its services.
type Status struct {
	Run
	// At is the position of the start command that the domain obeys.
	At       Position
	Services map[string]topics.State
}

// Table holds, for each exclusive service, which runs of agents may be running it. It is
// not for concurrent use.
type Table struct {
	// run is the run of the hub.
	run string
	// formerUntil is when the leases of earlier runs of the hub have expired; zero: they
	// have.
	formerUntil time.Time
	// length is the length of the leases that are granted.
	length time.Duration
	// stops is the stop_timeout of each exclusive service.
	stops  map[string]time.Duration
	grants map[Run]*grants
	// orders and reports are by the id of the domain.
	orders  map[string]*order
	reports map[string]*report
}

// grants are the leases of one run of an agent.
type grants struct {
	name string
	// ends is when its last lease ends, by the hub's clock.
	ends     time.Time
	services map[string]grant
}

// grant is a service that a run may be running while its lease lasts.
type grant struct {
	// since is the position of the start command that assigned it.
	since Position
	stop  time.Duration
}

// order is the last start command of a domain in this run of the hub.
type order struct {
	// fence is the last command that took a service away: a domain that has not received
	// it is granted no lease.
	fence Position
	// services are the exclusive ones, with the command that assigned each.
	services map[string]Position
}

// NewTable returns the table of a hub that starts now. run distinguishes its commands from
// those of any other run. former is how long leases that earlier runs granted may be valid.
func NewTable(run string, now time.Time, former time.Duration) *Table {
	return &Table{
		run: run, formerUntil: now.Add(former),
		stops: make(map[string]time.Duration), grants: make(map[Run]*grants),
		orders: make(map[string]*order), reports: make(map[string]*report),
	}
}

// Configure sets the length of the leases from now on, and which services are exclusive,
// with their stop_timeout.
func (t *Table) Configure(length time.Duration, stops map[string]time.Duration) {
	t.length, t.stops = length, stops
	for _, a := range t.grants {
		for service, m := range a.services {
			if stop, still := stops[service]; still {
				m.stop = max(m.stop, stop)
				a.services[service] = m
			} else {
				delete(a.services, service) // it is no longer exclusive
			}
		}
	}
	for _, o := range t.orders {
		maps.DeleteFunc(o.services, func(service string, _ Position) bool { _, still := stops[service]; return !still })
	}
}

// Validity returns how long a lease that is granted now may keep a service from others.
func (t *Table) Validity() time.Duration {
	var longest time.Duration
	for _, stop := range t.stops {
		longest = max(longest, t.length+stop+Slack)
	}
	return longest
}

// Exclusive reports whether a service is exclusive.
func (t *Table) Exclusive(service string) bool { _, is := t.stops[service]; return is }

// before reports whether p is of an older start command than q. Those of other runs of
// the hub are older than all of this one, whatever their numbers: a hub that was restored
// from a backup uses the same numbers again.
func (t *Table) before(p, q Position) bool {
	if (p.Run == t.run) != (q.Run == t.run) {
		return q.Run == t.run
	}
	return p.Before(q)
}

// Ordered notes a start command for a domain, with all services in it.
func (t *Table) Ordered(domain string, at Position, services map[string]bool) {
	last := t.orders[domain]
	if last == nil {
		last = new(order)
	}
	o := &order{fence: last.fence, services: make(map[string]Position)}
	for service, in := range services {
		if !in || !t.Exclusive(service) {
			continue
		}
		since, known := last.services[service]
		if !known {
			since = at
		}
		o.services[service] = since
		for run, a := range t.grants {
			if run.Domain == domain && !known {
				a.services[service] = grant{at, t.stops[service]}
			}
		}
	}
	if t.removes(domain, o.services) {
		o.fence = at
	}
	t.orders[domain] = o
}

// removes reports whether a domain may have a service that is not in a new command.
func (t *Table) removes(domain string, keeps map[string]Position) bool {
	gone := func(service string) bool { _, kept := keeps[service]; return !kept && t.Exclusive(service) }
	if o := t.orders[domain]; o != nil && slices.ContainsFunc(slices.Collect(maps.Keys(o.services)), gone) {
		return true
	}
	if s := t.reported(domain); s != nil && slices.ContainsFunc(slices.Collect(maps.Keys(s.Services)), gone) {
		return true
	}
	for run, a := range t.grants {
		if run.Domain == domain && slices.ContainsFunc(slices.Collect(maps.Keys(a.services)), gone) {
			return true
		}
	}
	return false
}

// Report takes the status of a domain. That a service does not run counts when it cannot
// begin again: the domain has received the command that does not hold it any more, or it
// reports the service stopped although it obeys the command that assigned it, which is
// what an agent reports that ends.
func (t *Table) Report(s Status) {
	w := t.reportOf(s.Domain)
	to := &w.current
	if w.session != "" && w.session != s.Session {
		to = &w.other
	}
	if was := *to; was != nil && was.Run == s.Run && t.before(s.At, was.At) {
		return // delivered twice, and late
	}
	*to = &s
	a, o := t.grants[s.Run], t.orders[s.Domain]
	if a == nil {
		return
	}
	for service, m := range a.services {
		state, ordered := s.Services[service], false
		if o != nil {
			_, ordered = o.services[service]
		}
		if state.Alive() {
			continue
		}
		removed := o != nil && !ordered && s.At.Run == t.run && !t.before(s.At, o.fence)
		stopped := (state == "" || state == topics.Stopped) && !t.before(s.At, m.since)
		if removed || stopped {
			delete(a.services, service)
		}
	}
}

// Lost notes that a domain is lost: its last status does not describe it until it sends a
// heartbeat again.
func (t *Table) Lost(domain string) { t.reportOf(domain).lost = true }

// Answer decides whether a heartbeat is answered by a lease, and of which length, and
// notes the lease.
func (t *Table) Answer(beat Beat, now time.Time) (time.Duration, bool) {
	t.noteSession(beat.Run)
	s := t.reported(beat.Domain)
	o, hasOrder := t.orders[beat.Domain]
	if !hasOrder {
		o = new(order)
	}
	// It must have reported what it runs under the command that it obeys.
	if s == nil || s.Run != beat.Run || t.before(s.At, beat.At) || t.before(beat.At, o.fence) {
		return 0, false
	}
	covers := make(map[string]Position)
	for service, state := range s.Services {
		if !t.Exclusive(service) || state == topics.Stopped {
			continue
		}
		if _, ordered := o.services[service]; hasOrder && !ordered && beat.At.Run != t.run {
			return 0, false // it has not received the command that took this from it
		}
		covers[service] = beat.At
	}
	maps.Copy(covers, o.services)
	if len(covers) == 0 || beat.Left <= 0 && !t.mayGrant(beat, o, now) {
		return 0, false
	}
	if beat.Left > 0 {
		t.takeOver(beat.Run)
	}
	for service := range covers {
		if len(t.otherHolders(service, beat.Run, now)) > 0 || beat.Left <= 0 && t.runsElsewhere(service, beat.Domain) {
			return 0, false
		}
	}
	a := t.grants[beat.Run]
	if a == nil {
		a = &grants{services: make(map[string]grant)}
		t.grants[beat.Run] = a
	}
	a.name, a.ends = beat.Name, later(a.ends, now.Add(t.length))
	for service, since := range covers {
		if _, known := a.services[service]; !known {
			a.services[service] = grant{since, t.stops[service]}
		}
	}
	return t.length, true
}

// AwaitsStatus reports whether a heartbeat is granted no lease until its run reports what
// runs there under the command that it obeys, although it has or is to have exclusive
// services.
func (t *Table) AwaitsStatus(beat Beat) bool {
	if s := t.reported(beat.Domain); s != nil && s.Run == beat.Run && !t.before(s.At, beat.At) {
		return false
	}
	o := t.orders[beat.Domain]
	return beat.Left > 0 || o != nil && len(o.services) > 0
}

// mayGrant reports whether a domain without a lease may be granted one: it obeys a command
// of this run of the hub, and the leases of earlier runs have expired.
func (t *Table) mayGrant(beat Beat, o *order, now time.Time) bool {
	return !now.Before(t.formerUntil) && beat.At.Run == t.run && len(o.services) > 0
}

// takeOver moves the grants of a former run of a domain to the run that has its lease now,
// which took over the services.
func (t *Table) takeOver(to Run) {
	for run, a := range t.grants {
		if run.Domain != to.Domain || run == to {
			continue
		}
		delete(t.grants, run)
		if t.grants[to] == nil {
			t.grants[to] = a
			continue
		}
		mine := t.grants[to]
		mine.ends = later(mine.ends, a.ends)
		for service, m := range a.services {
			if _, known := mine.services[service]; !known {
				mine.services[service] = m
			}
		}
	}
}

// otherHolders returns the runs, but one, that may be running a service.
func (t *Table) otherHolders(service string, but Run, now time.Time) []Run {
	var all []Run
	for run, a := range t.grants {
		if m, may := a.services[service]; may && run != but && now.Before(a.expires(m)) {
			all = append(all, run)
		}
	}
	return all
}

// runningOn returns the domains that report a service alive.
func (t *Table) runningOn(service string) []string {
	var all []string
	for id, w := range t.reports {
		if !w.lost && w.current != nil && w.current.Services[service].Alive() {
			all = append(all, id)
		}
	}
	return all
}

func (t *Table) runsElsewhere(service, domain string) bool {
	return slices.ContainsFunc(t.runningOn(service), func(id string) bool { return id != domain })
}

func (a *grants) expires(m grant) time.Time { return a.ends.Add(m.stop + Slack) }

// Hold says to whom a service may be assigned now.
type Hold struct {
	// Free reports that any domain may have it.
	Free bool
	// Only is the id of the only domain that may; "": none, or any.
	Only string
	// Has is the id of the domain whose lease covers it; "" where none or several have
	// one. What another domain reports of a copy of its own takes nothing from that one:
	// an agent that was suspended sends heartbeats before it reports what has ended.
	Has string
	// By is the name of the domain that may be running it; "": an earlier run of the hub
	// granted it. Of several it is one.
	By string
	// Until is when that expires, if no lease is renewed; zero: when its domain reports
	// that it has stopped.
	Until time.Time
}

// Hold returns to whom a service may be assigned.
func (t *Table) Hold(service string, now time.Time) Hold {
	holders := t.otherHolders(service, Run{}, now)
	domains := make(map[string]bool)
	for _, run := range holders {
		domains[run.Domain] = true
	}
	h := Hold{Has: only(domains)}
	running := t.runningOn(service)
	for _, id := range running {
		domains[id] = true
	}
	if len(holders) == 0 && len(running) == 0 && !now.Before(t.formerUntil) {
		return Hold{Free: true}
	}
	if len(holders) > 0 {
		slices.SortFunc(holders, func(x, y Run) int { return cmp.Or(cmp.Compare(x.Domain, y.Domain), cmp.Compare(x.Session, y.Session)) })
		h.By = t.grants[holders[0]].name
		for _, run := range holders {
			a := t.grants[run]
			h.Until = later(h.Until, a.expires(a.services[service]))
		}
	} else if now.Before(t.formerUntil) {
		h.Until = t.formerUntil
	}
	h.Only = only(domains)
	return h
}

// only returns the element of a set that has one; else "".
func only(set map[string]bool) string {
	if len(set) != 1 {
		return ""
	}
	one := ""
	for one = range set {
	}
	return one
}

// May reports whether a service may be assigned to a domain that did not have it before.
func (t *Table) May(service, domain string, now time.Time) bool {
	h := t.Hold(service, now)
	return h.Free || h.Only == domain
}

// Expire removes what has expired. changed reports whether a service may be assigned that
// could not be. next is when something expires, if it is not renewed; zero: nothing will.
func (t *Table) Expire(now time.Time) (next time.Time, changed bool) {
	sooner := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	if !t.formerUntil.IsZero() {
		if now.Before(t.formerUntil) {
			sooner(t.formerUntil)
		} else {
			t.formerUntil, changed = time.Time{}, true
		}
	}
	for run, a := range t.grants {
		for service, m := range a.services {
			if over := a.expires(m); now.Before(over) {
				sooner(over)
			} else {
				delete(a.services, service)
				changed = true
			}
		}
		if len(a.services) == 0 && !now.Before(a.ends.Add(Slack)) {
			delete(t.grants, run)
		} else if len(a.services) == 0 {
			sooner(a.ends.Add(Slack))
		}
	}
	return next, changed
}

// FormerExpired reports whether the leases of earlier runs of the hub have expired.
func (t *Table) FormerExpired() bool { return t.formerUntil.IsZero() }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
