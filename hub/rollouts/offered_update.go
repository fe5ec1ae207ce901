package rollouts

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// Copy is an instance of a service that is listed, with its version.
type Copy struct {
	Domain, Version string
	// Catalog is the version in the domain's catalog; "": unknown.
	Catalog string
	// Updatable reports whether the domain may run that version.
	Updatable bool
}

// View returns how a service changes, as it is published, but for the release notes. copies
// are by domain.
func (r *Rollouts) View(service string, copies []Copy) topics.ServiceUpdate {
	u := topics.ServiceUpdate{Latest: r.newest(service)}
	for _, c := range copies {
		if c.Version != u.Installed && (u.Installed == "" || services.Newer(u.Installed, c.Version)) {
			u.Installed = c.Version
		}
	}
	if services.IsContentVersion(u.Latest) {
		u.Latest = r.otherContent(service, copies, u.Installed)
	}
	withdrawUnreachable(copies, &u)
	state := r.services[service]
	if state == nil {
		return u
	}
	out := &state.output
	u.InProgress, u.Problem = out.Active, out.Problem
	if u.InProgress {
		u.Updated, u.Total = out.Updated, out.Total
		percent := 100 * u.Updated / max(u.Total, 1)
		u.Percentage, u.Waits = &percent, out.Waits
	}
	return u
}

// otherContent returns the code that an instance is not started from yet. Which of two is
// the newer is unknown: what a machine has on its disk is what it is to run. Where
// each does, that is what is installed.
func (r *Rollouts) otherContent(service string, copies []Copy, installed string) string {
	for _, c := range copies {
		if c.Catalog != "" && c.Catalog != c.Version {
			return c.Catalog
		}
	}
	if installed == "" {
		return slices.Min(slices.Collect(maps.Keys(r.versions[service])))
	}
	return installed
}

// withdrawUnreachable withdraws the offer of a version that cannot be had, and has the view
// explain why: an instance is updated to what its own domain has on its disk, and none of
// the copies has a newer version there than it runs.
func withdrawUnreachable(copies []Copy, u *topics.ServiceUpdate) {
	if u.Installed == "" || u.Latest == u.Installed {
		return
	}
	var behind []string
	for _, c := range copies {
		if c.Catalog != "" && c.Catalog != c.Version {
			if c.Updatable {
				return // it can be had
			}
			continue
		}
		if c.Version != u.Latest {
			behind = append(behind, fmt.Sprintf("%s has only %s", c.Domain, c.Version))
		}
	}
	if len(behind) == 0 {
		return
	}
	u.Waits = fmt.Sprintf("%s cannot be reached: %s; put it into the services_dir there", u.Latest, strings.Join(behind, ", "))
	u.Latest = u.Installed
}

// Describe describes for people how a service changes; "" where nothing changes and nothing
// was refused.
func (r *Rollouts) Describe(service string, u topics.ServiceUpdate) string {
	if !u.InProgress {
		return u.Problem
	}
	out, what, waits := &r.services[service].output, "the changed definition is rolled out", u.Waits
	if out.Back {
		what, waits = "goes back to the definition before", u.Problem
	} else if out.Version != "" {
		what = "version " + out.Version + " is rolled out"
	}
	return fmt.Sprintf("%s: %d of %s; %s", what, u.Updated, instances(u.Total), waits)
}

// Reason returns why an instance is changed or not, as far as a rollout decides that; "":
// none does.
func (r *Rollouts) Reason(service, domain string) string {
	if state := r.services[service]; state != nil {
		return state.reasons[domain]
	}
	return ""
}
