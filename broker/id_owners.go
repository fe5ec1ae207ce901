package broker

import (
	"cmp"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/internal/atomicfile"
)

// What is remembered of client identifiers that have no session.
const (
	// maxOwnedPerUser bounds the identifiers of one user.
	maxOwnedPerUser = 1000
	// maxOwnedIDBytes bounds the length of one: longer ones belong to their user while
	// they have a session.
	maxOwnedIDBytes = 256
	// persistAfter is how long an identifier must be used before it is written to the
	// file, unless it is used twice.
	persistAfter = time.Minute
	// writeInterval is the minimum time between two writes, for the sake of SD cards.
	writeInterval = time.Hour
	// ownersFile is in the data directory: a list for each user, last used last.
	ownersFile = "owners.json"
)

// idOwners records which user a client identifier belongs to: the one who first used
// it. A client that uses another's identifier would end the other's connection, and
// receive what is queued for it [MQTT-3.1.4-3].
//
// An identifier that only anonymous clients used belongs to no user: a home without
// users may add them later. Identifiers that were used briefly are not persisted, as
// programs generate one for each run; those that the engine generated are not recorded
// at all.
type idOwners struct {
	mu     sync.Mutex
	byID   map[string]*ownership
	byUser map[string]map[string]bool
	// clock counts uses.
	clock uint64
	// dirty is set if the file is out of date.
	dirty     bool
	writtenAt time.Time
}

// ownership is the right of a user to an identifier.
type ownership struct {
	user string
	// usedAt is the value of clock at the last use.
	usedAt uint64
	since  time.Time
	// persistent is set if it is, or is to be, in the file.
	persistent bool
}

// owned reports whether an identifier belongs to a user.
func (o *idOwners) owned(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.byID[id] != nil
}

// claim reports whether a user may use an identifier, and makes it that user's;
// otherwise it returns the owner. exists reports whether a user exists: what belonged
// to a removed user goes to the next. inSession returns the user of the session that
// an identifier has.
func (o *idOwners) claim(id, user string, now time.Time, exists func(string) bool, inSession func(id string) (user string, has bool)) (owner string, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.byID[id]
	if c != nil {
		owner = c.user
	} else {
		owner, _ = inSession(id)
	}
	if owner != "" && owner != user && exists(owner) {
		return owner, false
	}
	if user == "" || len(id) > maxOwnedIDBytes {
		return "", true
	}
	if c != nil && c.user != user {
		o.forget(id)
		c = nil
	}
	if c == nil {
		c = o.add(id, user, now, inSession)
	} else if !c.persistent {
		c.persistent, o.dirty = true, true
	}
	o.clock++
	c.usedAt = o.clock
	return user, true
}

// owner returns the user that an identifier belongs to; "": none.
func (o *idOwners) owner(id string, inSession func(id string) (user string, has bool)) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c := o.byID[id]; c != nil {
		return c.user
	}
	user, _ := inSession(id)
	return user
}

// assign makes an identifier a user's, whoever had it.
func (o *idOwners) assign(id, user string, now time.Time, inSession func(id string) (user string, has bool)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.byID[id]
	if c != nil && c.user != user {
		o.forget(id)
		c = nil
	}
	if len(id) > maxOwnedIDBytes {
		return
	}
	if c == nil {
		c = o.add(id, user, now, inSession)
	} else if !c.persistent {
		c.persistent, o.dirty = true, true
	}
	o.clock++
	c.usedAt = o.clock
}

// add adds an ownership. If the user has too many, the least recently used without a
// session is removed. The caller holds the mutex.
func (o *idOwners) add(id, user string, now time.Time, inSession func(string) (string, bool)) *ownership {
	if o.byID == nil {
		o.byID, o.byUser = make(map[string]*ownership), make(map[string]map[string]bool)
	}
	ids := o.byUser[user]
	if ids == nil {
		ids = make(map[string]bool)
		o.byUser[user] = ids
	}
	if len(ids) >= maxOwnedPerUser {
		oldest := ""
		for other := range ids {
			if _, has := inSession(other); !has && (oldest == "" || o.byID[other].usedAt < o.byID[oldest].usedAt) {
				oldest = other
			}
		}
		o.forget(oldest)
	}
	c := &ownership{user: user, since: now}
	o.byID[id] = c
	ids[id] = true
	return c
}

