package rollouts

import (
	"slices"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Update carries out an update that a person asked for: the versions in approved may be
// rolled out where updates are manual, and what was refused is tried again. It returns the
// domains that are assigned a restart for that; ok is false where nothing changed, since
// the service is as up to date as it can be.
func (r *Rollouts) Update(service string, approved []string, now time.Time) (restarted []string, ok bool) {
	record := r.home.Record(service)
	again := record.Refused != "" || len(record.Versions) > 0
	if !again && slices.Equal(approved, record.Approved) {
		return nil, false
	}
	record.Approved = approved
	if again {
		record.Refused, record.Why, record.Excused, record.Versions = "", "", nil, nil
		record.Attempt++
	}
	r.home.Persist(service, record)
	if again {
		restarted = r.restartTroubled(service, record.Attempt, now)
	}
	if state := r.services[service]; state != nil {
		state.upToDate = false
	}
	return restarted, true
}

// restartTroubled has the instances restarted that are in trouble under what was refused:
// nothing else would show whether it is better now. It returns their domains.
func (r *Rollouts) restartTroubled(service string, attempt int, now time.Time) (domains []string) {
	for domain, assigned := range r.assigned {
		a := assigned[service]
		if a == nil {
			continue
		}
		i := r.home.Instance(service, domain)
		if i.Reported == nil || !i.Online || i.Reported.State == topics.Finished ||
			i.Reported.State == topics.Running && i.Health == topics.Healthy {
			continue
		}
		a.restartFor(i.Catalog, attempt)
		a.change(i.Reported, now)
		a.excused, a.hopeless = false, false
		domains = append(domains, domain)
	}
	slices.Sort(domains)
	return domains
}
