package rollouts

import (
	"maps"

	"github.com/jmbarzee/dominion/services"
)

// Release is a version of a service.
type Release struct{ Service, Version string }

// SetCatalog takes the versions that a domain may run, by service. It returns the services
// of which it has another version than before, and the releases that no domain has any more.
func (r *Rollouts) SetCatalog(domain string, versions map[string]string) (changed []string, gone []Release) {
	before := r.catalogs[domain]
	if maps.Equal(before, versions) {
		return nil, nil
	}
	for service, version := range before {
		if versions[service] == version {
			continue
		}
		changed = append(changed, service)
		if r.versions[service][version]--; r.versions[service][version] == 0 {
			delete(r.versions[service], version)
			gone = append(gone, Release{service, version})
		}
	}
	for service, version := range versions {
		if before[service] == version {
			continue
		}
		changed = append(changed, service)
		if r.versions[service] == nil {
			r.versions[service] = make(map[string]int)
		}
		r.versions[service][version]++
	}
	if r.catalogs[domain] = versions; len(versions) == 0 {
		delete(r.catalogs, domain)
	}
	return changed, gone
}

// newest returns the newest version of a service in the catalogs; "": unknown.
func (r *Rollouts) newest(service string) (newest string) {
	for version := range r.versions[service] {
		if newest == "" || services.Newer(version, newest) {
			newest = version
		}
	}
	return newest
}
