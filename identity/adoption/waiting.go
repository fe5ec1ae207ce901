package adoption

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	maxWaiting   = 64
	maxOfAddress = 4
	// waitingExpiry is how long a machine that asks no more is shown: it asks each 5 s.
	waitingExpiry = 30 * time.Second
)

// Waiting are the domains that wait for adoption, as a hub shows them.
type Waiting struct {
	all map[string]*Applying // by hash of the key
}

// Applying is a domain that waits.
type Applying struct {
	Question Question
	// Address is where it asks from.
	Address string
	// Since and Last are when it asked first and last.
	Since, Last time.Time
}

// errFull means that there are too many that wait.
var errFull = errors.New("too many machines wait for adoption")

// Put records a question that was checked by Decode. added is true for a machine that was not
// waiting. At most 64 wait, 4 of one address; the one that was silent the longest makes room.
func (w *Waiting) Put(q Question, address string, now time.Time) (added bool, err error) {
	key := q.KeyHash()
	if a := w.all[key]; a != nil {
		a.Question, a.Address, a.Last = q, address, now
		return false, nil
	}
	if w.all == nil {
		w.all = make(map[string]*Applying)
	}
	of, oldest, oldestOf := 0, "", ""
	older := func(key, than string) bool { return than == "" || w.all[key].Last.Before(w.all[than].Last) }
	for key, a := range w.all {
		if older(key, oldest) {
			oldest = key
		}
		if a.Address == address {
			if of++; older(key, oldestOf) {
				oldestOf = key
			}
		}
	}
	evict := ""
	if of >= maxOfAddress {
		evict = oldestOf
	} else if len(w.all) >= maxWaiting {
		evict = oldest
	}
	if evict != "" {
		if !w.all[evict].Last.Before(now) {
			return false, errFull
		}
		delete(w.all, evict)
	}
	w.all[key] = &Applying{Question: q, Address: address, Since: now, Last: now}
	return true, nil
}

// Remove removes a machine: it was adopted, or went away.
func (w *Waiting) Remove(keyHash string) { delete(w.all, keyHash) }

// Get returns a machine by the hash of its key.
func (w *Waiting) Get(keyHash string) (Applying, bool) {
	a := w.all[keyHash]
	if a == nil {
		return Applying{}, false
	}
	return *a, true
}

// List returns those that wait, by name.
func (w *Waiting) List() []Applying {
	list := make([]Applying, 0, len(w.all))
	for _, a := range w.all {
		list = append(list, *a)
	}
	slices.SortFunc(list, func(a, b Applying) int {
		return cmp.Or(strings.Compare(a.Question.Name, b.Question.Name), strings.Compare(a.Question.KeyHash(), b.Question.KeyHash()))
	})
	return list
}

// Named returns those that a person means by a name, or by the first characters of the label of a key.
// Of several machines of one name, the code decides which one is meant.
func (w *Waiting) Named(name string) []Applying {
	label := strings.ReplaceAll(strings.ToLower(name), " ", "")
	return slices.DeleteFunc(w.List(), func(a Applying) bool {
		return a.Question.Name != name && (len(label) < 8 || !strings.HasPrefix(a.Question.KeyHash(), label))
	})
}

// Expire removes those that have not asked for a while, and returns their names.
func (w *Waiting) Expire(now time.Time) []string {
	var gone []string
	for key, a := range w.all {
		if now.Sub(a.Last) >= waitingExpiry {
			delete(w.all, key)
			gone = append(gone, a.Question.Name)
		}
	}
	slices.Sort(gone)
	return gone
}

// Next returns when Expire has something to do; zero if nobody waits.
func (w *Waiting) Next() time.Time {
	var next time.Time
	for _, a := range w.all {
		if at := a.Last.Add(waitingExpiry); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

// String names a machine for people: name, address, and label of its key.
func (a Applying) String() string {
	return fmt.Sprintf("%s at %s (%s)", a.Question.Name, a.Address, a.Question.Label())
}
