package rollouts

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/rollout"
	"github.com/jmbarzee/dominion/topics"
)

// maxVersions bounds how many refused versions are remembered of one service.
const maxVersions = 50

// step is one service while it is decided on.
type step struct {
	*Rollouts
	service string
	state   *serviceState
	def     services.Definition
	next    topics.Spec
	nextID  string
	// stable is the definition to return to; nil: there is none.
	stable   *topics.Spec
	stableID string
	record   rollout.Record
	needs    []rollout.Need
	now      time.Time
	result   Result
}

// Step decides what the instances of a service are assigned. changed are the domains, of
// those that are to have an instance, of which something may have changed: as long as all
// is up to date no other is looked at, since a home may have many that nothing has. With
// whole anything may have changed, the definition too.
func (r *Rollouts) Step(service string, changed []string, whole bool, now time.Time) Result {
	state := r.services[service]
	s := &step{Rollouts: r, service: service, now: now}
	if state != nil && state.upToDate && !whole {
		s.next, s.nextID, s.stableID = state.next, state.nextID, state.nextID
		s.stable, s.record = &state.next, r.home.Record(service)
		if s.staysUpToDate(changed) {
			return s.result
		}
	}
	domains := r.home.Domains(service)
	if len(domains) == 0 {
		r.end(service) // switched off
		return s.result
	}
	for _, domain := range domains {
		r.instances = append(r.instances, r.home.Instance(service, domain))
	}
	defer r.emptyBuffers()
	s.def = r.home.Definition(service)
	if state == nil {
		state = new(serviceState)
		r.services[service] = state
		whole = true
	}
	if whole {
		state.next = s.def.Spec(nil)
		state.next.Revision = services.ReviseForSecrets(state.next.Revision, s.home.Secrets(service))
		state.nextID = rollout.Identity(state.next)
	}
	s.state, s.next, s.nextID, s.needs = state, state.next, state.nextID, r.home.Needs(service)
	s.load()
	s.carryOut(s.decide())
	return s.result
}

// emptyBuffers ends the use of the buffers, which let go of what domains have reported.
func (r *Rollouts) emptyBuffers() {
	clear(r.instances)
	clear(r.inputs)
	r.instances, r.inputs = r.instances[:0], r.inputs[:0]
}

// staysUpToDate looks at the changed instances of a service of which all are up to date. A
// new one, of what runs everywhere, is assigned the definition without further ado.
func (s *step) staysUpToDate(changed []string) bool {
	for _, domain := range changed {
		reported := s.home.Instance(s.service, domain)
		if upToDate(s.input(reported)) {
			continue
		}
		if s.assigned[domain][s.service] != nil {
			return false
		}
		s.assignDefinition(reported, rollout.Next)
	}
	return true
}

// upToDate reports whether nothing is to be done about an instance.
func upToDate(i rollout.Instance) bool {
	return i.Runs == rollout.Next && !i.Changed && (i.Catalog == "" || i.Catalog == i.Version || i.State == topics.Finished)
}

// load reads what is persisted of a service, and drops what another definition has made
// void.
func (s *step) load() {
	s.record = s.home.Record(s.service)
	s.stable, s.stableID = s.record.Stable, ""
	if s.stable != nil {
		s.stableID = rollout.Identity(*s.stable)
	}
	isStable := s.stableID == s.nextID
	if s.record.Refused != "" && s.record.Refused != s.nextID || isStable && len(s.record.Excused) > 0 {
		s.record.Refused, s.record.Why, s.record.Excused = "", "", nil
		s.persist()
	}
	if isStable && !reflect.DeepEqual(*s.stable, s.next) {
		s.setStable() // timeouts and the like are in force at once
	}
}

func (s *step) persist() { s.home.Persist(s.service, s.record) }

// setStable makes the definition of the configuration the stable one.
func (s *step) setStable() {
	next := s.next
	s.stable, s.stableID = &next, s.nextID
	s.record.Stable, s.record.Excused = &next, nil
	s.persist()
}

// decide returns the instances as they are and leaves the decision in the state of the
// service. What failed is refused first: each failure refuses something, so that this ends.
func (s *step) decide() rollout.Input {
	for {
		in := rollout.Input{
			Same: s.stable != nil && s.stableID == s.nextID, HasStable: s.stable != nil,
			Refused: s.record.Why, RefusedVersions: s.record.Versions,
			Needs:  s.needs,
			Manual: s.def.Update == services.UpdateManual, Approved: s.record.Approved,
		}
		s.inputs = s.inputs[:0]
		for _, reported := range s.instances {
			s.inputs = append(s.inputs, s.input(reported))
		}
		in.Instances = s.inputs
		s.state.output = rollout.Decide(in)
		if s.state.output.Failure == nil {
			return in
		}
		s.refuse(*s.state.output.Failure)
		s.state.announced = ""
	}
}

