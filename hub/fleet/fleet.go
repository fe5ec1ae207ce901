// Package fleet owns the domains of a home: which ones there are, which machine has which
// name and id, who is online, offline, lost or flapping, who was refused, and who announces
// itself and has not joined.
//
// It does no I/O and knows no other part of the hub: messages of machines in, domains,
// changes of their state, and refusals out. It decides at two places who somebody is: Join
// for a machine that asks, Sender for a message that nobody answers. Expire does what time
// has made due. Package hub alone imports it, and calls it from its loop.
//
// # Files
//
//	admit.go           which machine may have a name or id; renaming, forgetting
//	announced.go       machines that zeroconf shows and that have not joined
//	awaited_status.go  a status that is missing: asking for it
//	copies.go          two machines of one id
//	domain.go          what is known of a domain
//	epoch.go           epoch and generations, and by how much domains may raise them
//	flapping.go        when a domain flaps, and for how long
//	fleet.go           the registry; how many domains; when something is due
//	guests.go          names without a record
//	join.go            joins and refused machines
//	machine_load.go    figures of a machine as placement takes them: full above, steps
//	replay.go          signed messages that were taken already
//	settling.go        waiting after a start of the hub
//	state.go           online, offline, lost
//	status.go          which status is taken
//	view.go            how domains are shown; their problems
package fleet

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// What others can make the hub remember is bounded: whoever may publish at all could else
// fill its memory with names, and the log and the SD card with reports about them.
const (
	maxDomains = 4096 // far beyond a home
	maxRefused = 256  // machines that wanted the name or the id of another one
	maxID      = 64   // characters of the id of a domain, which is a UUID
)

// Options are what a Fleet needs of the rest of the hub.
type Options struct {
	// Dominion is the id of the dominion.
	Dominion string
	// IsAdmin and IsUser report whether a user of the broker is an admin, and whether there
	// is such a user.
	IsAdmin, IsUser func(user string) bool
	// HasKey reports whether the domain with an id has a key, so that its heartbeats have
	// MACs; nil: none has.
	HasKey func(id string) bool
	// RevokedKey returns the label of the key of the domain with an id if that was revoked, so that
	// nothing is taken from it and it is not online; "": it was not. nil: none was.
	RevokedKey func(id string) string
	// Refuse reports what is not taken, at a bounded rate for each cause.
	Refuse func(cause string, e topics.Event, now time.Time)
	// LostAfter is the silence that makes a domain lost, FailoverAfter how long after that
	// its services go elsewhere.
	LostAfter, FailoverAfter time.Duration
	// Embedded reports that the broker began with the hub: nobody is connected to it from
	// before, whatever it had stored.
	Embedded bool
}

// Fleet is the registry of the domains. Make it with New.
type Fleet struct {
	o        Options
	settling settling
	// alone reports that no other machine reaches a listener of the broker.
	alone   bool
	domains map[string]*Domain
	// sorted are the domains by name; nil after one came or went.
	sorted []*Domain
	// identities reports that a domain has another id, name or user than before.
	identities bool
	// lastRunning is the last number of Domain.RunningOrder.
	lastRunning uint64
	// claimed is by how much heartbeats have raised generations in this epoch.
	claimed uint64

	guests guests
	// announced are the machines that announce themselves, by name, lonely those of them
	// that should have joined by now.
	announced map[string]announced
	lonely    map[string]Announcement
	refused   map[refusalKey]*refusal
	// copies are by the session of the machine that was refused as one.
	copies map[string]*copyMark
	// unreadable is why the last status of a domain was not taken, by name.
	unreadable map[string]string

	// next is when Expire has something to do, as of the last one; zero: nothing.
	next time.Time
}

// New returns a fleet without domains.
func New(o Options) *Fleet {
	return &Fleet{
		o: o, identities: true,
		settling:   settling{unproved: o.Embedded},
		domains:    make(map[string]*Domain),
		guests:     newGuests(),
		lonely:     make(map[string]Announcement),
		refused:    make(map[refusalKey]*refusal),
		copies:     make(map[string]*copyMark),
		unreadable: make(map[string]string),
	}
}

// Configure takes over the times of a configuration, as in Options.
func (f *Fleet) Configure(lostAfter, failoverAfter time.Duration) {
	f.o.LostAfter, f.o.FailoverAfter = lostAfter, failoverAfter
}

// SetAlone notes that no other machine reaches a listener of the broker.
func (f *Fleet) SetAlone(alone bool) { f.alone = alone }

// Restore adds a domain of an earlier run of the hub. One that is expected is waited for.
func (f *Fleet) Restore(d Domain, expected bool) *Domain {
	d.expected = expected
	if d.State == "" {
		d.State = topics.DomainIsOffline
	}
	f.domains[d.Name], f.sorted, f.identities = &d, nil, true
	return &d
}

// Get returns the domain with a name; nil: there is none.
func (f *Fleet) Get(name string) *Domain { return f.domains[name] }

