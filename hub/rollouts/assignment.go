package rollouts

import (
	"slices"
	"time"

	"github.com/jmbarzee/dominion/services/rollout"
	"github.com/jmbarzee/dominion/topics"
)

// assignment is what an instance is assigned, and what has come of it since.
type assignment struct {
	// spec has the revision under which it is assigned, and no addresses.
	spec topics.Spec
	// identity is that of the definition behind spec; "": unknown.
	identity string
	// restartedFor is the version for which a rollout restarted it; "": none.
	restartedFor string
	// sameRevision is set where it had the revision before this assignment, too: nothing
	// of it needs a restart.
	sameRevision bool
	// configured is set where spec is that of the configuration, to the letter.
	configured bool

	// changed is set by a change, until it has been healthy for long enough.
	changed bool
	// excused is set where it was in trouble before it was changed.
	excused bool
	// hopeless is set where its version was refused and it is in trouble.
	hopeless bool

	// sent is set when a start command with it was given.
	sent bool
	// online reports whether its domain was, at the last step.
	online bool
	// waitingSince is since when it has had time to get healthy.
	waitingSince time.Time
	// healthySince is since when it is healthy; zero: it is not.
	healthySince time.Time
	// restarts are those in the count of the agent that are no crashes.
	restarts int
	crashes  int
	// lastCrash is when the crash was that was counted last, by the agent's clock.
	lastCrash topics.Time
}

// Bundles returns the digests of the bundles that instances are assigned, or go back to, by
// service.
func (r *Rollouts) Bundles() map[string][]string {
	all := make(map[string][]string)
	add := func(service string, specs ...*topics.Spec) {
		for _, s := range specs {
			if s != nil && s.Bundle != nil && !slices.Contains(all[service], s.Bundle.Digest) {
				all[service] = append(all[service], s.Bundle.Digest)
			}
		}
	}
	for _, assigned := range r.assigned {
		for service, a := range assigned {
			add(service, &a.spec)
		}
	}
	for service := range r.services {
		add(service, r.home.Record(service).Stable)
	}
	return all
}

// input is an instance as package rollout takes it. What has to be remembered of what its
// domain reports is noted in its assignment. One that was assigned by an earlier run of the
// hub is adopted.
func (s *step) input(reported Instance) rollout.Instance {
	i := rollout.Instance{
		Domain: reported.Domain, Online: reported.Online, Draining: reported.Draining, Catalog: reported.Catalog,
		CatalogSettled: !reported.CatalogSince.IsZero() && s.now.Sub(reported.CatalogSince) >= rollout.SettleCatalog,
	}
	if reported.Reported != nil {
		i.State, i.Health, i.Version = reported.Reported.State, reported.Health, reported.Reported.Version
	}
	a := s.assigned[reported.Domain][s.service]
	if a == nil {
		if a = s.adopt(reported); a == nil {
			return i
		}
		s.assign(s.service, reported.Domain, a)
	}
	i.Runs = s.definitionOf(a)
	a.observe(reported, &i, s.now)
	i.RestartedFor, i.Changed, i.Excused, i.Crashes = a.restartedFor, a.changed, a.excused, a.crashes
	return i
}

// definitionOf returns which definition an instance is assigned. What differs in the
// configuration without being rolled out, such as timeouts, is in force at once.
func (s *step) definitionOf(a *assignment) rollout.Definition {
	runs := rollout.Other
	switch a.identity {
	case s.nextID:
		runs = rollout.Next
		revision := a.spec.Revision
		a.spec = s.next
		a.spec.Revision = revision
	case s.stableID:
		runs = rollout.Stable
	}
	a.configured = runs == rollout.Next && a.spec.Revision == s.next.Revision
	return runs
}

// adopt returns the assignment of an instance that this run of the hub did not assign, but
// an earlier one or a hub before it. Nil where there is no instance, or one that is on its
// way out: what is assigned is a new one.
func (s *step) adopt(i Instance) *assignment {
	runs := i.Reported
	if runs == nil || runs.Revision == "" || !runs.State.Listed() && runs.State != topics.Finished || runs.State == topics.Stopping {
		return nil
	}
	a := &assignment{spec: s.next, identity: s.nextID, sent: true, waitingSince: s.now, restarts: runs.Restarts}
	switch base := rollout.Base(runs.Revision); {
	case s.stable != nil && base == s.stable.Revision:
		a.spec, a.identity = *s.stable, s.stableID
	case base == s.next.Revision:
		a.excused = slices.Contains(s.record.Excused, i.Domain)
	default:
		a.identity = "" // it goes on under its revision, until it is changed
	}
	a.spec.Revision = runs.Revision
	if s.restartedForCatalog(i) {
		a.restartedFor = i.Catalog
		a.changed = runs.State != topics.Running || runs.Health != topics.Healthy
	}
	return a
}

// restartedForCatalog reports whether an instance runs under a revision that it was
// restarted under for the version in its domain's catalog.
func (s *step) restartedForCatalog(i Instance) bool {
	return i.Reported.Revision == rollout.Revise(i.Reported.Revision, i.Catalog, s.record.Attempt)
}

// assignDefinition assigns an instance a definition. Where nothing needs a restart for it,
// it keeps its revision.
func (s *step) assignDefinition(i Instance, which rollout.Definition) {
	a := &assignment{spec: s.next, identity: s.nextID, waitingSince: s.now, online: i.Online}
	if which == rollout.Stable && s.stable != nil {
		a.spec, a.identity = *s.stable, s.stableID
	}
	if before := s.assigned[i.Domain][s.service]; before != nil {
		s.replace(before, a, i)
	}
	a.configured = a.identity == s.nextID && a.spec.Revision == s.next.Revision
	s.assign(s.service, i.Domain, a)
}

