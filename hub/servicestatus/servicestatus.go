// Package servicestatus holds the statuses of the services, and what they show besides what
// the planner decides and domains report: whether a service has a problem, its last error,
// the link to its web page, and release notes of its versions.
//
// It does no I/O and knows no other part of the hub: events, instances and endpoints in,
// fields of topics.Service out. Problems are not persisted over a restart of the hub; link and
// last error come back with the retained status, by Recall. Package hub alone imports it,
// and calls it from its loop.
package servicestatus

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Statuses holds the services. Make it with New.
type Statuses struct {
	// published are the statuses that were published last, by service.
	published map[string]topics.Service
	services  map[string]*service
	// troubled are those of services that have a trouble.
	troubled map[string]*trouble
}

// service is what is remembered of a service while it is defined.
type service struct {
	// link is the URL of its web page, where that was last.
	link string
	// lastError is its last crash or failure; nil: there was none.
	lastError *topics.ServiceError
	// releases are the release notes of the versions that have some.
	releases map[string]topics.CatalogRow
}

// New returns Statuses without services.
func New() *Statuses {
	return &Statuses{
		published: make(map[string]topics.Service), services: make(map[string]*service), troubled: make(map[string]*trouble),
	}
}

// Set sets the status of a service, which is published.
func (s *Statuses) Set(v topics.Service) { s.published[v.Service] = v }

// Get returns the status of a service as it was published last; false: none was.
func (s *Statuses) Get(name string) (topics.Service, bool) {
	v, is := s.published[name]
	return v, is
}

// Has reports whether a status of a service was published.
func (s *Statuses) Has(name string) bool {
	_, is := s.published[name]
	return is
}

// All returns the statuses that were published last, by service.
func (s *Statuses) All() iter.Seq2[string, topics.Service] { return maps.All(s.published) }

// Sorted returns the statuses that were published last, sorted by service.
func (s *Statuses) Sorted() []topics.Service {
	all := make([]topics.Service, 0, len(s.published))
	for _, v := range s.published {
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b topics.Service) int { return strings.Compare(a.Service, b.Service) })
	return all
}

// service returns what is remembered of a service, which may be changed.
func (s *Statuses) service(name string) *service {
	one := s.services[name]
	if one == nil {
		one = new(service)
		s.services[name] = one
	}
	return one
}

// Recall takes what an earlier run of the hub published of a service. What was received since
// counts more.
func (s *Statuses) Recall(name string, published topics.Service) {
	one := s.service(name)
	one.link = cmp.Or(one.link, published.Link)
	if one.lastError == nil {
		one.lastError = published.LastError
	}
}

// Remove removes a service that is gone from the configuration.
func (s *Statuses) Remove(name string) {
	delete(s.published, name)
	delete(s.services, name)
	delete(s.troubled, name)
}

// LastError returns the last crash or failure of a service; nil: there was none. It must
// not be changed.
func (s *Statuses) LastError(name string) *topics.ServiceError {
	if one := s.services[name]; one != nil {
		return one.lastError
	}
	return nil
}

// AddRelease takes the release notes in a row of a catalog. Of two domains that have
// different ones of a version the first counts.
func (s *Statuses) AddRelease(row topics.CatalogRow) {
	if row.ReleaseURL == "" && row.Summary == "" {
		return
	}
	one := s.service(row.Service)
	if _, is := one.releases[row.Version]; is {
		return
	}
	if one.releases == nil {
		one.releases = make(map[string]topics.CatalogRow)
	}
	one.releases[row.Version] = row
}

// RemoveRelease removes the release notes of a version that no catalog has any more.
func (s *Statuses) RemoveRelease(name, version string) {
	if one := s.services[name]; one != nil {
		delete(one.releases, version)
	}
}

// Release returns the release notes of a version; the zero value: there are none.
func (s *Statuses) Release(name, version string) topics.CatalogRow {
	if one := s.services[name]; one != nil {
		return one.releases[version]
	}
	return topics.CatalogRow{}
}

// setError sets the last crash or failure of a service. The same one may have been recalled:
// it is a later one only if it happened again.
func (s *Statuses) setError(name, domain, message string, again bool, now time.Time) {
	one, message := s.service(name), topics.ShortenMessage(message)
	if last := one.lastError; !again && last != nil && last.Domain == domain && last.Message == message {
		return
	}
	one.lastError = &topics.ServiceError{At: topics.At(now), Domain: domain, Message: message}
}
