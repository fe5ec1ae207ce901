package fleet

import (
	"fmt"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// maxUnreadable bounds the domains whose status was not taken.
const maxUnreadable = 256

// Report is a status that a machine published.
type Report struct {
	// Topic is where it was published.
	Topic string
	// User is the broker's user who published it, Retained that the broker had stored it.
	User     string
	Retained bool
	Status   topics.Domain
}

// TakeStatus takes what was published as the status of a domain. taken reports that it is
// the status of the domain now, err is why it is not.
func (f *Fleet) TakeStatus(name string, r Report, now time.Time) (a Admission, taken bool, err error) {
	s := r.Status
	if err := plausible(r.Topic, s); err != nil {
		return Admission{}, false, err
	}
	a = f.reporter(name, r, now)
	d := a.Domain
	if d == nil {
		return Admission{}, false, nil
	}
	if s.Micro != d.Micro {
		if f.Beats(d, now) {
			return a, false, fmt.Errorf("a microdomain uses the name of %s: give it another one", name)
		}
		d.Micro = s.Micro
	}
	if !d.Micro && s.ID != d.ID {
		if other := f.withID(s.ID, name); other != nil && !r.Retained {
			return a, false, fmt.Errorf("cannot take %s: field id: %.64s is the id of %s", r.Topic, s.ID, other.Name)
		}
		return a, false, nil // of the machine that had the name before, or wants it
	}
	if !d.Micro && s.Name != "" && s.Name != name {
		return a, false, fmt.Errorf("cannot take %s: field name: it says that it is %.80q", r.Topic, s.Name)
	}
	if was := d.Status; was != nil && was.Session != "" && was.Session == s.Session && s.Seq < was.Seq {
		return a, false, nil // sent once more, after newer ones
	}
	d.takeCatalog(s, now)
	d.Status = &s
	f.numberRunning(d)
	return a, true, nil
}

// reporter returns the domain at whose topic a status was published. Where there is none, a
// machine is admitted, and what the broker had stored waits for a sign of life.
func (f *Fleet) reporter(name string, r Report, now time.Time) Admission {
	s := r.Status
	if d := f.domains[name]; d != nil {
		return Admission{Domain: d}
	}
	if s.Micro {
		if f.full(name, now) {
			return Admission{}
		}
		return Admission{Domain: f.add(name, ""), New: true} // it has no id, and takes nobody's
	}
	if r.Retained {
		if f.guests.take(name, now) { // perhaps of a domain that goes on sending heartbeats
			f.guests.status[name] = s
		}
		return Admission{}
	}
	a := f.admitUnanswered(Claim{Name: name, ID: s.ID, Session: s.Session, User: r.User}, now)
	if a.Domain != nil {
		a.Domain.BeatAt = now // it published just now, and has its time to send a heartbeat
	}
	return a
}

// plausible refuses what no agent publishes: the planner's tables rely on the closed lists.
func plausible(topic string, s topics.Domain) error {
	listed := make(map[string]bool, len(s.Services))
	for _, i := range s.Services {
		if i.Service == "" {
			return fmt.Errorf("cannot read %s: field services.service is missing", topic)
		}
		if listed[i.Service] {
			return fmt.Errorf("cannot read %s: field services: %s is there twice", topic, i.Service)
		}
		if !slices.Contains(topics.States(), i.State) {
			return fmt.Errorf("cannot read %s: field services.state: %.40q is not a valid state", topic, i.State)
		}
		if i.Health != "" && i.Health != topics.UnknownHealth && i.Health != topics.Healthy && i.Health != topics.Unhealthy {
			return fmt.Errorf("cannot read %s: field services.health: %.40q is not a valid health", topic, i.Health)
		}
		listed[i.Service] = true
	}
	if !s.Micro && s.ID == "" || len(s.ID) > maxID {
		return fmt.Errorf("cannot take %s: its \"id\" must have 1 to %d characters, or it is a microdomain and says \"micro\": true", topic, maxID)
	}
	return nil
}

// SetUnreadable notes why the last status of a domain was not taken; nil: it was taken or
// cleared. It reports whether that is another reason than before. A status that cannot be
// read is a problem until the domain has another one: a microdomain whose firmware writes a
// wrong word is not noticed otherwise, and its broker sends that status to every hub.
func (f *Fleet) SetUnreadable(name string, err error, now time.Time) (changed bool) {
	was, is := f.unreadable[name]
	if err == nil {
		if !is {
			return false
		}
		delete(f.unreadable, name)
		if _, has := f.guests.availability[name]; has && f.guests.until.IsZero() {
			f.guests.until = now.Add(guestLifetime)
		}
		return true
	}
	if was == err.Error() || !is && len(f.unreadable) >= maxUnreadable {
		return false
	}
	f.unreadable[name] = err.Error()
	return true
}