// replace has an assignment take the place of the one before.
func (s *step) replace(before, a *assignment, i Instance) {
	runs := i.Reported
	if rollout.Base(before.spec.Revision) == a.spec.Revision {
		a.spec.Revision, a.restartedFor, a.sameRevision = before.spec.Revision, before.restartedFor, true
	} else if runs != nil && runs.State.Listed() && rollout.Base(runs.Revision) == a.spec.Revision {
		// It never took what is taken back: it was away, and runs on as it was.
		a.spec.Revision, a.sameRevision = runs.Revision, true
		if s.restartedForCatalog(i) {
			a.restartedFor = i.Catalog
		}
	}
	a.changed, a.excused = before.changed, before.excused
	a.change(runs, s.now)
	if a.excused && a.identity == s.nextID && !slices.Contains(s.record.Excused, i.Domain) {
		s.record.Excused = append(slices.Clone(s.record.Excused), i.Domain)
		s.persist()
	}
}

// restartFor has an instance restarted for a version of its domain's catalog, under a
// revision of its own.
func (a *assignment) restartFor(version string, attempt int) {
	a.restartedFor = version
	a.spec.Revision = rollout.Revise(a.spec.Revision, version, attempt)
	a.configured = false
}

// change notes that an instance, which runs as its domain reports, is changed now, and has
// to get healthy. One that was in trouble before is excused, unless a rollout brought that.
func (a *assignment) change(runs *topics.Instance, now time.Time) {
	blamed := a.changed && !a.excused
	a.changed, a.sent, a.waitingSince, a.healthySince = true, false, now, time.Time{}
	a.crashes, a.restarts, a.lastCrash = 0, 0, topics.Time{}
	if runs == nil {
		return
	}
	a.lastCrash = runs.Since
	a.restarts = runs.Restarts + 1 // the start that is ordered is no crash
	a.excused = !blamed && (runs.State == topics.Backoff || runs.State == topics.Failed ||
		runs.State == topics.Running && runs.Health == topics.Unhealthy)
}

// observe takes what a domain reports of an instance, and completes the input by what it
// means for the assignment: is it applied, proved, overdue?
func (a *assignment) observe(reported Instance, i *rollout.Instance, now time.Time) {
	i.Applied = a.applied(reported)
	if i.Online && !a.online || !a.sent || i.State == topics.Pending || fetches(reported) {
		// It is given its time again: a large bundle has a long way. An exclusive one may wait until it is sent, and
		// then for a lease, which a hub that has just started gives nobody.
		a.waitingSince = now
	}
	a.online = i.Online
	i.Rejected = a.sent && reported.Reported != nil && a.spec.Revision != "" && reported.Reported.Rejected == a.spec.Revision
	if i.Applied {
		a.countCrashes(reported.Reported)
	}
	i.Unsuccessful = i.Applied && i.State == topics.Finished && a.spec.Oneshot && a.spec.Bundle != nil && !succeeded(reported.Reported)
	healthy := i.Applied && i.Online && !i.Unsuccessful && (i.State == topics.Running && i.Health == topics.Healthy || i.State == topics.Finished)
	a.followHealth(healthy, now)
	if healthy && (i.State == topics.Finished || now.Sub(a.healthySince) >= rollout.Watch(a.spec)) {
		i.Proved = true
		a.prove(reported.Reported.Restarts)
	}
	i.Overdue = !healthy && now.Sub(a.waitingSince) >= rollout.Patience(a.spec)
}

// succeeded reports whether an instance has ended with 0.
func succeeded(i *topics.Instance) bool { return i.ExitCode != nil && *i.ExitCode == 0 }

// fetches reports whether a domain pulls the bundle of an instance.
func fetches(reported Instance) bool {
	r := reported.Reported
	return r != nil && (r.State == topics.Fetching || r.Progress > 0)
}

// applied reports whether an instance runs under what it is assigned. If it had the same
// revision before, the heartbeat of its domain shows that it has taken the rest.
func (a *assignment) applied(reported Instance) bool {
	if !a.sent || reported.Reported == nil || reported.Reported.Revision != a.spec.Revision {
		return false
	}
	return !a.sameRevision || !a.healthySince.IsZero() || reported.Current
}

// countCrashes counts the crashes of an instance under what it is assigned. A restart counts
// where the crash before it was not reported.
func (a *assignment) countCrashes(runs *topics.Instance) {
	if (runs.State == topics.Backoff || runs.State == topics.Failed) && runs.Since != a.lastCrash {
		a.lastCrash = runs.Since
		a.crashes++
	}
	a.crashes = max(a.crashes, runs.Restarts-a.restarts)
}

// followHealth notes since when an instance is healthy, or waited for.
func (a *assignment) followHealth(healthy bool, now time.Time) {
	if healthy == !a.healthySince.IsZero() {
		return
	}
	a.healthySince = now
	if !healthy {
		a.healthySince, a.waitingSince = time.Time{}, now
	}
}

// prove ends the watch of an instance that has been healthy for long enough: what it does
// from now on is no fault of the change.
func (a *assignment) prove(restarts int) {
	a.changed, a.excused, a.hopeless = false, false, false
	a.crashes, a.restarts = 0, restarts
}
