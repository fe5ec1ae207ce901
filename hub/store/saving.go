package store

import "time"

// minorInterval is the time between two writes of changes that need not be on disk soon: a
// domain that is lost and comes back each few seconds must not wear the card out.
const minorInterval = 5 * time.Minute

// retryInterval is the time between tries to write what the disk did not take.
const retryInterval = time.Minute

// warnInterval is the time between two warnings that changes come too fast.
const warnInterval = time.Hour

// unsaved is what of the State is to be written, and when.
type unsaved struct {
	// changed reports that something is to be on disk with the next SaveWhenDue.
	changed bool
	// members reports that who is adopted is to be written beside the keys too.
	members bool
	// minor reports that something can wait until minorAt.
	minor   bool
	minorAt time.Time
	// budgetAt is until when a write waits for its budget; zero: none does.
	budgetAt time.Time
	// retryAt is when to write again what the disk did not take; zero: it took all.
	retryAt time.Time
	// warnedAt is when the log was warned last that changes come too fast.
	warnedAt time.Time
}

// Change changes the State. It is written by the next SaveWhenDue: a home that is lost or
// comes back as a whole is one write, not one a domain. With a full disk the change holds
// all the same, for this run of the hub.
func (s *Store) Change(change func(*State)) {
	change(&s.state)
	s.unsaved.changed = true
}

// ChangeMinor changes what a hub can do without that is killed: it waits at its start for a
// domain that was lost, or announces a temperature to Home Assistant a moment later.
func (s *Store) ChangeMinor(change func(*State)) {
	change(&s.state)
	s.unsaved.minor = true
}

// Saved is what became of a write.
type Saved struct {
	// Failed is why the disk did not take it, where it took the write before; nil: it took
	// it, or nothing is new about that.
	Failed error
	// Recovered reports that the disk takes writes again.
	Recovered bool
}

// SaveWhenDue writes the State where it has changed, unless so much was written that it must
// wait, and tries again to write what the disk did not take.
func (s *Store) SaveWhenDue(now time.Time) Saved {
	u := &s.unsaved
	if !u.retryAt.IsZero() && !now.Before(u.retryAt) {
		return s.write(now)
	}
	if minorDue := u.minor && !now.Before(u.minorAt); !u.changed && !minorDue {
		return Saved{}
	}
	if next := s.budget.Next(now); next.After(now) {
		u.budgetAt = next
		if u.warnedAt.IsZero() || now.Sub(u.warnedAt) >= warnInterval {
			u.warnedAt = now
			s.log.Warn("what the hub keeps on disk changes so often that it is written later, for the sake of SD cards: who starts, stops or joins again and again?", "next", next.Sub(now).Round(time.Second))
		}
		return Saved{}
	}
	return s.write(now)
}

// Save writes the State now where it has changed.
func (s *Store) Save(now time.Time) Saved {
	if !s.unsaved.changed && !s.unsaved.minor {
		return Saved{}
	}
	return s.write(now)
}

// write writes the State. What the disk does not take is written again in retryInterval, and
// with the next change.
func (s *Store) write(now time.Time) (result Saved) {
	u := &s.unsaved
	if u.minor {
		u.minorAt = now.Add(minorInterval)
	}
	u.changed, u.minor, u.budgetAt, u.retryAt = false, false, time.Time{}, time.Time{}
	before := s.err
	s.err = s.writeFile(now)
	if s.err != nil {
		u.retryAt = now.Add(retryInterval)
	}
	if before == nil {
		return Saved{Failed: s.err}
	}
	return Saved{Recovered: s.err == nil}
}

// Next returns when SaveWhenDue has something to do, as of the last one; zero: nothing.
func (s *Store) Next() (next time.Time) {
	u := &s.unsaved
	sooner := func(at time.Time) {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	sooner(u.retryAt)
	sooner(u.budgetAt)
	if u.minor && u.budgetAt.IsZero() {
		sooner(u.minorAt)
	}
	return next
}