// WithID returns the domain that has an id; nil: none has. It looks at all domains.
func (f *Fleet) WithID(id string) *Domain { return f.withID(id, "") }

// withID returns the domain of another name than butName that has an id; nil: none has. It
// is asked only where a machine is new or claims what it does not have.
func (f *Fleet) withID(id, butName string) *Domain {
	if id == "" {
		return nil
	}
	for _, d := range f.domains {
		if d.ID == id && d.Name != butName && !d.Micro {
			return d
		}
	}
	return nil
}

// Len returns how many domains there are.
func (f *Fleet) Len() int { return len(f.domains) }

// All returns the domains, in no order.
func (f *Fleet) All() iter.Seq[*Domain] { return maps.Values(f.domains) }

// Sorted returns the domains by name. The slice must not be changed.
func (f *Fleet) Sorted() []*Domain {
	if f.sorted == nil {
		f.sorted = slices.SortedFunc(maps.Values(f.domains), func(a, b *Domain) int { return cmp.Compare(a.Name, b.Name) })
	}
	return f.sorted
}

// IdentitiesChanged reports whether a domain has another id, name or user than when it was
// last called.
func (f *Fleet) IdentitiesChanged() bool {
	changed := f.identities
	f.identities = false
	return changed
}

// Connected gives each domain that sends heartbeats its time again: the hub could not
// receive them.
func (f *Fleet) Connected(now time.Time) {
	for _, d := range f.domains {
		if !d.BeatAt.IsZero() && d.State != topics.DomainIsLost {
			d.BeatAt = now
		}
	}
}

// Disconnected forgets what comes again with the next connection.
func (f *Fleet) Disconnected() { clear(f.unreadable) }

// StoodStill does not count a time since some moment as silence, in which the hub itself
// did nothing. It reports whether a domain would have become silent by it.
func (f *Fleet) StoodStill(since time.Time, by time.Duration) (any bool) {
	for _, d := range f.domains {
		if d.beats(since, f.o.LostAfter) {
			d.BeatAt = d.BeatAt.Add(by)
			any = true
		}
	}
	return any
}

// Beats reports whether a domain is not silent: a heartbeat or a join came within the time
// that makes it lost.
func (f *Fleet) Beats(d *Domain, now time.Time) bool { return d.beats(now, f.o.LostAfter) }

// Expired is what Expire did.
type Expired struct {
	// Transitions are the domains whose state changed.
	Transitions []Transition
	// Changed are the names of domains whose state changed.
	Changed []string
	// Lonely are machines that have announced themselves for a while and have not joined.
	Lonely []Announcement
	// Offline are names at which the broker retains "online" of an earlier run of the hub,
	// and nobody is there.
	Offline []string
	// Whole reports that something changed that is not of one domain.
	Whole bool
	// Ready reports that the hub waits for no domain any more.
	Ready bool
}

// checksPerSilence is how often at least Expire is called within the silence that makes a domain lost,
// so that the hub notices when it stood still itself.
const checksPerSilence = 4

// LookInterval returns the longest time between two calls of Expire while domains send
// heartbeats.
func (f *Fleet) LookInterval() time.Duration { return f.o.LostAfter / checksPerSilence }

// Expire does what time has made due.
func (f *Fleet) Expire(now time.Time) (e Expired) {
	f.next = time.Time{}
	f.expireSettling(&e, now)
	f.expireGuests(&e, now)
	f.expireAnnounced(&e, now)
	for _, d := range f.domains {
		if t, changed := f.Update(d, now); changed {
			e.Transitions = append(e.Transitions, t)
		}
		f.expireDomain(d, &e, now)
	}
	for session, m := range f.copies {
		if !f.due(m.at.Add(copyLifetime), now) {
			delete(f.copies, session)
		}
	}
	for key, r := range f.refused {
		if !f.due(r.at.Add(refusalLifetime), now) {
			delete(f.refused, key)
			e.Whole = true
		}
	}
	return e
}

// expireDomain does what is due of one domain, besides its state.
func (f *Fleet) expireDomain(d *Domain, e *Expired, now time.Time) {
	if d.flaps.now() && !f.due(d.flaps.until, now) {
		d.flaps.until = time.Time{}
		e.Changed = append(e.Changed, d.Name)
	}
	if d.State == topics.DomainIsLost {
		if !d.Gone && !f.due(d.Since.Add(f.o.FailoverAfter), now) {
			d.Gone = true
			e.Changed = append(e.Changed, d.Name)
		}
		return
	}
	if f.Beats(d, now) {
		f.due(d.BeatAt.Add(f.o.LostAfter), now)
		f.due(now.Add(f.LookInterval()), now)
	}
}

// due reports whether a moment is still to come, and has Next return no later one.
func (f *Fleet) due(at, now time.Time) bool {
	if !now.Before(at) {
		return false
	}
	if f.next.IsZero() || at.Before(f.next) {
		f.next = at
	}
	return true
}

// Next returns when Expire has something to do, as of its last call; zero: not by itself.
func (f *Fleet) Next() time.Time { return f.next }
