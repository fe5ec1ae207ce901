// Package lease holds the rules that keep an exclusive service from running
// twice: those of the hub (Book), which gives leases, and those of the agent
// (Keeper), which takes them. It is pure: what time it is, what was ordered and
// what domains say comes in as values.
//
// A lease answers a heartbeat and counts from its sending, so no two clocks are
// ever compared. It is a domain's: under it the domain may run all exclusive
// services of the start command that it obeys. From that follows the rest:
//
//   - a domain that has not heard that a service was taken from it gets none;
//   - a service is given to another domain only when the one that may run it
//     said that it does not, or its last lease, and the time it has to stop
//     after that, are over;
//   - what an earlier run of the hub has given is not known to this one, whatever
//     is on its disk, which may be a backup: until all that is over, a lease is
//     only given to who still has one, and nothing is given anew.
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

// Slack is what the hub waits beyond the end of a lease and the time to stop:
// for two clocks that do not run alike, and for a guard that is scheduled late.
const Slack = time.Second

// Position is that of a start command.
type Position struct {
	Epoch, Generation uint64
	Run               string // of the hub that gave it
}

// Before tells whether p is of an older start command than q, as agents judge.
func (p Position) Before(q Position) bool {
	return cmp.Or(cmp.Compare(p.Epoch, q.Epoch), cmp.Compare(p.Generation, q.Generation)) < 0
}

// Run is one run of an agent, by the id of its domain and its session. Another
// run on the same machine takes the services over; one with the same id that
// does not is perhaps a machine whose disk was copied, and counts as another.
type Run struct{ Domain, Session string }

// Beat is a heartbeat.
type Beat struct {
	Run
	Name string        // of the domain, for words
	At   Position      // of the start command it obeys
	Left time.Duration // of its lease, as it was sent; 0: it has none
}

// Status is what a domain says of its services.
type Status struct {
	Run
	At       Position // of the start command it obeys
	Services map[string]topics.State
}

// Book is what a hub knows of the exclusive services: who may be running each.
// It is not for concurrent use.
type Book struct {
	run    string                   // of the hub
	opens  time.Time                // what an earlier run of the hub gave is over
	length time.Duration            // of the leases that are given
	stops  map[string]time.Duration // stop_timeout of each exclusive service
	runs   map[Run]*account
	orders map[string]*order // by the domain's id
	said   map[string]*word  // by the domain's id
}

// word is what a domain said last. A status of a run that has ended may come
// after one of the next, and the other way round: who beats counts.
type word struct {
	run   string  // session of the last heartbeat; "": none came
	now   *Status // of that run; nil: not yet
	other *Status // of another one
	lost  bool    // it says nothing of what is
}

// says is what a domain says now; nil: nothing.
func (b *Book) says(domain string) *Status {
	if w := b.said[domain]; w != nil {
		return w.now
	}
	return nil
}

func (b *Book) hear(domain string) *word {
	if b.said[domain] == nil {
		b.said[domain] = new(word)
	}
	return b.said[domain]
}

// beats notes which run it is that beats.
func (b *Book) beats(run Run) {
	w := b.hear(run.Domain)
	w.lost = false
	if w.run == run.Session {
		return
	}
	w.run = run.Session
	for _, s := range []*Status{w.now, w.other} {
		if s != nil && s.Run == run {
			w.now, w.other = s, w.now
			return
		}
	}
	w.now, w.other = nil, w.now
}

// account is what one run of an agent was given.
type account struct {
	name string
	ends time.Time // of its last lease, by the hub's clock
	may  map[string]may
}

// may is a service that a run may be running while its lease holds.
type may struct {
	since Position // of the start command that brought it
	stop  time.Duration
}

// order is the last start command that a domain was given in this run of the hub.
type order struct {
	fence    Position            // who has not taken this one gets no lease
	services map[string]Position // the exclusive ones, and the command that brought each
}

// NewBook returns the book of a hub that starts now. run tells its commands
// from those of any other run. former is how long leases that an earlier run
// gave may matter.
func NewBook(run string, now time.Time, former time.Duration) *Book {
	return &Book{
		run: run, opens: now.Add(former),
		stops: make(map[string]time.Duration), runs: make(map[Run]*account),
		orders: make(map[string]*order), said: make(map[string]*word),
	}
}

// Configure sets how long leases are from now on, and which services are
// exclusive, with their stop_timeout.
func (b *Book) Configure(length time.Duration, stops map[string]time.Duration) {
	b.length, b.stops = length, stops
	for _, a := range b.runs {
		for service, m := range a.may {
			if stop, still := stops[service]; still {
				m.stop = max(m.stop, stop)
				a.may[service] = m
			} else {
				delete(a.may, service) // its owner wants no such promise any more
			}
		}
	}
	for _, o := range b.orders {
		maps.DeleteFunc(o.services, func(service string, _ Position) bool { _, still := stops[service]; return !still })
	}
}

