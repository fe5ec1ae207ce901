// Package rotation owns the change of the dominion's authority: which domains have stored
// the next one, whether it can be used, and who was away when it was.
//
// It does no I/O, reads no clock and knows no other part of the hub. Package hub alone calls it,
// from its loop; package hub/store stores its State.
package rotation

import (
	"maps"
	"slices"
	"time"
)

// State is what is stored.
type State struct {
	// Next is the hash of the key of the authority that is to be used; "": none is.
	Next string `json:"next,omitempty"`
	// Compromised reports that the present authority ends at once.
	Compromised bool `json:"compromised,omitempty"`
	// Since is when the change was asked for.
	Since time.Time `json:"since,omitzero"`
	// Has are the domains that have stored Next, by id.
	Has map[string]bool `json:"has,omitempty"`
	// Behind are the domains, by id, that had not stored the present authority when it was used:
	// they are adopted again by their code.
	Behind map[string]bool `json:"behind,omitempty"`
}

// How long an authority that is compromised waits for the domains that are online.
const (
	// compromisedWait is how long a domain that is online may take to store the next authority.
	compromisedWait = 10 * time.Second
	// restartWait is how long the domains may take to come back after a start of the hub.
	restartWait = 30 * time.Second
)

// Rotation is the change of an authority. Make it with New.
type Rotation struct {
	state   State
	changed bool
	// notBefore and until are when an authority that is compromised ends, at the earliest and
	// at the latest.
	notBefore, until time.Time
	// retryAt is when it is tried again to use the next one, after the disk did not take it.
	retryAt time.Time
	// interrupted is set if it is not known who has the next one: it goes on when it is asked for.
	interrupted bool
	// using is set while the next authority is being used.
	using bool
}

// New returns what an earlier run of the hub stored, at its start. next is the hash of the
// key of the authority that will replace the present one; "": none will.
func New(state State, present, next string, now time.Time) *Rotation {
	r := &Rotation{state: State{
		Next: state.Next, Compromised: state.Compromised, Since: state.Since, Has: maps.Clone(state.Has), Behind: maps.Clone(state.Behind),
	}}
	if r.state.Has == nil {
		r.state.Has = make(map[string]bool)
	}
	switch {
	case next != "" && next != state.Next: // that it was begun was not stored, or is lost
		r.Begin(next, false, now)
		r.interrupted = true
	case next == "" && state.Next != "" && state.Next != present: // it was given up
		r.end()
	}
	r.notBefore, r.until = now.Add(restartWait), now.Add(restartWait)
	return r
}

// State returns what is to be stored, and whether it has changed since the last call.
func (r *Rotation) State() (State, bool) {
	changed := r.changed
	r.changed = false
	s := r.state // what is stored must not change with it
	s.Has, s.Behind = maps.Clone(s.Has), maps.Clone(s.Behind)
	return s, changed
}

// Successor returns the hash of the key of the authority that is to be used; "": none is.
func (r *Rotation) Successor() string { return r.state.Next }

// Compromised reports whether the present authority ends at once.
func (r *Rotation) Compromised() bool { return r.state.Compromised }

// Since returns when the change was asked for.
func (r *Rotation) Since() time.Time { return r.state.Since }

// Begin begins the change to an authority. Asked again, it can only become more urgent.
func (r *Rotation) Begin(next string, compromised bool, now time.Time) {
	if r.state.Next != next {
		r.state.Next, r.state.Since, r.state.Compromised, r.state.Has = next, now, false, make(map[string]bool)
	}
	if compromised {
		r.state.Compromised = true
	}
	r.interrupted = false
	r.notBefore, r.until = now, now.Add(compromisedWait)
	r.changed = true
}

// Stored takes which authority a domain has stored last, and reports whether that is news.
func (r *Rotation) Stored(id, authority, present string) bool {
	has, behind := r.state.Has[id], r.state.Behind[id]
	switch {
	case r.state.Next != "" && authority == r.state.Next:
		if !has {
			r.state.Has[id] = true
		}
		delete(r.state.Behind, id)
	case authority == present:
		delete(r.state.Has, id)
		delete(r.state.Behind, id)
	default:
		delete(r.state.Has, id)
	}
	news := has != r.state.Has[id] || behind != r.state.Behind[id]
	r.changed = r.changed || news
	return news
}

// Due reports whether the next authority is to be used now: all domains have it, or the
// present one is compromised and those have it that are online. It is so once; Used or
// Failed follows.
func (r *Rotation) Due(domains []string, online func(id string) bool, now time.Time) bool {
	if r.state.Next == "" || r.using || r.interrupted || now.Before(r.retryAt) {
		return false
	}
	missing := r.missing(domains)
	due := len(missing) == 0
	if r.state.Compromised && !due && !now.Before(r.notBefore) {
		due = !now.Before(r.until) || !slices.ContainsFunc(missing, online)
	}
	r.using = due
	return due
}

// Next returns when Due may report something without news of domains; zero: not by itself.
func (r *Rotation) Next() time.Time {
	switch {
	case r.state.Next == "" || r.using || r.interrupted:
		return time.Time{}
	case !r.retryAt.IsZero():
		return r.retryAt
	case r.state.Compromised:
		return r.until
	}
	return time.Time{}
}

// retryAfter is how long a disk that did not take the next authority is left alone.
const retryAfter = time.Minute

// Failed takes that the next authority could not be used: it is tried again.
func (r *Rotation) Failed(now time.Time) {
	r.using, r.retryAt = false, now.Add(retryAfter)
}

// Used takes that the next authority is used, and returns the domains that have not stored it.
func (r *Rotation) Used(domains []string) (behind []string) {
	behind = r.missing(domains)
	if len(behind) > 0 && r.state.Behind == nil {
		r.state.Behind = make(map[string]bool)
	}
	for _, id := range behind {
		r.state.Behind[id] = true
	}
	r.end()
	return behind
}

// end ends the change.
func (r *Rotation) end() {
	r.state.Next, r.state.Compromised, r.state.Since, r.state.Has = "", false, time.Time{}, make(map[string]bool)
	r.using, r.changed, r.retryAt = false, true, time.Time{}
}

// missing returns those of the domains that have not stored the next authority.
func (r *Rotation) missing(domains []string) []string {
	return slices.DeleteFunc(slices.Clone(domains), func(id string) bool { return r.state.Has[id] })
}

// Interrupted reports whether a change was begun and it is not known who has the next
// authority: it goes on when it is asked for again.
func (r *Rotation) Interrupted() bool { return r.interrupted }

// Has reports whether a domain has stored the next authority.
func (r *Rotation) Has(id string) bool { return r.state.Has[id] }

// Behind reports whether a domain had not stored the present authority when it was used.
func (r *Rotation) Behind(id string) bool { return r.state.Behind[id] }

// AnyBehind reports whether a domain had not stored the present authority when it was used.
func (r *Rotation) AnyBehind() bool { return len(r.state.Behind) > 0 }

// Retain drops what is remembered of domains that are not adopted any more.
func (r *Rotation) Retain(adopted func(id string) bool) {
	for _, all := range []map[string]bool{r.state.Has, r.state.Behind} {
		for id := range all {
			if !adopted(id) {
				delete(all, id)
				r.changed = true
			}
		}
	}
}
