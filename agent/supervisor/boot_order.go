package supervisor

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// The hub starts a service when its dependencies are running and healthy. After a boot the agent
// starts what its last start command says, without a hub if need be: then a service waits for
// those of its dependencies that the same command starts on this machine. Of a dependency
// elsewhere the agent knows nothing, so that is not waited for; nor is an exclusive one, which
// needs the hub.

// held is a service that waits for its dependencies after a boot.
type held struct {
	spec topics.Spec
	// since is when it began to wait, and until is when it is started whatever they do.
	since, until time.Time
}

// ApplyFirst is Apply for the first start command of this agent. What does not run already waits
// for its dependencies, as long as these may take to start.
func (s *Supervisor) ApplyFirst(specs map[string]topics.Spec, now time.Time) {
	s.held = make(map[string]*held)
	for name, spec := range specs {
		if v := s.services[name]; v != nil || spec.Exclusive {
			continue // it runs, or has ended for good
		}
		if patience := startTime(name, specs, 0); patience > 0 {
			s.held[name] = &held{spec: spec, since: now, until: now.Add(patience)}
		}
	}
	s.Apply(specs, now)
}

// maxChain bounds chains of dependencies: a start command may be of anybody's making.
const maxChain = 16

// startTime returns how long the dependencies of a service that start on this machine may take;
// 0: there are none.
func startTime(name string, specs map[string]topics.Spec, depth int) (longest time.Duration) {
	for dependency := range specs[name].Dependencies {
		spec, here := specs[dependency]
		if !here || spec.Exclusive || dependency == name || depth == maxChain {
			continue
		}
		longest = max(longest, spec.StartTimeout.Duration()+startTime(dependency, specs, depth+1))
	}
	return longest
}

// withoutHeld returns the specs that are applied now. A service that is not wanted any more waits
// no longer.
func (s *Supervisor) withoutHeld(specs map[string]topics.Spec) map[string]topics.Spec {
	for name, h := range s.held {
		spec, still := specs[name]
		if !still || spec.Exclusive {
			delete(s.held, name)
			continue
		}
		h.spec = spec
	}
	if len(s.held) == 0 {
		return specs
	}
	now := maps.Clone(specs)
	maps.DeleteFunc(now, func(name string, _ topics.Spec) bool { return s.held[name] != nil })
	return now
}

// releaseHeld starts what has waited long enough.
func (s *Supervisor) releaseHeld(now time.Time) {
	for _, name := range slices.Sorted(maps.Keys(s.held)) {
		h := s.held[name]
		if len(s.awaited(h.spec)) == 0 || !now.Before(h.until) {
			s.release(name, now)
		}
	}
}

// release starts a service that waits.
func (s *Supervisor) release(name string, now time.Time) {
	spec := s.held[name].spec
	delete(s.held, name)
	s.topicsChanged = true
	s.apply(name, spec, now)
}

// awaited returns the dependencies that a service waits for, sorted.
func (s *Supervisor) awaited(spec topics.Spec) (all []string) {
	for dependency := range spec.Dependencies {
		v := s.services[dependency]
		switch {
		case s.held[dependency] != nil:
			all = append(all, dependency)
		case v == nil || !v.Wanted || v.Spec.Exclusive: // it is elsewhere, or waits for the hub
		case v.State == topics.Finished || v.State == topics.Running && v.Health != topics.Unhealthy:
		default:
			all = append(all, dependency)
		}
	}
	slices.Sort(all)
	return all
}

// nextHeld returns the earlier of a time, where zero is none, and when a service is started that
// waits.
func (s *Supervisor) nextHeld(at time.Time) time.Time {
	for _, h := range s.held {
		if at.IsZero() || h.until.Before(at) {
			at = h.until
		}
	}
	return at
}

// addHeld adds the services that wait to a sorted list of instances.
func (s *Supervisor) addHeld(all []topics.Instance) []topics.Instance {
	if len(s.held) == 0 {
		return all
	}
	for name, h := range s.held {
		all = append(all, topics.Instance{
			Service: name, State: topics.Pending, Health: topics.UnknownHealth, Since: topics.At(h.since),
			Message: "it waits for " + strings.Join(s.awaited(h.spec), ", ") + ", to be healthy first after the start of this machine",
		})
	}
	slices.SortFunc(all, func(x, y topics.Instance) int { return strings.Compare(x.Service, y.Service) })
	return all
}