// Patience is how long a lease given now matters.
func (b *Book) Patience() time.Duration {
	var longest time.Duration
	for _, stop := range b.stops {
		longest = max(longest, b.length+stop+Slack)
	}
	return longest
}

// Exclusive tells whether a service is.
func (b *Book) Exclusive(service string) bool { _, is := b.stops[service]; return is }

// before tells whether p is of an older start command than q. Those of other
// runs of the hub are older than all of this one, whatever their numbers: a hub
// that was restored from a backup counts the same numbers again.
func (b *Book) before(p, q Position) bool {
	if (p.Run == b.run) != (q.Run == b.run) {
		return q.Run == b.run
	}
	return p.Before(q)
}

// Ordered notes a start command that is given to a domain. services are all it
// holds.
func (b *Book) Ordered(domain string, at Position, services map[string]bool) {
	last := b.orders[domain]
	if last == nil {
		last = new(order)
	}
	o := &order{fence: last.fence, services: make(map[string]Position)}
	for service, in := range services {
		if !in || !b.Exclusive(service) {
			continue
		}
		since, known := last.services[service]
		if !known {
			since = at
		}
		o.services[service] = since
		for run, a := range b.runs {
			if run.Domain == domain && !known {
				a.may[service] = may{at, b.stops[service]}
			}
		}
	}
	if b.takes(domain, o.services) {
		o.fence = at
	}
	b.orders[domain] = o
}

// takes tells whether a domain may have a service that is not in a new command.
func (b *Book) takes(domain string, keeps map[string]Position) bool {
	gone := func(service string) bool { _, kept := keeps[service]; return !kept && b.Exclusive(service) }
	if o := b.orders[domain]; o != nil && slices.ContainsFunc(slices.Collect(maps.Keys(o.services)), gone) {
		return true
	}
	if s := b.says(domain); s != nil && slices.ContainsFunc(slices.Collect(maps.Keys(s.Services)), gone) {
		return true
	}
	for run, a := range b.runs {
		if run.Domain == domain && slices.ContainsFunc(slices.Collect(maps.Keys(a.may)), gone) {
			return true
		}
	}
	return false
}

// Says takes what a domain says of its services. Its word that one does not run
// counts when it cannot begin again: it has taken the command that holds it no
// more, or it says that it is stopped although it obeys the command that
// brought it, which is what an agent says that ends.
func (b *Book) Says(s Status) {
	w := b.hear(s.Domain)
	to := &w.now
	if w.run != "" && w.run != s.Session {
		to = &w.other
	}
	if was := *to; was != nil && was.Run == s.Run && b.before(s.At, was.At) {
		return // sent twice, and late
	}
	*to = &s
	a, o := b.runs[s.Run], b.orders[s.Domain]
	if a == nil {
		return
	}
	for service, m := range a.may {
		state, ordered := s.Services[service], false
		if o != nil {
			_, ordered = o.services[service]
		}
		switch {
		case state.Alive():
		case o != nil && !ordered && s.At.Run == b.run && !b.before(s.At, o.fence):
			delete(a.may, service)
		case (state == "" || state == topics.Stopped) && !b.before(s.At, m.since):
			delete(a.may, service)
		}
	}
}

// Lost says that nothing was heard of a domain for long: what it said last says
// nothing of what is, until it is heard again.
func (b *Book) Lost(domain string) { b.hear(domain).lost = true }

// Answer tells whether a heartbeat is answered by a lease, and for how long.
// One that is given is noted.
func (b *Book) Answer(beat Beat, now time.Time) (time.Duration, bool) {
	b.beats(beat.Run)
	s := b.says(beat.Domain)
	o, given := b.orders[beat.Domain]
	if !given {
		o = new(order)
	}
	// It must have said what it has, by the command that it obeys.
	if s == nil || s.Run != beat.Run || b.before(s.At, beat.At) || b.before(beat.At, o.fence) {
		return 0, false
	}
	covers := make(map[string]Position)
	for service, state := range s.Services {
		if !b.Exclusive(service) || state == topics.Stopped {
			continue
		}
		if _, ordered := o.services[service]; given && !ordered && beat.At.Run != b.run {
			return 0, false // it has not heard that this was taken from it
		}
		covers[service] = beat.At
	}
	maps.Copy(covers, o.services)
	if len(covers) == 0 || beat.Left <= 0 && !b.mayBegin(beat, o, now) {
		return 0, false
	}
	if beat.Left > 0 {
		b.inherit(beat.Run)
	}
	for service := range covers {
		if len(b.others(service, beat.Run, now)) > 0 || beat.Left <= 0 && b.saidElsewhere(service, beat.Domain) {
			return 0, false
		}
	}
	a := b.runs[beat.Run]
	if a == nil {
		a = &account{may: make(map[string]may)}
		b.runs[beat.Run] = a
	}
	a.name, a.ends = beat.Name, later(a.ends, now.Add(b.length))
	for service, since := range covers {
		if _, known := a.may[service]; !known {
			a.may[service] = may{since, b.stops[service]}
		}
	}
	return b.length, true
}

