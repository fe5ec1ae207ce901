package programs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// Show completes the instances of the supervisor, sorted by service: by those that wait for their
// first bundle, the progress of others, and where services_dir wins.
func (p *Programs) Show(instances []topics.Instance) []topics.Instance {
	for n := range instances {
		i := &instances[n]
		if s := p.ordered[i.Service]; s.Bundle != nil {
			p.showOne(i, s)
		}
	}
	if len(p.since) == 0 {
		return instances
	}
	for name, since := range p.since {
		s := p.ordered[name]
		i := topics.Instance{
			Service: name, State: topics.Fetching, Health: topics.UnknownHealth, Version: s.Bundle.Version, Revision: s.Revision,
			Since: topics.At(since),
		}
		if f := p.fetchOf(s); f != nil {
			i.Progress, i.Message = f.percent, f.problem
			if strings.HasPrefix(f.problem, ErrBuild.Error()) {
				i.State, i.NextTry = topics.Failed, topics.At(f.retry)
			}
		}
		instances = slices.DeleteFunc(instances, func(old topics.Instance) bool { return old.Service == name && !old.State.Alive() })
		instances = append(instances, i)
	}
	slices.SortFunc(instances, func(a, b topics.Instance) int { return strings.Compare(a.Service, b.Service) })
	return instances
}

// showOne completes an instance of a service with a bundle.
func (p *Programs) showOne(i *topics.Instance, s topics.Spec) {
	if p.o.Local(i.Service) {
		i.Message = cmp.Or(i.Message, fmt.Sprintf("the service in services_dir runs, and not version %s that was deployed", s.Bundle.Version))
		return
	}
	if p.records[i.Service].Reverted == s.Revision && i.Revision != s.Revision {
		i.Rejected = s.Revision
		i.Message = cmp.Or(i.Message, fmt.Sprintf("this domain went back from version %s, which was not healthy within %v while no hub was heard", s.Bundle.Version, p.o.StartTimeout(i.Service)))
		return
	}
	f := p.fetchOf(s)
	if f == nil || i.Revision == s.Revision {
		return
	}
	if strings.HasPrefix(f.problem, ErrBuild.Error()) {
		i.Rejected = s.Revision
		i.Message = cmp.Or(i.Message, fmt.Sprintf("version %s: %s", s.Bundle.Version, f.problem))
		return
	}
	i.Progress = max(1, f.percent)
	if f.problem != "" {
		i.Message = cmp.Or(i.Message, fmt.Sprintf("version %s is not there yet: %s", s.Bundle.Version, f.problem))
	}
}

// fetchOf returns the fetch that a spec waits for; nil: none.
func (p *Programs) fetchOf(s topics.Spec) *fetch {
	v, runs := s.Bundle.For(p.o.Platform)
	if !runs {
		return nil
	}
	return p.fetches[v.Layer]
}
