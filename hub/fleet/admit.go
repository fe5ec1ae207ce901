package fleet

import (
	"errors"
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Id and name of a domain are one to one: a name belongs to one machine, and a machine has
// one name. Every machine is admitted here before anything is stored under its name or its
// id.

// Claim is the identity that a machine claims.
type Claim struct {
	Name, ID, Session string
	// User is the broker's user who published it; "": without one, or not our broker.
	User string
}

// Admission is a domain whose machine made a claim.
type Admission struct {
	Domain *Domain
	// New reports that its record begins now.
	New bool
	// Renamed is the name that its machine had before; "": it has the same.
	Renamed string
}

// ErrFull is that no further domain is taken.
var ErrFull = errors.New("no further domain is taken: forget some")

// admit returns the domain of the machine that makes a claim, or why it may not have that
// name. The rules, the first that fits decides:
//   - a name belongs to the machine that has it while that one is there or is
//     waited for;
//   - an id belongs to the domain that has it as long; another machine that shows
//     it is a copy;
//   - an id whose domain is gone moves to the new name with all the state of
//     the machine: it was renamed. A user who is no admin may do that only where
//     the user of the former name does not exist any more.
func (f *Fleet) admit(c Claim, now time.Time) (Admission, error) {
	d, former := f.domains[c.Name], f.withID(c.ID, c.Name)
	if d != nil && d.Micro {
		return Admission{}, fmt.Errorf("the name %s belongs to a microdomain: choose another name in domain.toml", c.Name)
	}
	if d != nil && d.ID != c.ID && (f.Beats(d, now) || d.expected) {
		return Admission{}, fmt.Errorf("the name %s belongs to another machine (id %s%s): choose another name in domain.toml, or stop that one", c.Name, d.ID, at(d.address()))
	}
	if former != nil {
		if err := f.mayRename(former, c, now); err != nil {
			return Admission{}, err
		}
		was := former.Name
		f.rename(former, c)
		return Admission{Domain: former, Renamed: was}, nil
	}
	if d != nil && d.ID == c.ID {
		if f.isCopy(d, c, now) {
			return Admission{}, copied(d)
		}
		return Admission{Domain: d}, nil
	}
	if d == nil && f.full(c.Name, now) {
		return Admission{}, fmt.Errorf("%d domains are known and %w", len(f.domains), ErrFull)
	}
	d = f.add(c.Name, c.ID)
	d.User = c.User
	return Admission{Domain: d, New: true}, nil
}

// Sender returns the domain whose machine published a heartbeat at the topics of a name. Its
// Domain is nil where the heartbeat is not to be taken: nobody answers it, so that is
// reported at a bounded rate. Only an external broker delivers one of a machine that did not
// join in this run of the hub and is not in its store: it goes on as it is.
func (f *Fleet) Sender(c Claim, now time.Time) Admission {
	d := f.domains[c.Name]
	if d != nil && d.Micro {
		return Admission{}
	}
	if d != nil && d.ID == c.ID {
		return Admission{Domain: d}
	}
	return f.admitUnanswered(c, now)
}

// admitUnanswered is admit for a heartbeat or a status.
func (f *Fleet) admitUnanswered(c Claim, now time.Time) Admission {
	if c.ID == "" || len(c.ID) > maxID {
		return Admission{}
	}
	a, err := f.admit(c, now)
	if err == nil {
		return a
	}
	if had := f.domains[c.Name]; had == nil || had.ID == c.ID || f.withID(c.ID, c.Name) != nil {
		// else it is the machine that was refused the name, which is reported already
		f.o.Refuse("identity of "+c.Name, topics.Event{Domain: c.Name, Message: fmt.Sprintf("cannot take what is published as %s with id %.64s: %v", c.Name, c.ID, err)}, now)
	}
	return Admission{}
}

// add begins the record of a domain, also where another machine had the name.
func (f *Fleet) add(name, id string) *Domain {
	d := &Domain{Name: name, ID: id, State: topics.DomainIsOffline}
	if f.domains[name] == nil {
		a := f.guests.availability[name]
		d.Available, d.availabilityRetained = a.online, a.retained
		d.expected = !f.settling.ready && a.online && a.retained
		if s, is := f.guests.status[name]; is && s.ID == id {
			d.Status = &s
		}
	}
	f.guests.remove(name)
	f.domains[name], f.sorted, f.identities = d, nil, true
	return d
}

// full reports that no further domain is taken, and has it reported.
func (f *Fleet) full(name string, now time.Time) bool {
	if len(f.domains) < maxDomains {
		return false
	}
	f.o.Refuse("full", topics.Event{Domain: name, Message: fmt.Sprintf("%s is not taken: %d domains are known, forget some", name, len(f.domains))}, now)
	return true
}

// mayRename returns why the machine of a domain may not be the domain of another name now.
func (f *Fleet) mayRename(former *Domain, c Claim, now time.Time) error {
	present := former.Available && f.Beats(former, now)
	if f.isCopy(former, c, now) || former.expected || present {
		return copied(former)
	}
	if c.User == "" || c.User == former.User || f.o.IsAdmin(c.User) {
		return nil
	}
	if former.User != "" && !f.o.IsUser(former.User) {
		return nil
	}
	return fmt.Errorf("the id %s belongs to %s, which is not there now: if this machine was renamed, `dominionctl forget %s`; if its disk was copied, stop its agent and run `domain reset` on it", c.ID, former.Name, former.Name)
}

// rename gives the machine of a domain another name, with all its state. Another
// machine that had that name is gone.
func (f *Fleet) rename(d *Domain, c Claim) {
	delete(f.domains, d.Name)
	d.Name, d.User, d.expected = c.Name, c.User, false
	a := f.guests.availability[c.Name]
	d.Available, d.availabilityRetained, d.HasBeat = a.online, a.retained, false
	// The last start command named the former name's topic: another one follows once the
	// machine is online.
	d.Ordered.Encoded, d.Ordered.Message = "", topics.Message{}
	f.guests.remove(c.Name)
	f.domains[c.Name], f.sorted, f.identities = d, nil, true
}

// Forget removes a domain. d is nil where it never became one, since its status could not be
// read. One that is there is removed only where it cannot come back.
func (f *Fleet) Forget(name string, mayBeThere bool, now time.Time) (d *Domain, err error) {
	d = f.domains[name]
	if d == nil {
		if _, is := f.unreadable[name]; !is {
			return nil, fmt.Errorf("there is no domain %q", name)
		}
		delete(f.unreadable, name)
		return nil, nil
	}
	if !mayBeThere && (f.Beats(d, now) || d.Micro && d.Available) {
		return nil, fmt.Errorf("%s is %s and would come back at once: stop its agent first", name, d.State)
	}
	delete(f.domains, name)
	delete(f.unreadable, name)
	f.sorted, f.identities = nil, true
	return d, nil
}

// at returns where a machine is, as a part of a message; "" where that is unknown.
func at(address string) string {
	if address == "" {
		return ""
	}
	return " at " + address
}
