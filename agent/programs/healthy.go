package programs

import (
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// unproved reports whether the bundle of an ordered spec runs, and was not healthy yet.
func (p *Programs) unproved(name string, s topics.Spec) bool {
	if s.Bundle == nil || p.running[name].Revision != s.Revision || p.switched[name].IsZero() {
		return false
	}
	healthy := p.records[name].Healthy
	return healthy == nil || healthy.Revision != s.Revision
}

// Watches reports whether Expire needs the instances.
func (p *Programs) Watches() bool {
	for name := range p.switched {
		if p.unproved(name, p.ordered[name]) {
			return true
		}
	}
	return false
}

// Expire does what is due: it begins fetches, notes what is healthy, and, while no hub is heard,
// goes back from a bundle that did not get healthy in time. It reports whether Decide decides
// otherwise now.
func (p *Programs) Expire(instances []topics.Instance, heard bool, now time.Time) (decide bool) {
	p.begin(now)
	for _, i := range instances {
		s, ordered := p.ordered[i.Service]
		if !ordered || !p.unproved(i.Service, s) || p.o.Local(i.Service) {
			continue
		}
		if i.Revision != s.Revision && i.State.Alive() { // the one before ends
			p.switched[i.Service] = now
			continue
		}
		if i.Revision == s.Revision && isHealthy(i, s) {
			p.change(i.Service, Record{Healthy: &s})
			p.unused = true
			continue
		}
		if !heard && now.Sub(p.switched[i.Service]) >= p.o.StartTimeout(i.Service) {
			decide = p.goBack(i, s) || decide
		}
	}
	return decide
}

// isHealthy reports whether an instance does what it is for, or has.
func isHealthy(i topics.Instance, s topics.Spec) bool {
	if i.State == topics.Finished || s.Oneshot {
		return i.State == topics.Finished && i.ExitCode != nil && *i.ExitCode == 0
	}
	return i.State == topics.Running && i.Health == topics.Healthy
}

// Ended reports whether a service that runs once has ended well by a spec: it does not run again
// where another bundle is taken back.
func (p *Programs) Ended(service string, s topics.Spec) bool {
	healthy := p.records[service].Healthy
	return s.Oneshot && s.Bundle != nil && healthy != nil && healthy.Oneshot && healthy.Revision == s.Revision
}

// goBack makes a service run the bundle that was healthy last. One that is to run once does not
// run again.
func (p *Programs) goBack(i topics.Instance, s topics.Spec) bool {
	former, found := p.former(i.Service, s)
	if !found || s.Oneshot {
		p.switched[i.Service] = time.Time{} // there is nothing to go back to
		return false
	}
	r := p.records[i.Service]
	r.Reverted = s.Revision
	p.change(i.Service, r)
	p.o.Report(topics.ServiceReverted, i.Service, fmt.Sprintf("version %s was not healthy within %v, and no hub is heard: this domain goes back to version %s", s.Bundle.Version, p.o.StartTimeout(i.Service), former.Bundle.Version))
	return true
}
