package fleet

import (
	"errors"
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// refusalKey distinguishes machines that were refused: a copy has the id of another one, and
// may have another name.
type refusalKey struct{ id, name string }

// refusal is a machine that wanted the name or the id of another one.
type refusal struct {
	name, id, address, reason string
	at                        time.Time
}

// refusalLifetime is how long a refused machine is shown after it last asked.
const refusalLifetime = 30 * time.Second

// Join decides whether a machine that asks may be the domain of a name. user is the broker's
// user who asks. Where it may not, err says why, and news reports whether the machine was
// not refused before, or for another reason: people should know.
func (f *Fleet) Join(ask topics.HubRequest, user string, now time.Time) (a Admission, news bool, err error) {
	if !topics.ValidName(ask.Name) {
		return Admission{}, false, fmt.Errorf("%.80q is not a valid domain name: use a-z, 0-9 and -", ask.Name)
	}
	if ask.ID == "" || len(ask.ID) > maxID {
		return Admission{}, false, fmt.Errorf("the id of %s must have 1 to %d characters", ask.Name, maxID)
	}
	if ask.Protocol != "" && !topics.SameMajor(ask.Protocol) {
		err = fmt.Errorf("%s speaks protocol %.20s, this hub %s: bring both to the same version", ask.Name, ask.Protocol, topics.Protocol)
		return Admission{}, f.NoteRefusal(ask, err, now), err
	}
	a, err = f.admit(Claim{Name: ask.Name, ID: ask.ID, Session: ask.Session, User: user}, now)
	if errors.Is(err, ErrFull) {
		return Admission{}, false, err
	}
	if err != nil {
		return Admission{}, f.NoteRefusal(ask, err, now), err
	}
	f.joined(a.Domain, ask.Session, user, now)
	return a, false, nil
}

// joined notes that a machine was granted a name.
func (f *Fleet) joined(d *Domain, session, user string, now time.Time) {
	delete(f.refused, refusalKey{d.ID, d.Name})
	delete(f.lonely, d.Name)
	delete(f.announced, d.Name)
	delete(f.copies, session)
	// It sends heartbeats as soon as it is connected with its will. A signed join may be a
	// recorded one: it gives time once in a run of the hub, and is no sign of life after that.
	if d.BeatAt.IsZero() || f.o.HasKey == nil || !f.o.HasKey(d.ID) {
		d.BeatAt = now
	}
	d.joined, d.othersBeatAt = session, time.Time{}
	if d.User != user {
		d.User, f.identities = user, true
	}
}

// NoteRefusal notes a machine that was refused, and reports whether that is news.
func (f *Fleet) NoteRefusal(ask topics.HubRequest, why error, now time.Time) (news bool) {
	key := refusalKey{ask.ID, ask.Name}
	before := f.refused[key]
	if before == nil && len(f.refused) >= maxRefused {
		return false
	}
	f.refused[key] = &refusal{name: ask.Name, id: ask.ID, address: ask.Address, reason: why.Error(), at: now}
	return before == nil || before.reason != why.Error()
}
