package broker

import (
	"cmp"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/atomicfile"
)

// What is remembered of client identifiers that have no session.
const (
	ownedMost    = 1000          // of one user
	ownedLongest = 256           // bytes of one: longer ones are their user's while they have a session
	ownedSettles = time.Minute   // one that is used for so long, or twice, is written down
	ownedPause   = time.Hour     // between two writes, for the sake of SD cards
	ownersFile   = "owners.json" // of the data directory: a list by user, used last comes last
)

// owners remembers which user a client identifier belongs to: the one who
// first used it. Who takes another's identifier would end the other's
// connection, and get what waits for it [MQTT-3.1.4-3].
//
// An identifier that only anonymous clients used belongs to nobody yet: the
// home that begins without users gets them later. Those that were used for a
// moment, as programs make one up for each run, are not written down, and those
// that the engine made up are not even remembered.
type owners struct {
	mu    sync.Mutex
	all   map[string]*claim          // by identifier
	of    map[string]map[string]bool // identifiers by user
	clock uint64                     // counts uses
	dirty bool                       // the file says something else
	wrote time.Time
}

// claim is the right of a user to an identifier.
type claim struct {
	user    string
	used    uint64
	since   time.Time
	settled bool // it is, or is to be, in the file
}

// take tells whether a user may use an identifier, which is the user's from
// then on, and else whose it is. there tells whether a user is still one: what
// is left of a user that was removed goes to the next. inSession returns the
// user of the session that an identifier has.
func (o *owners) take(id, user string, now time.Time, there func(string) bool, inSession func(id string) (user string, has bool)) (owner string, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.all[id]
	if c != nil {
		owner = c.user
	} else {
		owner, _ = inSession(id)
	}
	if owner != "" && owner != user && there(owner) {
		return owner, false
	}
	if user == "" || len(id) > ownedLongest {
		return "", true
	}
	if c != nil && c.user != user {
		o.forget(id)
		c = nil
	}
	if c == nil {
		c = o.add(id, user, now, inSession)
	} else if !c.settled {
		c.settled, o.dirty = true, true
	}
	o.clock++
	c.used = o.clock
	return user, true
}

// holder returns the user that an identifier belongs to, "" for none.
func (o *owners) holder(id string, inSession func(id string) (user string, has bool)) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c := o.all[id]; c != nil {
		return c.user
	}
	user, _ := inSession(id)
	return user
}

// give makes an identifier a user's, whoever had it.
func (o *owners) give(id, user string, now time.Time, inSession func(id string) (user string, has bool)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.all[id]
	if c != nil && c.user != user {
		o.forget(id)
		c = nil
	}
	if len(id) > ownedLongest {
		return
	}
	if c == nil {
		c = o.add(id, user, now, inSession)
	} else if !c.settled {
		c.settled, o.dirty = true, true
	}
	o.clock++
	c.used = o.clock
}

// add makes a claim. The caller holds the mutex.
func (o *owners) add(id, user string, now time.Time, inSession func(string) (string, bool)) *claim {
	if o.all == nil {
		o.all, o.of = make(map[string]*claim), make(map[string]map[string]bool)
	}
	ids := o.of[user]
	if ids == nil {
		ids = make(map[string]bool)
		o.of[user] = ids
	}
	if len(ids) >= ownedMost {
		oldest := ""
		for other := range ids {
			if _, has := inSession(other); !has && (oldest == "" || o.all[other].used < o.all[oldest].used) {
				oldest = other
			}
		}
		o.forget(oldest)
	}
	c := &claim{user: user, since: now}
	o.all[id] = c
	ids[id] = true
	return c
}

// forget ends a claim. The caller holds the mutex.
func (o *owners) forget(id string) (was bool) {
	c := o.all[id]
	if c == nil {
		return false
	}
	delete(o.all, id)
	delete(o.of[c.user], id)
	if len(o.of[c.user]) == 0 {
		delete(o.of, c.user)
	}
	o.dirty = o.dirty || c.settled
	return true
}

// free makes an identifier nobody's.
func (o *owners) free(id string) (was bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.forget(id)
}

// settle returns what is to be written now, if anything is: identifiers by
// user, used last comes last.
func (o *owners) settle(now time.Time, end bool, there func(string) bool, inSession func(string) (string, bool)) (ids map[string][]string, due bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, c := range o.all {
		if _, has := inSession(id); !c.settled && has && now.Sub(c.since) >= ownedSettles {
			c.settled, o.dirty = true, true
		}
	}
	if !o.dirty || !end && !o.wrote.IsZero() && now.Sub(o.wrote) < ownedPause {
		return nil, false
	}
	ids = make(map[string][]string)
	for id, c := range o.all {
		if c.settled && there(c.user) {
			ids[c.user] = append(ids[c.user], id)
		}
	}
	for user := range ids {
		slices.SortFunc(ids[user], func(a, b string) int { return cmp.Compare(o.all[a].used, o.all[b].used) })
	}
	return ids, true
}

// written says that it was.
func (o *owners) written(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wrote, o.dirty = now, false
}

// read takes over what was written.
func (o *owners) read(ids map[string][]string, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, user := range slices.Sorted(maps.Keys(ids)) {
		for _, id := range ids[user] {
			if user == "" || len(id) > ownedLongest || o.all[id] != nil {
				continue // somebody edited the file
			}
			c := o.add(id, user, now, func(string) (string, bool) { return "", false })
			o.clock++
			c.used, c.settled = o.clock, true
		}
	}
}

// readOwners reads the file; one that is not there is empty.
func (b *Broker) readOwners() error {
	if b.config.DataDir == "" {
		return nil
	}
	ids, _, err := atomicfile.ReadJSON[map[string][]string](filepath.Join(b.config.DataDir, ownersFile), b.log)
	if err == nil {
		b.owners.read(ids, time.Now())
	}
	return err
}

// writeOwners writes the file if there is something new and it is time to, or
// the end. What could not be written is tried again.
func (b *Broker) writeOwners(end bool) {
	if b.config.DataDir == "" {
		return
	}
	now := time.Now()
	ids, due := b.owners.settle(now, end, b.isUser, b.engine.UserOf)
	if !due {
		return
	}
	if err := atomicfile.WriteJSON(filepath.Join(b.config.DataDir, ownersFile), ids); err != nil {
		if b.refusals.tell("", "owners", now) {
			b.log.Error("which client identifiers belong to whom is forgotten if the hub is restarted now", "error", err)
		}
		return
	}
	b.owners.written(now)
}

// Forget ends a client: its connection, the session that is kept for it with
// what waits there, and the right of its user to the identifier, which is the
// next one's who uses it. It is false where none of these is.
func (b *Broker) Forget(client string) bool {
	ended := b.engine.Forget(client, "an administrator ended it")
	return b.owners.free(client) || ended
}