// carryOut makes a decision what is reported, persisted and assigned, and notes when time
// changes something about it.
func (s *step) carryOut(in rollout.Input) {
	out := &s.state.output
	s.report()
	if out.Done {
		s.setStable()
	}
	s.applyOrders(out.Orders)
	s.updateHopeless(in.Instances)
	s.result.Decided = true
	s.state.upToDate = in.HasStable && in.Same && !out.Active && out.Problem == "" && len(s.record.Versions) == 0 &&
		!slices.ContainsFunc(in.Instances, func(i rollout.Instance) bool { return !upToDate(i) })
	delete(s.due, s.service)
	if s.state.upToDate {
		return
	}
	if at := s.nextChange(out.Active || s.stable == nil || s.stableID != s.nextID); !at.IsZero() {
		s.due[s.service] = at
	}
}

// refuse persists what did not get healthy, so that nobody tries it again, not even a hub
// that was restarted, and reports it.
func (s *step) refuse(f rollout.Failure) {
	why := fmt.Sprintf("on %s %s", f.Domain, f.Why)
	if message := s.home.Message(s.service, f.Domain); message != "" {
		why += " (" + message + ")"
	}
	message := fmt.Sprintf("%s: version %s did not get healthy, %s: it goes no further", s.service, f.Version, why)
	if f.Version != "" {
		s.record.Versions = maps.Clone(s.record.Versions)
		if s.record.Versions == nil || len(s.record.Versions) >= maxVersions {
			s.record.Versions = make(map[string]string)
		}
		s.record.Versions[f.Version] = why
	} else {
		s.record.Refused, s.record.Why = s.nextID, why
		then := "it goes no further"
		if s.stable != nil {
			then = "back to the one before"
		}
		message = fmt.Sprintf("%s: the changed definition did not get healthy, %s: %s", s.service, why, then)
	}
	s.persist()
	s.result.Events = append(s.result.Events, topics.Event{Type: topics.ServiceReverted, Domain: f.Domain, Service: s.service, Message: message})
}

// report reports when a rollout begins and when it is done.
func (s *step) report() {
	out := &s.state.output
	what := "the changed definition"
	if out.Version != "" {
		what = "version " + out.Version
	}
	if out.Active && !out.Back && s.state.announced == "" {
		s.state.announced = what
		s.event(topics.ServiceUpdating, fmt.Sprintf("%s: %s is rolled out, %s one by one", s.service, what, instances(out.Total)))
	} else if !out.Active && s.state.announced != "" {
		if out.Updated == out.Total && out.Total > 0 {
			s.event(topics.ServiceUpdated, fmt.Sprintf("%s: %s is rolled out, %s healthy", s.service, s.state.announced, instances(out.Total)))
		}
		s.state.announced = ""
	}
}

func (s *step) event(t topics.EventType, message string) {
	s.result.Events = append(s.result.Events, topics.Event{Type: t, Service: s.service, Message: message})
}

// instances writes "1 instance", "2 instances".
func instances(n int) string {
	if n == 1 {
		return "1 instance"
	}
	return fmt.Sprintf("%d instances", n)
}

// applyOrders assigns the instances what was decided.
func (s *step) applyOrders(orders []rollout.Order) {
	s.state.reasons = nil
	for n, o := range orders {
		reported := s.instances[n]
		if o.Reason != "" {
			if s.state.reasons == nil {
				s.state.reasons = make(map[string]string)
			}
			s.state.reasons[o.Domain] = o.Reason
		}
		switch {
		case o.Runs != rollout.None:
			s.assignDefinition(reported, o.Runs)
		case o.Restart != "":
			a := s.assigned[o.Domain][s.service]
			a.restartFor(o.Restart, s.record.Attempt)
			a.change(reported.Reported, s.now)
		default:
			continue
		}
		s.result.Assigned = append(s.result.Assigned, o.Domain)
	}
}

// updateHopeless updates which instances the planner has to try elsewhere.
func (s *step) updateHopeless(all []rollout.Instance) {
	for n := range all {
		i := &all[n]
		a := s.assigned[i.Domain][s.service]
		if a == nil {
			continue
		}
		hopeless := s.record.Versions[i.Version] != "" && i.Trouble() != "" && !s.def.Exclusive
		if hopeless != a.hopeless {
			a.hopeless = hopeless
			s.result.Replan = append(s.result.Replan, i.Domain)
		}
	}
}

// nextChange returns when time changes something about a service that is not up to date;
// zero: never. active reports that a change is on its way.
func (s *step) nextChange(active bool) (next time.Time) {
	at := func(t time.Time) {
		if t.After(s.now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, i := range s.instances {
		if i.Reported != nil && i.Catalog != "" && i.Catalog != i.Reported.Version {
			at(i.CatalogSince.Add(rollout.SettleCatalog))
		}
		a := s.assigned[i.Domain][s.service]
		if a == nil || !active && !a.changed && len(s.record.Versions) == 0 {
			continue
		}
		switch {
		case !a.healthySince.IsZero():
			at(a.healthySince.Add(rollout.Watch(a.spec)))
		case a.sameRevision:
			at(s.now.Add(time.Second)) // the heartbeat that shows that it took it wakes nobody
		default:
			at(a.waitingSince.Add(rollout.Patience(a.spec)))
		}
	}
	return next
}