// forget removes an ownership, and reports whether there was one. The caller holds the
// mutex.
func (o *idOwners) forget(id string) (existed bool) {
	c := o.byID[id]
	if c == nil {
		return false
	}
	delete(o.byID, id)
	delete(o.byUser[c.user], id)
	if len(o.byUser[c.user]) == 0 {
		delete(o.byUser, c.user)
	}
	o.dirty = o.dirty || c.persistent
	return true
}

// release removes the ownership of an identifier, and reports whether there was one.
func (o *idOwners) release(id string) (existed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.forget(id)
}

// releaseUser removes all ownerships of a user, and returns the identifiers.
func (o *idOwners) releaseUser(user string) map[string]bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	ids := maps.Clone(o.byUser[user])
	for id := range ids {
		o.forget(id)
	}
	return ids
}

// pendingWrite returns what is to be written now, identifiers by user, last used last;
// due is false if nothing is.
func (o *idOwners) pendingWrite(now time.Time, end bool, exists func(string) bool, inSession func(string) (string, bool)) (ids map[string][]string, due bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, c := range o.byID {
		if _, has := inSession(id); !c.persistent && has && now.Sub(c.since) >= persistAfter {
			c.persistent, o.dirty = true, true
		}
	}
	if !o.dirty || !end && !o.writtenAt.IsZero() && now.Sub(o.writtenAt) < writeInterval {
		return nil, false
	}
	ids = make(map[string][]string)
	for id, c := range o.byID {
		if c.persistent && exists(c.user) {
			ids[c.user] = append(ids[c.user], id)
		}
	}
	for user := range ids {
		slices.SortFunc(ids[user], func(a, b string) int { return cmp.Compare(o.byID[a].usedAt, o.byID[b].usedAt) })
	}
	return ids, true
}

// noteWritten is called when the file was written.
func (o *idOwners) noteWritten(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writtenAt, o.dirty = now, false
}

// restore adds the content of the file.
func (o *idOwners) restore(ids map[string][]string, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, user := range slices.Sorted(maps.Keys(ids)) {
		for _, id := range ids[user] {
			if user == "" || len(id) > maxOwnedIDBytes || o.byID[id] != nil {
				continue // the file was edited
			}
			c := o.add(id, user, now, func(string) (string, bool) { return "", false })
			o.clock++
			c.usedAt, c.persistent = o.clock, true
		}
	}
}

// readOwners reads the file. A missing one is empty.
func (b *Broker) readOwners() error {
	if b.config.DataDir == "" {
		return nil
	}
	ids, _, err := atomicfile.ReadJSON[map[string][]string](filepath.Join(b.config.DataDir, ownersFile), b.log)
	if err == nil {
		b.clientIDs.restore(ids, time.Now())
	}
	return err
}

// writeOwners writes the file if it is out of date and writeInterval has passed, or at
// the end. A failed write is tried again.
func (b *Broker) writeOwners(end bool) {
	if b.config.DataDir == "" {
		return
	}
	now := time.Now()
	ids, due := b.clientIDs.pendingWrite(now, end, b.userExists, b.engine.UserOf)
	if !due {
		return
	}
	if err := atomicfile.WriteJSON(filepath.Join(b.config.DataDir, ownersFile), ids); err != nil {
		if b.logLimit.allow("", "owners", now) {
			b.log.Error("the owners of client identifiers cannot be written: a restart would forget them", "error", err)
		}
		return
	}
	b.clientIDs.noteWritten(now)
}

// Forget ends a client: its connection, its session with what is queued for it, and
// its user's right to the identifier. It reports whether there was any of these.
func (b *Broker) Forget(client string) bool {
	ended := b.engine.Forget(client, "an administrator disconnected it")
	return b.clientIDs.release(client) || ended
}