// AwaitsStatus reports whether a heartbeat gets no lease as long as its run has
// not reported what runs there since the command that it obeys, although it has
// or is to have exclusive services.
func (b *Book) AwaitsStatus(beat Beat) bool {
	if s := b.says(beat.Domain); s != nil && s.Run == beat.Run && !b.before(s.At, beat.At) {
		return false
	}
	o := b.orders[beat.Domain]
	return beat.Left > 0 || o != nil && len(o.services) > 0
}

// mayBegin tells whether a domain that has no lease may be given one: it obeys
// a command of this run of the hub, and those of earlier runs are over.
func (b *Book) mayBegin(beat Beat, o *order, now time.Time) bool {
	return !now.Before(b.opens) && beat.At.Run == b.run && len(o.services) > 0
}

// inherit hands what a former run of the same domain was given to the one that
// has its lease now: it took the services over.
func (b *Book) inherit(to Run) {
	for run, a := range b.runs {
		if run.Domain != to.Domain || run == to {
			continue
		}
		delete(b.runs, run)
		if b.runs[to] == nil {
			b.runs[to] = a
			continue
		}
		mine := b.runs[to]
		mine.ends = later(mine.ends, a.ends)
		for service, m := range a.may {
			if _, known := mine.may[service]; !known {
				mine.may[service] = m
			}
		}
	}
}

// others are the runs, but one, that may be running a service.
func (b *Book) others(service string, but Run, now time.Time) []Run {
	var all []Run
	for run, a := range b.runs {
		if m, may := a.may[service]; may && run != but && now.Before(a.over(m)) {
			all = append(all, run)
		}
	}
	return all
}

// saidBy are the domains that say that a service is alive there.
func (b *Book) saidBy(service string) []string {
	var all []string
	for id, w := range b.said {
		if !w.lost && w.now != nil && w.now.Services[service].Alive() {
			all = append(all, id)
		}
	}
	return all
}

func (b *Book) saidElsewhere(service, domain string) bool {
	return slices.ContainsFunc(b.saidBy(service), func(id string) bool { return id != domain })
}

func (a *account) over(m may) time.Time { return a.ends.Add(m.stop + Slack) }

// Hold says who may be given a service now.
type Hold struct {
	Free bool   // anybody
	Only string // else the id of the only domain that may; "" for none
	// Has is the id of the domain whose lease covers it; "" where none or several
	// have one. What another domain reports of a copy of its own takes nothing from
	// that one: an agent that was suspended beats before it reports what has ended.
	Has string
	// By is the name of who may be running it, "" for an earlier run of the
	// hub. Of several it is one.
	By string
	// Until is when that is over, if no lease is renewed; zero: when its domain
	// says that it stopped.
	Until time.Time
}

// Hold tells who may be given a service.
func (b *Book) Hold(service string, now time.Time) Hold {
	holders := b.others(service, Run{}, now)
	domains := make(map[string]bool)
	for _, run := range holders {
		domains[run.Domain] = true
	}
	h := Hold{Has: only(domains)}
	said := b.saidBy(service)
	for _, id := range said {
		domains[id] = true
	}
	switch {
	case len(holders) > 0:
		slices.SortFunc(holders, func(x, y Run) int { return cmp.Or(cmp.Compare(x.Domain, y.Domain), cmp.Compare(x.Session, y.Session)) })
		h.By = b.runs[holders[0]].name
		for _, run := range holders {
			a := b.runs[run]
			h.Until = later(h.Until, a.over(a.may[service]))
		}
	case now.Before(b.opens):
		h.Until = b.opens
	case len(said) > 0:
	default:
		return Hold{Free: true}
	}
	h.Only = only(domains)
	return h
}

// only returns the one of a set; "" where it has none or several.
func only(set map[string]bool) string {
	if len(set) != 1 {
		return ""
	}
	one := ""
	for one = range set {
	}
	return one
}

// May tells whether a domain may be given a service that it was not ordered to
// run before.
func (b *Book) May(service, domain string, now time.Time) bool {
	h := b.Hold(service, now)
	return h.Free || h.Only == domain
}

// Expire forgets what is over. changed: somebody who waited need not any more.
// next is when something is over, if it is not renewed; zero: nothing is.
func (b *Book) Expire(now time.Time) (next time.Time, changed bool) {
	sooner := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	if !b.opens.IsZero() {
		if now.Before(b.opens) {
			sooner(b.opens)
		} else {
			b.opens, changed = time.Time{}, true
		}
	}
	for run, a := range b.runs {
		for service, m := range a.may {
			if over := a.over(m); now.Before(over) {
				sooner(over)
			} else {
				delete(a.may, service)
				changed = true
			}
		}
		if len(a.may) == 0 && !now.Before(a.ends.Add(Slack)) {
			delete(b.runs, run)
		} else if len(a.may) == 0 {
			sooner(a.ends.Add(Slack))
		}
	}
	return next, changed
}

// Opened tells whether what an earlier run of the hub gave is over.
func (b *Book) Opened() bool { return b.opens.IsZero() }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
